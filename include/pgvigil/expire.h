/*
 * expire.h - applying retention
 *
 * Two steps, by different runs: what retention.h lets go is marked; what was marked RUNS_PATIENCE ago
 * and is still let go, after all has been reckoned anew, is removed: backup.json first, then what no
 * listed backup and no living run needs. A crash at any moment leaves every listed backup whole.
 *
 * Each repository stands for itself. In one of which anything cannot be read, nothing is removed.
 * Where another expire, or a copy into it, is under way, nothing is removed either: each of them says
 * so first and looks for the others then.
 */
#ifndef PGVIGIL_EXPIRE_H
#define PGVIGIL_EXPIRE_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/config.h"
#include "pgvigil/error.h"
#include "pgvigil/retention.h"

enum expire_fate {
    EXPIRE_STAYS,
    EXPIRE_MARKED, /* it is now */
    EXPIRE_WAITS,  /* was marked before, and may go at `moment` */
    EXPIRE_LOCKED, /* may go, but the store holds it until `moment` */
    EXPIRE_GOES    /* removed */
};

struct expire_backup {
    int64_t run;
    uint32_t timeline;
    int64_t stop_time;
    uint64_t stored_bytes;
    unsigned reasons; /* of enum retention_reason */
    enum expire_fate fate;
    int64_t moment;
    /* With RETENTION_HELD: the run that needs it, where it runs, and until when it counts as living if
     * it is not heard of again. */
    int64_t holder;
    char holder_host[64];
    int64_t held_until;
};

/* Objects of one sort, by what becomes of them. With dry_run `removed` are those that would be. */
struct expire_count {
    uint64_t objects, bytes;
};
struct expire_sort {
    struct expire_count removed;
    struct expire_count needed;   /* by a backup that is listed */
    struct expire_count young;    /* stored a short while ago, or since a living run began */
    struct expire_count underway; /* of a living run, or claimed by one */
    struct expire_count left; /* of a run that was given up, which is yet to be marked, or waits */
    struct expire_count locked; /* by the store */
};

struct expire_cluster {
    uint64_t system_identifier;
    struct expire_backup *backups; /* by timeline, then stop LSN */
    size_t count;
    struct expire_sort packs, wal, notes; /* notes: manifests and all that is small */
    char *postponed;                      /* why nothing is removed this time, or NULL */
};

struct expire_result {
    const struct config_repository *repository; /* its retention.window is 0: nothing expires */
    struct expire_cluster *clusters;
    size_t count;
    bool versioned; /* the bucket keeps what is removed, as older versions */
    struct error error;
};

enum expire_mode { EXPIRE_APPLY, EXPIRE_DRY_RUN };

struct expire_request {
    enum expire_mode mode;
    const char *repository; /* NULL: all */
    int64_t patience; /* microseconds to wait for a repository to open; 0: as it is configured */
};

/* Called for each repository, also for those that failed; the result is freed afterwards. */
typedef void (*expire_report_fn)(const struct expire_result *result, void *context);

/* ERROR_USAGE for an unknown repository, ERROR_BUSY if another expire runs on this host. What stood in
 * the way of a repository is in its result, and the first of these errors is returned when all are
 * done. */
bool expire_run(const struct config *config, const struct expire_request *request,
                expire_report_fn report, void *context, struct error *err);

#endif
