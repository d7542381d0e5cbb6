/* expire_sweep.c - the removing part of expire */
#include "job/expire_sweep.h"

#include <inttypes.h>
#include <stdlib.h>

#include "pgvigil/clock.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"

#define BATCH 1000                                          /* as many as S3 takes at once */
#define GIVEN_UP (INT64_C(7) * 24 * 60 * 60 * CLOCK_SECOND) /* nobody takes over a run after that */

struct run_list {
    int64_t *runs;
    size_t count, capacity;
};

struct sweep {
    struct expire_inventory *inventory;
    struct run *run; /* NULL: only count */
    struct expire_cluster *cluster;
    char **names; /* full ones, to be removed next */
    size_t count, capacity;
    struct run_list remaining; /* runs that have packs, manifests or lists which stay */
    struct run_list given_up;  /* of these, those that nobody speaks for and that are not marked */
    int64_t seen;              /* run of the part of a backup that was listed last */
};

static void add_run(struct run_list *list, int64_t run)
{
    if (list->count > 0 && list->runs[list->count - 1] == run)
        return;
    list->runs = mem_grow(list->runs, list->count, &list->capacity, sizeof(*list->runs));
    list->runs[list->count++] = run;
}

static bool has_run(const struct run_list *list, int64_t run)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->runs[i] == run)
            return true;
    return false;
}

static void count_one(struct expire_count *count, uint64_t bytes)
{
    count->objects++;
    count->bytes += bytes;
}

/* -- removing ----------------------------------------------------------------------------------- */

static void drop_names(struct sweep *sweep)
{
    for (size_t i = 0; i < sweep->count; i++)
        free(sweep->names[i]);
    sweep->count = 0;
}

/* Not while a list is read: some stores would not have that. */
static bool flush(struct sweep *sweep, struct error *err)
{
    struct store *store = sweep->inventory->repository->store;
    bool ok = true;

    for (size_t i = 0; ok && i < sweep->count; i += BATCH)
        ok = process_check(err) && run_check(sweep->run, err) &&
             store_remove_many(store, (const char *const *)sweep->names + i,
                               sweep->count - i < BATCH ? sweep->count - i : BATCH, err);
    drop_names(sweep);
    return ok;
}

static void remove_later(struct sweep *sweep, const char *name)
{
    if (!sweep->run)
        return;
    sweep->names = mem_grow(sweep->names, sweep->count, &sweep->capacity, sizeof(*sweep->names));
    sweep->names[sweep->count++] = repository_object_name(sweep->inventory->repository, name);
}

static bool is_locked(const struct sweep *sweep, const char *name, const struct store_info *info)
{
    const struct repository *repository = sweep->inventory->repository;
    char *full = repository_object_name(repository, name);
    int64_t end = store_lock_end(repository->config, full, info->modified);

    free(full);
    return end > sweep->inventory->now;
}

/* What nobody needs goes, unless it is too young to be judged or the store holds it. */
static void let_go(struct sweep *sweep, struct expire_sort *sort, const char *name,
                   const struct store_info *info)
{
    if (info->modified > sweep->inventory->guard) {
        count_one(&sort->young, info->size);
    } else if (is_locked(sweep, name, info)) {
        count_one(&sort->locked, info->size);
    } else {
        count_one(&sort->removed, info->size);
        remove_later(sweep, name);
    }
}

/* -- backups and packs -------------------------------------------------------------------------- */

/* Does the run still live, or does a living one build on what it stored? */
static bool is_underway(const struct expire_inventory *inventory, int64_t run)
{
    const struct runs_entry *entry = runs_find(&inventory->runs, run);

    return (entry && entry->lives) || runs_holder(&inventory->runs, run) != NULL;
}

/* An expire that removed a backup.json may have ended before that was durable. The rest of such a
 * backup must not go while it could come back. */
static bool remove_again(const char *name, const struct store_info *info, void *context,
                         struct error *err)
{
    struct sweep *sweep = context;
    char record[LAYOUT_NAME_SIZE];
    int64_t run;

