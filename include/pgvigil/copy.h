/*
 * copy.h - bringing repositories level
 *
 * Copies what one repository of a cluster has and another lacks, checked against the trailers on the
 * way: WAL first, then for each backup its list of packs, packs and manifest, and backup.json last, so
 * that at any instant what is listed is whole (promise 3). Before backup.json the target is listed
 * once more. What is there already is not read: a copy that was interrupted goes on where it was.
 *
 * Only what the target's retention would keep comes; keep notes come with their backups.
 *
 * What is damaged or missing in one source is taken from another; what none has is reported and left
 * out, with the backup that needs it, and does not hold up the rest. While a backup is copied a run of
 * kind "copy" with that backup as its base lives in both repositories (run.h).
 */
#ifndef PGVIGIL_COPY_H
#define PGVIGIL_COPY_H

#include <stdint.h>

#include "pgvigil/config.h"
#include "pgvigil/error.h"

struct copy_request {
    const char *from; /* NULL: all that can be reached, one after the other */
    const char *to;   /* NULL: all others, one after the other */
    int jobs;         /* objects under way at once; 0: backup.jobs */
};

/* Of one pair, once the target has what the source has and could be copied. */
struct copy_result {
    const char *from, *to;
    uint64_t objects, bytes; /* that were copied */
    uint64_t backups;        /* of these */
    uint64_t wal_left;     /* WAL files that could not be copied, as they are damaged everywhere, */
    uint64_t backups_left; /* and backups, as that or one of their own objects is */
};
typedef void (*copy_report_fn)(const struct copy_result *result, void *context);

/* ERROR_USAGE for names that are not in the configuration. One target that fails does not keep the
 * others from being levelled; the first error is returned then. */
bool copy_run(const struct config *config, const struct copy_request *request,
              copy_report_fn report, void *context, struct error *err);

#endif
