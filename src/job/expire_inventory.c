/* expire_inventory.c - what expire decides upon */
#include "job/expire_inventory.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/clock.h"
#include "pgvigil/known_damage.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"
#include "pgvigil/refs.h"

/* Nothing that came while a run that still lives was under way is judged: what it needs of that, only
 * the run itself can know. */
static int64_t find_guard(const struct expire_inventory *inventory)
{
    int64_t guard = inventory->now - RUNS_PATIENCE;

    for (size_t i = 0; i < inventory->runs.count; i++) {
        const struct runs_entry *entry = &inventory->runs.entries[i];

        if (entry->lives && entry->began < guard)
            guard = entry->began;
    }
    return guard;
}

/* Nobody else removes backups meanwhile. But a store whose parts do not always agree lists one that it then
 * says it does not have. */
static bool refuse_vanished(const struct expire_inventory *inventory, struct error *err)
{
    if (inventory->catalog->vanished == 0)
        return true;
    error_set(err, ERROR_STORE,
              "repository \"%s\" lists backups that were not there when they were to be read: %zu",
              inventory->repository->name, inventory->catalog->vanished);
    return error_hint(err, "nothing is removed, as what they need is not known; try again once the "
                           "store is in order");
}

/* Any of these may be the last sound backup, and nobody knows which packs and WAL it needs. */
static bool refuse_damage(const struct expire_inventory *inventory, struct error *err)
{
    if (inventory->catalog->damaged_count == 0)
        return refuse_vanished(inventory, err);
    *err = inventory->catalog->damaged[0].error;
    return error_hint(err,
                      "nothing is removed from repository \"%s\" until this is mended: what the "
                      "backup needs is not known",
                      inventory->repository->name);
}

/* -- timelines ---------------------------------------------------------------------------------- */

static bool has_wal(const struct wal_ranges *wal, uint32_t timeline, const struct backup_info *info)
{
    uint64_t next = info->start_lsn / info->wal_segment_size;

    if (wal->segment_size != info->wal_segment_size)
        return false;
    for (size_t i = 0; i < wal->count; i++)
        if (wal->ranges[i].timeline == timeline && wal->ranges[i].first <= next &&
            next <= wal->ranges[i].last)
            next = wal->ranges[i].last + 1;
    return next * info->wal_segment_size >= info->stop_lsn;
}

static void add_timeline(struct retention *retention, uint32_t timeline)
{
    size_t at = 0;

    while (at < retention->timeline_count && retention->timelines[at].timeline < timeline)
        at++;
    if (at < retention->timeline_count && retention->timelines[at].timeline == timeline)
        return;
    memmove(&retention->timelines[at + 1], &retention->timelines[at],
            (retention->timeline_count - at) * sizeof(*retention->timelines));
    retention->timelines[at] = (struct retention_timeline){.timeline = timeline};
    retention->timeline_count++;
}

static struct retention_timeline *find_timeline(struct retention *retention, uint32_t timeline)
{
    for (size_t i = 0; i < retention->timeline_count; i++)
        if (retention->timelines[i].timeline == timeline)
            return &retention->timelines[i];
    return NULL;
}

static bool read_timelines(struct expire_inventory *inventory, struct error *err)
{
    struct retention *retention = &inventory->retention;
    const struct catalog *catalog = inventory->catalog;
    uint32_t *timelines;
    size_t count;
    bool known, ok = true;

    if (!wal_archive_timelines(inventory->repository, &timelines, &count, err))
        return false;
    retention->timelines = mem_calloc(count + catalog->count + 1, sizeof(*retention->timelines));
    for (size_t i = 0; i < count; i++)
        add_timeline(retention, timelines[i]);
    for (size_t i = 0; i < catalog->count; i++)
        add_timeline(retention, catalog->backups[i]->timeline);
    free(timelines);

    inventory->histories = mem_calloc(retention->timeline_count + 1, sizeof(struct history));
    for (size_t i = 0; ok && i < retention->timeline_count; i++) {
        struct retention_timeline *timeline = &retention->timelines[i];

        ok = wal_archive_history(inventory->repository, timeline->timeline,
                                 &inventory->histories[i], &known, err);
        if (ok && (known || timeline->timeline == 1))
            timeline->history = &inventory->histories[i];
        if (!ok && err->code == ERROR_INTEGRITY) { /* a damaged one is as good as none */
            error_clear(err);
            ok = true;
        }
    }
    for (size_t i = 0; ok && i < inventory->wal.count; i++) {
        const struct wal_range *range = &inventory->wal.ranges[i];
        struct retention_timeline *timeline = find_timeline(retention, range->timeline);

        if (timeline && range->newest > timeline->newest_wal)
            timeline->newest_wal = range->newest;
    }
    return ok;
}