    (void)info;
    (void)err;
    if (!layout_parse_backup_part(name, &run) || run == sweep->seen)
        return true;
    sweep->seen = run;
    /* A run's backup.json is listed first of all its parts. */
    if (!layout_parse_backup(name, &run) && expire_inventory_ripe(sweep->inventory, run) &&
        !is_underway(sweep->inventory, run))
        remove_later(sweep, layout_backup(run, record));
    return true;
}

static bool remove_backups(struct sweep *sweep, struct error *err)
{
    const struct retention *retention = &sweep->inventory->retention;
    char name[LAYOUT_NAME_SIZE];

    for (size_t i = 0; i < retention->count; i++)
        if (expire_inventory_goes(sweep->inventory, &retention->backups[i]))
            remove_later(sweep, layout_backup(retention->backups[i].info->run, name));
    return repository_list(sweep->inventory->repository, LAYOUT_BACKUP_PREFIX, NULL, remove_again,
                           sweep, err) &&
           flush(sweep, err);
}

/* Nobody goes on with it any more: a later backup is there, or it has been a long time. */
static bool is_given_up(const struct expire_inventory *inventory, int64_t run, int64_t stored)
{
    for (size_t i = 0; i < inventory->retention.count; i++)
        if (inventory->retention.backups[i].info->run > run)
            return true;
    return inventory->now - stored > GIVEN_UP;
}

/* A pack or part of a backup that no listed backup needs. Of a run that is no backup, somebody may
 * want to go on with it, and looks for its mark. */
static void judge_unneeded(struct sweep *sweep, struct expire_sort *sort, int64_t run,
                           const char *name, const struct store_info *info)
{
    const struct expire_inventory *inventory = sweep->inventory;

    if (is_underway(inventory, run)) {
        count_one(&sort->underway, info->size);
        add_run(&sweep->remaining, run);
    } else if (info->modified > inventory->guard) {
        count_one(&sort->young, info->size);
        add_run(&sweep->remaining, run);
    } else if (!expire_inventory_backup(inventory, run) && !expire_inventory_ripe(inventory, run)) {
        count_one(&sort->left, info->size);
        add_run(&sweep->remaining, run);
        if (!marks_expired(inventory->marks, run) && is_given_up(inventory, run, info->modified))
            add_run(&sweep->given_up, run);
    } else {
        if (is_locked(sweep, name, info))
            add_run(&sweep->remaining, run);
        let_go(sweep, sort, name, info);
    }
}

static bool judge_part(const char *name, const struct store_info *info, void *context,
                       struct error *err)
{
    struct sweep *sweep = context;
    const struct retention_backup *backup;
    int64_t run, committed;

    (void)err;
    if (!layout_parse_backup_part(name, &run))
        return true;
    backup = expire_inventory_backup(sweep->inventory, run);
    if (backup && !expire_inventory_goes(sweep->inventory, backup)) {
        count_one(&sweep->cluster->notes.needed, info->size);
        add_run(&sweep->remaining, run);
        return true;
    }
    if (layout_parse_backup(name, &committed)) {
        /* Gone by now; one that was committed since the backups were read stays. */
        if (backup)
            count_one(&sweep->cluster->notes.removed, info->size);
        return true;
    }
    judge_unneeded(sweep, &sweep->cluster->notes, run, name, info);
    return true;
}

static bool judge_pack(const char *name, const struct store_info *info, void *context,
                       struct error *err)
{
    struct sweep *sweep = context;
    struct layout_pack pack;

    (void)err;
    if (!layout_parse_pack(name, &pack))
        return true;
    if (expire_inventory_needs_pack(sweep->inventory, &pack)) {
        count_one(&sweep->cluster->packs.needed, info->size);
        add_run(&sweep->remaining, pack.run);
        return true;
    }
    judge_unneeded(sweep, &sweep->cluster->packs, pack.run, name, info);
    return true;
}

