/*
 * restore_delta.h - making an existing data directory ready to be restored onto
 *
 * The directory was proven to be this cluster's (restore_place.h) and is marked and locked
 * (restore_tree.h). Every step can be repeated after a crash: without global/pg_control no server
 * starts in between, and the mark remembers whose directory it is.
 */
#ifndef PGVIGIL_RESTORE_DELTA_H
#define PGVIGIL_RESTORE_DELTA_H

#include "job/restore_place.h"
#include "job/restore_plan.h"
#include "job/restore_tree.h"
#include "pgvigil/config.h"
#include "pgvigil/repository.h"

/* Archives what the directory still has to archive (<name>.ready in pg_wal/archive_status, and in that of what
 * earlier restores put aside), if it is one of a cluster that the repository knows and no server runs in
 * it. What cannot be archived is only warned about: it is kept. */
void restore_delta_ship(const struct config *config, struct repository *repository,
                        const char *directory);

/*
 * Takes pg_control away; moves what is in pg_wal into pg_wal/before-<now>, where it stays; removes what
 * is not of the plan, from the data directory and from the directories the plan has in tablespaces. A
 * file with several hard links is removed too, as writing to it would write to another cluster.
 * *wal_aside is that directory, or NULL if pg_wal held nothing; the caller frees it. A pg_wal that is a
 * symbolic link stays one, and is left out of the plan.
 */
bool restore_delta_begin(const struct restore_place *place, struct restore_tree *tree,
                         struct restore_plan *plan, char **wal_aside, struct error *err);

/* The path of `segment`, the first that the archive does not have, if WAL of it was put aside, by this restore or an
 * earlier one: the server was writing to it. The newest, if there are several; else NULL. The caller frees it. */
char *restore_delta_unarchived(const char *directory, const char *segment,
                               uint64_t system_identifier);

#endif