/* -- packs -------------------------------------------------------------------------------------- */

static int compare_packs(const void *a, const void *b)
{
    return layout_compare_packs(a, b);
}

/* Both ascend. */
static void add_needed(struct expire_inventory *inventory, const struct refs *refs)
{
    struct layout_pack *merged =
        mem_calloc(inventory->needed_count + refs->count + 1, sizeof(*merged));
    size_t i = 0, j = 0, count = 0;

    while (i < inventory->needed_count || j < refs->count) {
        int order = i == inventory->needed_count ? 1
                    : j == refs->count
                        ? -1
                        : layout_compare_packs(&inventory->needed[i], &refs->packs[j].pack);

        merged[count++] = order <= 0 ? inventory->needed[i] : refs->packs[j].pack;
        i += order <= 0;
        j += order >= 0;
    }
    free(inventory->needed);
    inventory->needed = merged;
    inventory->needed_count = count;
}

/* Of a backup that might go: it does not as long as the store holds it. */
static bool judge_lock(struct expire_inventory *inventory, size_t at, struct error *err)
{
    struct repository *repository = inventory->repository;
    const int64_t run = inventory->retention.backups[at].info->run;
    char name[LAYOUT_NAME_SIZE];
    struct store_info info;
    int64_t end;

    if (repository->config->object_lock.mode == CONFIG_LOCK_NONE)
        return true;

    char *full = repository_object_name(repository, layout_backup(run, name));
    bool ok = store_stat(repository->store, full, &info, err);

    end = ok ? store_lock_end(repository->config, full, info.modified) : 0;
    free(full);
    inventory->locked[at] = end > inventory->now ? end : 0;
    return ok;
}

/* Of every backup that stays listed, marked or not. */
static bool read_needed(struct expire_inventory *inventory, struct error *err)
{
    struct retention *retention = &inventory->retention;

    inventory->locked = mem_calloc(retention->count + 1, sizeof(*inventory->locked));
    for (size_t i = 0; i < retention->count; i++) {
        struct retention_backup *backup = &retention->backups[i];
        const struct backup_info *info = backup->info;
        struct refs refs = REFS_INIT;

        if (expire_inventory_goes(inventory, backup) && !judge_lock(inventory, i, err))
            return false;
        if (expire_inventory_goes(inventory, backup))
            continue;
        backup->lingers = backup->reasons == 0;
        if (!process_check(err))
            return false;
        if (!refs_fetch(inventory->repository, info->run, info->refs_sha256, &refs, err)) {
            error_hint(err,
                       "nothing is removed from repository \"%s\" as long as it is not known "
                       "which packs its backups need",
                       inventory->repository->name);
            return false;
        }
        add_needed(inventory, &refs);
        refs_free(&refs);
    }
    return true;
}

/* -- all of it ---------------------------------------------------------------------------------- */

