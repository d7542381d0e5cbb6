/*
 * catalog.h - the backups of a cluster in a repository
 */
#ifndef PGVIGIL_CATALOG_H
#define PGVIGIL_CATALOG_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/backup_info.h"
#include "pgvigil/repository.h"

struct catalog_damage {
    int64_t run;
    struct error error;
};

struct catalog {
    struct backup_info **backups; /* by timeline, then stop LSN */
    size_t count;
    struct catalog_damage *damaged; /* committed ones whose backup.json cannot be read */
    size_t damaged_count;
    size_t vanished; /* so many were listed, but had gone when they were read: deleted? */
};

/* Of the selected system identifier. */
bool catalog_read(struct repository *repository, struct catalog **catalog, struct error *err);
/* Of a repository and its siblings together, each backup once (repository_ask_each): one that is damaged
 * here and sound there is sound, with a warning. */
bool catalog_read_all(struct repository *repository, struct catalog **catalog, struct error *err);
void catalog_free(struct catalog *catalog);

#endif
