/*
 * verify_backup.h - what backups need, held against what is there
 */
#ifndef PGVIGIL_VERIFY_BACKUP_H
#define PGVIGIL_VERIFY_BACKUP_H

#include "job/verify_walk.h"

/* Of every backup: its record, manifest, list of packs, each pack in it with its size. Needs the
 * inventory and the survey. */
bool verify_backup_check_parts(struct verify_walk *walk, struct error *err);

/* Of the backups whose manifest is chosen: the manifest's rows; and of the newest of these, or with
 * VERIFY_ALL of each, the maps. */
bool verify_backup_check_maps(struct verify_walk *walk, struct error *err);

/* Which backups each finding costs. */
bool verify_backup_count_costs(struct verify_walk *walk, struct error *err);

#endif
