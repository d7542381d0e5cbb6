/*
 * expire_inventory.h - what expire decides upon
 *
 * Read in an order that matters: begin notes and leases first, then keep notes and marks, then the
 * backups, then lists of packs and WAL. So a backup that commits meanwhile is seen as a living run or
 * as a backup, never as neither.
 */
#ifndef PGVIGIL_JOB_EXPIRE_INVENTORY_H
#define PGVIGIL_JOB_EXPIRE_INVENTORY_H

#include "pgvigil/catalog.h"
#include "pgvigil/expire.h"
#include "pgvigil/layout.h"
#include "pgvigil/marks.h"
#include "pgvigil/repository.h"
#include "pgvigil/retention.h"
#include "pgvigil/runs.h"
#include "pgvigil/wal_archive.h"

struct expire_inventory {
    struct repository *repository;
    int64_t now;   /* by the store's clock */
    int64_t guard; /* what was stored since then is left alone */
    struct runs runs;
    struct marks *marks;
    struct catalog *catalog;
    struct wal_ranges wal;
    struct history *histories; /* as many as retention.timelines */
    struct retention retention;
    struct layout_pack *needed; /* packs of all backups that stay listed, ascending */
    size_t needed_count;
    int64_t *locked; /* until when the store holds it, of each backup that might go; else 0 */
};

/* Reads and judges. ERROR_INTEGRITY if anything cannot be read that might speak for keeping things. */
bool expire_inventory_read(struct repository *repository, int64_t now,
                           struct expire_inventory *inventory, struct error *err);

/* What a repository with such settings (with a window) would keep if it had what this one has, by this
 * host's clock: for copy. There are no runs and no needed packs in it, and what is damaged is not
 * counted. */
bool expire_inventory_foresee(struct repository *repository,
                              const struct config_retention *settings,
                              struct expire_inventory *inventory, struct error *err);
void expire_inventory_free(struct expire_inventory *inventory);

/* NULL if no such backup is listed. */
const struct retention_backup *expire_inventory_backup(const struct expire_inventory *inventory,
                                                       int64_t run);
/* Was it marked so long ago that nobody can build on it any more? */
bool expire_inventory_ripe(const struct expire_inventory *inventory, int64_t run);
/* History files stay: they are small, and without them no recovery finds its way. */
bool expire_inventory_needs_wal(const struct expire_inventory *inventory,
                                const struct wal_name *name);
/* May this backup be removed now? */
bool expire_inventory_goes(const struct expire_inventory *inventory,
                           const struct retention_backup *backup);
bool expire_inventory_needs_pack(const struct expire_inventory *inventory,
                                 const struct layout_pack *pack);

#endif