static void judge(struct expire_inventory *inventory, const struct config_retention *settings)
{
    struct retention *retention = &inventory->retention;
    const struct catalog *catalog = inventory->catalog;

    struct known_damage damage;

    /* Without it a backup that is lost may take the place of a sound one; but nobody else knows. */
    known_damage_read(inventory->repository, &damage);
    retention->settings = settings;
    retention->now = inventory->now;
    retention->backups = mem_calloc(catalog->count + 1, sizeof(*retention->backups));
    retention->count = catalog->count;
    for (size_t i = 0; i < catalog->count; i++) {
        const struct backup_info *info = catalog->backups[i];

        retention->backups[i] =
            (struct retention_backup){.info = info,
                                      .complete = has_wal(&inventory->wal, info->timeline, info),
                                      .damaged = known_damage_of(&damage, info->run) > 0,
                                      .kept = marks_kept(inventory->marks, info->run),
                                      .held = runs_holder(&inventory->runs, info->run) != NULL};
    }
    known_damage_free(&damage);
    retention_judge(retention);
}

bool expire_inventory_read(struct repository *repository, int64_t now,
                           struct expire_inventory *inventory, struct error *err)
{
    *inventory = (struct expire_inventory){.repository = repository, .now = now};
    if (!runs_read(repository, now, &inventory->runs, err) ||
        !marks_read(repository, &inventory->marks, err) ||
        !catalog_read(repository, &inventory->catalog, err) || !refuse_damage(inventory, err) ||
        !wal_archive_ranges(repository, 0, &inventory->wal, err) || !read_timelines(inventory, err))
        return false;
    inventory->guard = find_guard(inventory);
    judge(inventory, &repository->config->retention);
    return read_needed(inventory, err);
}

bool expire_inventory_foresee(struct repository *repository,
                              const struct config_retention *settings,
                              struct expire_inventory *inventory, struct error *err)
{
    *inventory = (struct expire_inventory){.repository = repository, .now = clock_now()};
    if (!marks_read(repository, &inventory->marks, err) ||
        !catalog_read(repository, &inventory->catalog, err) ||
        !wal_archive_ranges(repository, 0, &inventory->wal, err) || !read_timelines(inventory, err))
        return false;
    judge(inventory, settings);
    return true;
}

void expire_inventory_free(struct expire_inventory *inventory)
{
    for (size_t i = 0; inventory->histories && i < inventory->retention.timeline_count; i++)
        history_free(&inventory->histories[i]);
    free(inventory->histories);
    free(inventory->retention.timelines);
    free(inventory->retention.backups);
    free(inventory->locked);
    free(inventory->needed);
    wal_archive_free_ranges(&inventory->wal);
    catalog_free(inventory->catalog);
    marks_free(inventory->marks);
    runs_free(&inventory->runs);
}

const struct retention_backup *expire_inventory_backup(const struct expire_inventory *inventory,
                                                       int64_t run)
{
    for (size_t i = 0; i < inventory->retention.count; i++)
        if (inventory->retention.backups[i].info->run == run)
            return &inventory->retention.backups[i];
    return NULL;
}

bool expire_inventory_ripe(const struct expire_inventory *inventory, int64_t run)
{
    return marks_expired(inventory->marks, run) &&
           inventory->now - marks_expired_at(inventory->marks, run) >= RUNS_PATIENCE;
}

bool expire_inventory_needs_wal(const struct expire_inventory *inventory,
                                const struct wal_name *name)
{
    uint64_t size = inventory->wal.segment_size, number;

    if (name->kind == WAL_HISTORY || size == 0)
        return true;
    number = wal_segment_number(name, (uint32_t)size);
    return retention_needs_wal(&inventory->retention, name->timeline, number * size,
                               (number + 1) * size);
}

bool expire_inventory_goes(const struct expire_inventory *inventory,
                           const struct retention_backup *backup)
{
    return backup->reasons == 0 && expire_inventory_ripe(inventory, backup->info->run) &&
           inventory->locked[backup - inventory->retention.backups] == 0;
}

bool expire_inventory_needs_pack(const struct expire_inventory *inventory,
                                 const struct layout_pack *pack)
{
    return inventory->needed_count > 0 && bsearch(pack, inventory->needed, inventory->needed_count,
                                                  sizeof(*pack), compare_packs) != NULL;
}
