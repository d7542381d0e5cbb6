/*
 * backup_base.h - the earlier backup that a backup builds on
 *
 * What has not changed since is not stored again: the new maps refer to the base's packs. Any committed
 * backup of the same cluster will do, as digests decide what has changed; the newest one has most in
 * common. It must be committed in every repository that is written to, or the new one would lack there
 * what it refers to.
 *
 * The base is claimed in the begin note, and only then asked whether it may be used (is it still there,
 * is it marked for deletion?): expire looks at things in the other order. What stands in the way of
 * using it is never a reason to take no backup: everything is stored then.
 */
#ifndef PGVIGIL_JOB_BACKUP_BASE_H
#define PGVIGIL_JOB_BACKUP_BASE_H

#include <stdatomic.h>

#include "pgvigil/backup_info.h"
#include "pgvigil/control.h"
#include "pgvigil/known_files.h"
#include "pgvigil/manifest.h"
#include "pgvigil/map_cache.h"
#include "pgvigil/refs.h"
#include "pgvigil/repository_set.h"

struct backup_base {
    struct backup_info *info; /* NULL: there is none */
    struct refs refs;
    struct refs damaged;       /* packs that this host's verify found so: not built on */
    int64_t oldest_lent;       /* packs of runs before that (seconds since 1970) are not built on */
    struct known_files *known; /* what the local cache has of it, or NULL */
    struct manifest *manifest; /* where the cache has nothing */
    unsigned char secret[DIGEST_SECRET_SIZE]; /* of the new backup's digests, too */
    atomic_uint doubts;                       /* files whose maps could not be read */
};

/* Chooses; base->info is what was chosen. False only when cancelled. */
bool backup_base_choose(struct backup_base *base, struct repository_set *set, const char *state_dir,
                        const struct control *control, struct error *err);

/* Once it is claimed: proves that it may be used, and reads it. It is let go of with a warning if that
 * fails. False only when cancelled. */
bool backup_base_open(struct backup_base *base, struct repository_set *set, const char *state_dir,
                      struct error *err);
void backup_base_close(struct backup_base *base);

/* Each file of the base that has bytes; `file` is valid during the call only. */
bool backup_base_each(const struct backup_base *base, known_files_fn fn, void *context,
                      struct error *err);

/* May a new map refer to this pack? Not if the base has none such, nor if it uses little of it any more,
 * nor if it is damaged, nor if a store may let it go before the new backup: its lock would end first. */
bool backup_base_lends(const struct backup_base *base, const struct layout_pack *pack);

/* The map of this file could not be read, so that it is stored anew: says so a few times. */
void backup_base_doubt(struct backup_base *base, const char *path, const struct error *why);

#endif
