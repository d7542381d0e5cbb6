/*
 * backup.h - a base backup
 */
#ifndef PGVIGIL_BACKUP_H
#define PGVIGIL_BACKUP_H

#include "pgvigil/backup_info.h"
#include "pgvigil/config.h"
#include "pgvigil/error.h"

struct backup_request {
    int jobs; /* 0: as configured */
};

/*
 * Takes a backup and commits it. On success *info describes it (the caller frees it); page errors
 * are in it and no failure here: the caller reports them. On failure nothing is listed.
 */
bool backup_run(const struct config *config, const struct backup_request *request,
                struct backup_info **info, struct error *err);

#endif
