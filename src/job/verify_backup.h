/*
 * verify_backup.h - what backups need, held against what is there
 */
#ifndef PGVIGIL_VERIFY_BACKUP_H
#define PGVIGIL_VERIFY_BACKUP_H

#include "job/verify_walk.h"

/* Of every backup: its record, manifest, list of packs, each pack in it with its size. Needs the
 * inventory and the survey. */
bool verify_backup_check_parts(struct verify_walk *walk, struct error *err);

/* Of which backups the maps are read: with VERIFY_ALL of each, else of the newest that is sound, if its manifest
 * or any data pack of it is chosen, and of those with a data pack that was not sound when it was read before. The
 * blocks of chosen packs of theirs are noted when these are read. After the parts. */
bool verify_backup_choose_maps(struct verify_walk *walk, struct error *err);

/* Of the backups whose manifest is chosen, or whose maps are: the manifest's rows, and the maps. */
bool verify_backup_check_maps(struct verify_walk *walk, struct error *err);

/* Which backups each finding costs. */
bool verify_backup_count_costs(struct verify_walk *walk, struct error *err);

#endif
