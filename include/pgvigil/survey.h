/*
 * survey.h - what a repository holds of a cluster, and what can be restored from that
 *
 * From listings and small objects; no pack is read, and of WAL only what tells when its last
 * transaction ended.
 */
#ifndef PGVIGIL_SURVEY_H
#define PGVIGIL_SURVEY_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/catalog.h"
#include "pgvigil/history.h"
#include "pgvigil/repository.h"
#include "pgvigil/wal_archive.h"

struct survey_backup {
    const struct backup_info *info;
    bool wal_complete; /* from its start to its stop: else it cannot be restored */
    uint64_t missing;  /* if not: the number of the first segment that is not there */
    bool kept;         /* by a keep note: it never expires */
    bool expiring;     /* marked for removal */
};

/* Segments that are missing between others that are there. */
struct survey_gap {
    uint64_t first, last; /* segment numbers, inclusive */
};

struct survey_timeline {
    uint32_t timeline;
    struct history history;         /* only itself if there is no history file */
    const struct wal_range *ranges; /* borrowed from the survey's */
    size_t range_count;
    struct survey_gap *gaps; /* ascending; also where it leaves its parent, or a child leaves it */
    size_t gap_count;
    uint64_t segments;
    uint64_t stored_bytes;
    uint64_t before_backups; /* segments of those that lie before the start of every backup */
};

/* Backups from which recovery reaches the same end. */
struct survey_window {
    const struct backup_info *oldest, *newest; /* by stop LSN */
    uint32_t timeline;                         /* the newest one that recovery can follow */
    uint64_t end_lsn;                          /* behind the last segment without a gap */
    uint32_t end_timeline;                     /* whose segment that is */
    bool any_transaction;                      /* did one commit or abort behind newest's stop? */
    int64_t last_transaction;                  /* when the last one did, microseconds since 1970 */
    bool sealed; /* that WAL is encrypted for keys that are not here: nobody can tell */
};

struct survey {
    uint64_t system_identifier;
    struct catalog *catalog;
    struct wal_ranges wal;
    struct survey_backup *backups;     /* as many, and in the order, as in the catalog */
    struct survey_timeline *timelines; /* ascending */
    size_t timeline_count;
    struct survey_window *windows;
    size_t window_count;
    struct error *damage; /* what could not be read, each with the object's name */
    size_t damage_count;
    size_t damage_capacity;
};

/* Of the system identifier that is selected. Damage is collected, not an error. */
bool survey_read(struct repository *repository, struct survey **survey, struct error *err);
void survey_free(struct survey *survey);

/* The newest timeline that recovery from this backup can follow. */
uint32_t survey_target_timeline(const struct survey *survey, const struct backup_info *info);

#endif
