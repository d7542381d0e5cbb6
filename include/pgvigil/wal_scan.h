/*
 * wal_scan.h - looking something up in the archived WAL
 *
 * The WAL that recovery to one timeline would read: of each ancestor up to its switch point, and
 * the newer timeline's segment where both have it, as in src/backend/access/transam/xlogrecovery.c
 * (XLogFileReadAnyTLI). Segments are decoded independently of each other, several at a time, so
 * memory does not grow with the archive; a record that crosses into the next segment is completed
 * from that one's head. A record that is not whole in the archive does not exist. The archive is what
 * the repository and its siblings have between them (wal_union.h).
 */
#ifndef PGVIGIL_WAL_SCAN_H
#define PGVIGIL_WAL_SCAN_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/history.h"
#include "pgvigil/repository.h"
#include "pgvigil/wal_archive.h"
#include "pgvigil/wal_reader.h"

/*
 * Commit times do not strictly rise along the WAL: each is taken before its record is inserted, and
 * clocks get set. A search by time goes on until it meets a segment all of whose transactions ended
 * longer than this before the time looked for, and then takes the answer for "no".
 */
#define WAL_SCAN_CLOCK_TOLERANCE (INT64_C(60) * 60 * 1000000)

struct wal_scan;

/* Lists the archive once; it may grow afterwards. Threads: one at a time. */
bool wal_scan_open(struct repository *repository, uint32_t timeline, int jobs,
                   struct wal_scan **scan, struct error *err);
void wal_scan_close(struct wal_scan *scan);

const struct history *wal_scan_history(const struct wal_scan *scan);
/* Has the timeline a history file? (Without one, recovery can follow it only as its own.) */
bool wal_scan_history_known(const struct wal_scan *scan);
/* 0 when there is no segment in the archive at all. */
uint32_t wal_scan_segment_size(const struct wal_scan *scan);

/* Goes on as if these segments (ascending) were not there. */
void wal_scan_leave_out(struct wal_scan *scan, const struct wal_segment *segments, size_t count);

/* As wal_agreement_check. */
bool wal_scan_check_agreement(const struct wal_scan *scan, uint64_t from_lsn, uint64_t to_lsn,
                              struct error *err);

struct wal_scan_reach {
    uint64_t missing;        /* number of the first segment that is not there */
    uint32_t timeline;       /* that should have it */
    bool gap;                /* later ones are there */
    uint32_t stale_timeline; /* where it is its timeline's first one: an ancestor that has a segment
                                of this number, which recovery would take instead, with all that
                                was written in it after the ancestor had been left; 0: none */
};

/* How far the WAL goes without interruption from the segment that holds `lsn`. */
void wal_scan_reach(const struct wal_scan *scan, uint64_t lsn, struct wal_scan_reach *reach);

enum wal_scan_kind {
    WAL_SCAN_ANY,         /* any record */
    WAL_SCAN_TRANSACTION, /* the commit or abort record of `xid` */
    WAL_SCAN_POINT,       /* the restore point called `name` */
    WAL_SCAN_TIME         /* a commit or abort record with `time` or later */
};

struct wal_scan_query {
    enum wal_scan_kind kind;
    uint32_t xid;
    const char *name;
    int64_t time;
    uint64_t from, before; /* the record starts at or behind `from`, and before `before` */
};

struct wal_scan_result {
    bool found;
    struct wal_record record;
    bool any_time;       /* a commit or abort record was met */
    int64_t newest_time; /* the latest time of those that were met */
};

/* The last or first record that fits. Missing segments are passed over: see wal_scan_reach. */
bool wal_scan_last(struct wal_scan *scan, const struct wal_scan_query *query,
                   struct wal_scan_result *result, struct error *err);
bool wal_scan_first(struct wal_scan *scan, const struct wal_scan_query *query,
                    struct wal_scan_result *result, struct error *err);

#endif
