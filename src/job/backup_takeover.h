/*
 * backup_takeover.h - the packs of a backup that was interrupted, taken over by the next one
 *
 * What this host remembers of them (unfinished.h) is looked up beside the base: a block that is stored
 * there already, by its digest, is not stored again. It is a matter of places only. Every file is read
 * that the base does not excuse from it: what the interrupted backup saw of files and their times counts
 * for nothing.
 *
 * Packs are immutable, so it does not matter whether the other run is dead or only looks like it: both may
 * commit, if their leases allow it. It matters that the packs stay: the runs that stored them are claimed,
 * and only then asked whether they are marked, and whether each repository that is written to has the pack.
 * What one of them lacks is stored anew. Object lock counts as for the base: a pack whose lock may end
 * before the new backup's is left alone.
 *
 * Packs that were encrypted for others than now are left alone, too.
 *
 * A backup without base (--full) takes over only from one without base. No backup uses these packs, so all
 * that it needs has still been stored since the last one.
 */
#ifndef PGVIGIL_JOB_BACKUP_TAKEOVER_H
#define PGVIGIL_JOB_BACKUP_TAKEOVER_H

#include "job/backup_base.h"
#include "pgvigil/refs.h"
#include "pgvigil/repository_set.h"
#include "pgvigil/run.h"
#include "pgvigil/unfinished.h"

struct backup_takeover {
    struct refs packs;             /* that new maps may refer to, ascending */
    struct unfinished *unfinished; /* NULL: it could not be made */
};

/* After the base, which gets a secret if it is none. What stands in the way is no reason to take no
 * backup. False when cancelled, or without a secret. */
bool backup_takeover_open(struct backup_takeover *takeover, struct repository_set *set,
                          struct run *run, struct backup_base *base, struct error *err);
void backup_takeover_close(struct backup_takeover *takeover);

#endif
