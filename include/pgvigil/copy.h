/*
 * copy.h - bringing repositories level
 *
 * Copies what one repository of a cluster has and another lacks, checked against the trailers on the
 * way: WAL first, then for each backup its packs, manifest and refs, and backup.json last, so that at
 * any instant what is listed is whole (promise 3). What is there already is not read: a copy that was
 * interrupted goes on where it was.
 */
#ifndef PGVIGIL_COPY_H
#define PGVIGIL_COPY_H

#include <stdint.h>

#include "pgvigil/config.h"
#include "pgvigil/error.h"

struct copy_request {
    const char *from; /* NULL: the first that can be reached and is not the target */
    const char *to;   /* NULL: all others, one after the other */
    int jobs;         /* objects under way at once; 0: backup.jobs */
};

/* Of one target, once it is level. */
struct copy_result {
    const char *from, *to;
    uint64_t objects, bytes; /* that were copied */
    uint64_t backups;        /* of these */
};
typedef void (*copy_report_fn)(const struct copy_result *result, void *context);

/* ERROR_USAGE for names that are not in the configuration. One target that fails does not keep the
 * others from being levelled; the first error is returned then. */
bool copy_run(const struct config *config, const struct copy_request *request,
              copy_report_fn report, void *context, struct error *err);

#endif
