/*
 * wal_archive.h - the WAL of a cluster in a repository
 */
#ifndef PGVIGIL_WAL_ARCHIVE_H
#define PGVIGIL_WAL_ARCHIVE_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/history.h"
#include "pgvigil/layout.h"
#include "pgvigil/repository_set.h"
#include "pgvigil/wal.h"

/* Consecutive segments of one timeline. */
struct wal_range {
    uint32_t timeline;
    uint64_t first, last; /* segment numbers, inclusive */
    uint64_t stored_bytes;
    int64_t newest; /* when the last of them was stored, by the store's clock */
};

struct wal_ranges {
    uint32_t segment_size;    /* 0 when there is no segment at all */
    struct wal_range *ranges; /* by timeline, then number; a gap starts a new range */
    size_t count;
};

struct wal_segment {
    uint32_t timeline;
    uint64_t number;
};

enum wal_outcome { WAL_STORED, WAL_ALREADY_THERE };

/* A WAL file to be stored, read from an open descriptor. */
struct wal_source {
    struct wal_name name;
    const char *file; /* its name */
    const char *path; /* for messages */
    int fd;
    uint64_t length;
    int64_t deadline; /* by clock_monotonic: ERROR_TIMEOUT when it passes meanwhile; 0: none */
};

/*
 * Stores one WAL file (segment, .partial, .backup, .history) into all open members of a set, read and
 * compressed once, under the rules of promise 2: the name free: stored; taken with the same raw
 * digest: made durable again; taken with another content: ERROR_INTEGRITY naming both digests. A
 * .partial with another content has another name and never conflicts. Before anything is stored the
 * file is checked: a segment's length and first page against its name and the cluster, a history for
 * being one, a .backup for its form.
 *
 * A member that cannot take it is left out, with its error: the caller judges whether the others are
 * enough. object gets the name under which it lies. WAL_ALREADY_THERE: in all of them.
 */
bool wal_archive_store(struct repository_set *set, const struct wal_source *source, int level,
                       enum wal_outcome *outcome, char object[LAYOUT_NAME_SIZE], struct error *err);

/* Gives the raw bytes of a WAL file; proven only once true is returned. A segment's first page
 * is checked against its name and the cluster. ERROR_NOT_FOUND if there is no such object. Of a
 * .partial there can be several: then it is ERROR_USAGE, listing them. */
bool wal_archive_fetch(struct repository *repository, const struct wal_name *name, const char *file,
                       store_sink sink, void *context, uint64_t *length, struct error *err);

bool wal_archive_exists(struct repository *repository, const char *segment, bool *exists,
                        struct error *err);

/* Ranges of whole segments; timeline 0: of all timelines. */
bool wal_archive_ranges(struct repository *repository, uint32_t timeline, struct wal_ranges *ranges,
                        struct error *err);
void wal_archive_free_ranges(struct wal_ranges *ranges);
bool wal_archive_in_ranges(const struct wal_ranges *ranges, uint32_t timeline, uint64_t number);
/* Takes segments, which ascend by timeline and number, out of the ranges. */
void wal_archive_leave_out(struct wal_ranges *ranges, const struct wal_segment *segments,
                           size_t count);

/* Is there a whole segment of this timeline behind `segment` (NULL: any at all)? */
bool wal_archive_has_later(struct repository *repository, uint32_t timeline, const char *segment,
                           bool *has, struct error *err);

/* Timelines that have any WAL file here, ascending; the caller frees the array. */
bool wal_archive_timelines(struct repository *repository, uint32_t **timelines, size_t *count,
                           struct error *err);

/* The history of a timeline (timeline 1, and a timeline without a history file, has only itself;
 * *known tells whether a file was found). */
bool wal_archive_history(struct repository *repository, uint32_t timeline, struct history *history,
                         bool *known, struct error *err);

/* The segments [first, last] of a timeline that are missing: the first one of them into *missing,
 * *complete true when none is. */
bool wal_archive_complete(struct repository *repository, uint32_t timeline, uint64_t first,
                          uint64_t last, uint32_t segment_size, bool *complete, uint64_t *missing,
                          struct error *err);

#endif
