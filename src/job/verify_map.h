/*
 * verify_map.h - the maps of a backup, held against its packs
 */
#ifndef PGVIGIL_VERIFY_MAP_H
#define PGVIGIL_VERIFY_MAP_H

#include "job/verify_walk.h"
#include "pgvigil/manifest.h"
#include "pgvigil/refs.h"

/* Reads each root and leaf: they are those of their files, each run of blocks lies within a data pack of
 * the list, and runs of zeros have the digests of zeros. A pack whose blocks were read (verify_blocks.h) and
 * are others than the map says becomes a finding. ERROR_INTEGRITY names file and pack; a pack that
 * is gone is ERROR_NOT_FOUND. Reads all map packs of the list, 1/1000 of the database. */
bool verify_map_check(struct verify_walk *walk, struct manifest *manifest, const struct refs *refs,
                      struct error *err);

#endif