static bool mark_given_up(struct sweep *sweep, struct error *err)
{
    enum marks_outcome ignored;

    for (size_t i = 0; sweep->run && i < sweep->given_up.count; i++)
        if (!marks_write(sweep->inventory->repository, sweep->given_up.runs[i], MARKS_EXPIRE,
                         &ignored, err))
            return false;
    return true;
}

/* -- WAL ---------------------------------------------------------------------------------------- */

static bool judge_wal(const char *name, const struct store_info *info, void *context,
                      struct error *err)
{
    struct sweep *sweep = context;
    char file[WAL_NAME_SIZE];
    struct wal_name parsed;

    (void)err;
    if (!layout_parse_wal(name, file, &parsed))
        return true;
    if (expire_inventory_needs_wal(sweep->inventory, &parsed))
        count_one(&sweep->cluster->wal.needed, info->size);
    else
        let_go(sweep, &sweep->cluster->wal, name, info);
    return true;
}

/* Without any backup no WAL is of use yet; but the first one may be on its way. */
static bool sweep_wal(struct sweep *sweep, struct error *err)
{
    const struct retention *retention = &sweep->inventory->retention;
    size_t stay = 0;

    for (size_t i = 0; i < retention->count; i++)
        stay += !expire_inventory_goes(sweep->inventory, &retention->backups[i]);
    return stay == 0 || (repository_list(sweep->inventory->repository, LAYOUT_WAL_PREFIX, NULL,
                                         judge_wal, sweep, err) &&
                         flush(sweep, err));
}

/* -- notes -------------------------------------------------------------------------------------- */

/* As long as anything of a run is there its begin note stays, so that nobody takes the same id. */
static bool judge_note(const char *name, const struct store_info *info, void *context,
                       struct error *err)
{
    struct sweep *sweep = context;
    const struct runs_entry *entry;
    struct layout_note note;

    (void)err;
    if (!layout_parse_note(name, &note))
        return true;
    entry = runs_find(&sweep->inventory->runs, note.run);
    if (!entry || entry->lives || has_run(&sweep->remaining, note.run) ||
        entry->seen > sweep->inventory->guard)
        return true;
    let_go(sweep, &sweep->cluster->notes, name, info);
    return true;
}

/* Keep notes and marks of what is no longer there. */
static bool judge_mark(const char *name, const struct store_info *info, void *context,
                       struct error *err)
{
    struct sweep *sweep = context;
    struct layout_mark mark;

    (void)err;
    if (!layout_parse_mark(name, &mark) || has_run(&sweep->remaining, mark.run))
        return true;
    let_go(sweep, &sweep->cluster->notes, name, info);
    return true;
}

static bool sweep_notes(struct sweep *sweep, struct error *err)
{
    struct repository *repository = sweep->inventory->repository;
    char keep[LAYOUT_NAME_SIZE], expire[LAYOUT_NAME_SIZE];

    return repository_list(repository, LAYOUT_RUN_PREFIX, NULL, judge_note, sweep, err) &&
           repository_list(repository, layout_mark_prefix(LAYOUT_KEEP, keep), NULL, judge_mark,
                           sweep, err) &&
           repository_list(repository, layout_mark_prefix(LAYOUT_EXPIRE, expire), NULL, judge_mark,
                           sweep, err) &&
           flush(sweep, err);
}

bool expire_sweep(struct expire_inventory *inventory, struct run *run,
                  struct expire_cluster *cluster, struct error *err)
{
    struct repository *repository = inventory->repository;
    struct sweep sweep = {.inventory = inventory, .run = run, .cluster = cluster};
    bool ok = remove_backups(&sweep, err) &&
              repository_list(repository, LAYOUT_BACKUP_PREFIX, NULL, judge_part, &sweep, err) &&
              repository_list(repository, LAYOUT_PACK_PREFIX, NULL, judge_pack, &sweep, err) &&
              flush(&sweep, err) && mark_given_up(&sweep, err) && sweep_wal(&sweep, err) &&
              sweep_notes(&sweep, err);

    drop_names(&sweep);
    free(sweep.names);
    free(sweep.remaining.runs);
    free(sweep.given_up.runs);
    return ok;
}
