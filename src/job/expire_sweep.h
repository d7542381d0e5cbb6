/*
 * expire_sweep.h - the removing part of expire
 *
 * In this order, each step durable before the next: backup.json of what goes; manifests, lists and
 * packs that nobody needs; WAL; notes of runs that ended long ago and marks of what is no longer there.
 */
#ifndef PGVIGIL_JOB_EXPIRE_SWEEP_H
#define PGVIGIL_JOB_EXPIRE_SWEEP_H

#include "job/expire_inventory.h"

/* Counts into `cluster`, and removes if run (which must live) is not NULL. Marks runs that were given
 * up. */
bool expire_sweep(struct expire_inventory *inventory, struct run *run,
                  struct expire_cluster *cluster, struct error *err);

#endif
