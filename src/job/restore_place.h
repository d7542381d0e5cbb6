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
/* The same while that is done onto an existing directory, which no restore may take for remains. */
#define RESTORE_PLACE_DELTA_MARKER "pgvigil.delta"
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
    enum restore_mode mode;
    uint64_t system_identifier;
    const char *pgdata; /* the data directory that the configuration names, borrowed; or NULL */
    bool configured;    /* it is that one */
};

/*
 * Refuses (ERROR_USAGE) what is not absent, empty, or left by a restore that failed (RESTORE_DELTA also
 * takes a data directory that is proven to be this cluster's, and its tablespaces); what belongs to
 * another user; what a server runs in; parents that do not exist; mappings of unknown tablespaces;
 * locations that lie in each other. Writes nothing.
 */
bool restore_place_choose(const struct config *config, const struct restore_request *request,
                          const struct backup_info *backup, struct restore_place *place,
                          struct error *err);
/* Looks again, under the locks of restore_tree. */
bool restore_place_check(const struct restore_place *place, struct error *err);
/* By its pg_control, or, where a delta restore took that away, by the mark it made before. */
bool restore_place_is_of_cluster(const char *path, uint64_t system_identifier);
/* Is this what a failed restore left? It can be taken away: nobody could have started it. */
bool restore_place_is_remains(const char *target);
void restore_place_free(struct restore_place *place);

#endif
