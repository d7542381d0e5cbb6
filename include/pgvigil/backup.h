/*
 * backup.h - a base backup
 */
#ifndef PGVIGIL_BACKUP_H
#define PGVIGIL_BACKUP_H

#include "pgvigil/backup_info.h"
#include "pgvigil/config.h"
#include "pgvigil/error.h"

struct backup_request {
    int jobs;  /* 0: as configured */
    bool full; /* store everything anew, and read everything */
};

struct backup_result {
    struct backup_info *info;      /* the caller frees it */
    int64_t base;                  /* the backup that it builds on, or 0 */
    uint64_t changed_bytes;        /* of blocks that were stored */
    size_t repositories, left_out; /* those with copy = sync; of them, those that do not have it */
};

/*
 * Takes a backup and commits it. It is whole, and builds on the newest earlier one: blocks that are the
 * same there are not stored again. On success *result describes it; page errors are in its info, and
 * repositories that were left out have been warned of: no failure here, the caller judges. On failure nothing is listed.
 */
bool backup_run(const struct config *config, const struct backup_request *request,
                struct backup_result *result, struct error *err);

#endif
