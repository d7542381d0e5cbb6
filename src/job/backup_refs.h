/*
 * backup_refs.h - which packs a backup needs, and how much of each
 *
 * Counted from the maps themselves, all of them, as a restore will read them: so the list is exact
 * whatever came of the files meanwhile, and a map that cannot be read, or is that of another file, or
 * leads out of the packs known, is found before the commit and not when it is needed.
 */
#ifndef PGVIGIL_JOB_BACKUP_REFS_H
#define PGVIGIL_JOB_BACKUP_REFS_H

#include "job/backup_files.h"

/* `own` are the packs that the run has stored; they are all in `refs`, of the base's and those taken over
 * the ones that are used. The caller frees refs. */
bool backup_refs_count(const struct backup_files *files, struct map_cache *cache,
                       const struct refs *own, const struct refs *taken_over, struct refs *refs,
                       struct error *err);

#endif
