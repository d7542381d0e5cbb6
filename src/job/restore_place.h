/*
 * restore_place.h - where a restore goes, and whether that is free
 */
#ifndef PGVIGIL_RESTORE_PLACE_H
#define PGVIGIL_RESTORE_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgvigil/backup_info.h"
#include "pgvigil/config.h"
#include "pgvigil/restore.h"

/* Lies in the target and in each tablespace while a restore is under way. */
#define RESTORE_PLACE_MARKER "pgvigil.restoring"
#define RESTORE_PLACE_MARKER_MAXIMUM ((size_t)64 * 1024)

struct restore_place_tablespace {
    uint32_t oid;
    char *from; /* its location in the backup */
    char *to;   /* canonical */
};

struct restore_place {
    char *path; /* canonical: absolute, no symbolic links in it */
    struct restore_place_tablespace *tablespaces;
    size_t count;
    bool configured; /* it is the data directory that the configuration names */
};

/*
 * Refuses (ERROR_USAGE) what is not absent, empty, or left by a restore that failed; what a server
 * runs in; parents that do not exist; mappings of unknown tablespaces; locations that lie in each
 * other. Writes nothing.
 */
bool restore_place_choose(const struct config *config, const struct restore_request *request,
                          const struct backup_info *backup, struct restore_place *place,
                          struct error *err);
/* Looks again, under the locks of restore_tree. */
bool restore_place_check(const struct restore_place *place, struct error *err);
void restore_place_free(struct restore_place *place);

#endif
