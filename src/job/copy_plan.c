/* copy_plan.c - what one repository has of a cluster and another lacks */
#include "pgvigil/copy_plan.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

#include "job/expire_inventory.h"
#include "pgvigil/backup_info.h"
#include "pgvigil/layout.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"
#include "pgvigil/wal_agreement.h"

#define NOTES_OF_A_BACKUP 3 /* its manifest, list of packs, and backup.json */

void copy_plan_free_objects(struct copy_objects *objects)
{
    for (size_t i = 0; i < objects->count; i++)
        free(objects->names[i]);
    free(objects->names);
    free(objects->sizes);
    *objects = (struct copy_objects){.names = NULL};
}

void copy_plan_add_object(struct copy_objects *objects, const char *name, uint64_t size)
{
    objects->names =
        mem_grow(objects->names, objects->count, &objects->capacity, sizeof(*objects->names));
    objects->sizes =
        mem_grow(objects->sizes, objects->count, &objects->size_capacity, sizeof(*objects->sizes));
    objects->names[objects->count] = mem_strdup(name);
    objects->sizes[objects->count++] = size;
}

static bool take_object(const char *name, const struct store_info *info, void *context,
                        struct error *err)
{
    copy_plan_add_object(context, name, info->size);
    return process_check(err);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Of objects as a list gives them: ascending. */
static bool has_object(const struct copy_objects *objects, const char *name)
{
    return objects->count > 0 && bsearch(&name, objects->names, objects->count,
                                         sizeof(*objects->names), compare_names) != NULL;
}

/* Would the target's retention keep it? */
static bool is_wanted_wal(const struct copy_plan *plan, const char *name)
{
    char file[WAL_NAME_SIZE];
    struct wal_name parsed;

    return plan->source->retention.count == 0 || !plan->source->retention.settings->window ||
           !layout_parse_wal(name, file, &parsed) ||
           expire_inventory_needs_wal(plan->source, &parsed);
}

/* Are they of one server? */
static bool compare_files(struct repository *from, struct repository *to, const char *file,
                          struct copy_plan *plan, struct error *err)
{
    if (plan->parted.code != ERROR_NONE || wal_agreement_check_file(to, from, file, err))
        return true;
    if (err->code != ERROR_INTEGRITY)
        return false;
    plan->parted = *err;
    error_hint(&plan->parted, "nothing is copied, " WAL_AGREEMENT_CURE);
    error_clear(err);
    return true;
}

/* A walk along the segments of the source. */
struct seam {
    uint32_t timeline;
    char
        shared[WAL_NAME_SIZE]; /* the timeline's last segment that both have, or its history file */
    bool lacked;               /* behind that, the target lacks some */
};

/* Which file is to be compared, if any: what both have beside segments that the target is to get. */
static const char *find_seam(struct seam *seam, const char *name, bool there)
{
    char file[WAL_NAME_SIZE];
    struct wal_name parsed;
    bool compare;

    if (!layout_parse_wal(name, file, &parsed) || parsed.kind != WAL_SEGMENT)
        return NULL;
    if (parsed.timeline != seam->timeline) {
        seam->timeline = parsed.timeline;
        wal_history_name(parsed.timeline, seam->shared);
        seam->lacked = false;
    }
    compare = there == seam->lacked;
    seam->lacked = !there;
    if (there)
        memcpy(seam->shared, file, sizeof(file));
    return compare ? seam->shared : NULL;
}

/* The WAL files are told apart by name alone: the same one may be compressed in different ways. */
static bool compare_wal(struct repository *from, struct repository *to,
                        const struct copy_objects *here, const struct copy_objects *there,
                        struct copy_plan *plan, struct error *err)
{
    struct seam seam = {.timeline = 0};

    for (size_t i = 0; i < here->count; i++) {
        const bool has = has_object(there, here->names[i]);
        const char *beside;

        if (!has && !is_wanted_wal(plan, here->names[i]))
            continue;
        beside = find_seam(&seam, here->names[i], has);
        if (beside && !compare_files(from, to, beside, plan, err))
            return false;
        if (has)
            continue;
        copy_plan_add_object(&plan->wal, here->names[i], here->sizes[i]);
        plan->objects++;
        plan->bytes += here->sizes[i];
    }
    return true;
}

static bool find_wal(struct repository *from, struct repository *to, struct copy_plan *plan,
                     struct error *err)
{
    struct copy_objects here = {.names = NULL}, there = {.names = NULL};
    bool ok = repository_list(from, LAYOUT_WAL_PREFIX, NULL, take_object, &here, err) &&
              repository_list(to, LAYOUT_WAL_PREFIX, NULL, take_object, &there, err) &&
              compare_wal(from, to, &here, &there, plan, err);

    copy_plan_free_objects(&here);
    copy_plan_free_objects(&there);
    return ok;
}

static const struct backup_info *find_backup(const struct catalog *catalog, int64_t run)
{
    for (size_t i = 0; i < catalog->count; i++)
        if (catalog->backups[i]->run == run)
            return catalog->backups[i];
    return NULL;
}

static bool same_backup(const struct backup_info *a, const struct backup_info *b)
{
    return memcmp(a->manifest_sha256, b->manifest_sha256, sizeof(a->manifest_sha256)) == 0 &&
           memcmp(a->refs_sha256, b->refs_sha256, sizeof(a->refs_sha256)) == 0;
}

/* Two hosts that could not see each other may have taken the same second for an id. Each backup is
 * whole where it is, and none can be copied. */
static void note_another(const struct repository *from, const struct repository *to, int64_t run,
                         struct error *conflict)
{
    char text[CLOCK_COMPACT_SIZE];

    error_set(conflict, ERROR_INTEGRITY,
              "backup %s in repository \"%s\" is another one than that in repository \"%s\"",
              layout_run_text(run, text), from->name, to->name);
    error_hint(conflict,
               "did two hosts take a backup at the same second? Both can be restored from where "
               "they are, but not be copied");
}

/* What the backup needs of WAL the target may have of another server. */
static bool compare_last(struct repository *from, struct repository *to,
                         const struct backup_info *info, struct copy_plan *plan, struct error *err)
{
    char file[WAL_NAME_SIZE];

    wal_segment_name(info->timeline, (info->stop_lsn - 1) / info->wal_segment_size,
                     info->wal_segment_size, file);
    return compare_files(from, to, file, plan, err);
}

static bool is_wanted_backup(const struct copy_plan *plan, const struct backup_info *info)
{
    const struct retention_backup *judged = expire_inventory_backup(plan->source, info->run);

    return !plan->source->retention.settings->window || !judged || judged->reasons != 0;
}

/* Which of the source's backups the target is to have: all that it lacks and would keep. One that is
 * damaged there is there: verify is for that. */
static bool choose_backups(struct repository *from, struct repository *to, struct copy_plan *plan,
                           struct error *err)
{
    struct copy_objects names = {.names = NULL};
    struct catalog *there = NULL;
    char name[LAYOUT_NAME_SIZE];
    bool ok = repository_list(to, LAYOUT_BACKUP_PREFIX, NULL, take_object, &names, err) &&
              catalog_read(to, &there, err);

    plan->backups = mem_calloc(plan->catalog->count, sizeof(*plan->backups));
    for (size_t i = 0; ok && i < plan->catalog->count; i++) {
        const struct backup_info *info = plan->catalog->backups[i];
        const struct backup_info *other = find_backup(there, info->run);

        if (other && !same_backup(info, other) && plan->conflicts++ == 0)
            note_another(from, to, info->run, &plan->conflict);
        if (other || has_object(&names, layout_backup(info->run, name)) ||
            !is_wanted_backup(plan, info))
            continue;
        plan->backups[plan->backup_count++] = info;
        ok = compare_last(from, to, info, plan, err);
    }
    plan->lack_damaged = mem_calloc(plan->catalog->damaged_count, sizeof(*plan->lack_damaged));
    for (size_t i = 0; ok && i < plan->catalog->damaged_count; i++)
        plan->lack_damaged[i] =
            !has_object(&names, layout_backup(plan->catalog->damaged[i].run, name));
    catalog_free(there);
    copy_plan_free_objects(&names);
    return ok;
}

static int compare_packs(const void *a, const void *b)
{
    return layout_compare_packs(a, b);
}

/* Packs that several backups share are counted once: `counted` is a tree of tsearch. */
static void count_packs(struct copy_plan *plan, const struct refs *refs, const bool *lacking,
                        void **counted)
{
    for (size_t i = 0; i < refs->count; i++) {
        if (!lacking[i] || tfind(&refs->packs[i].pack, counted, compare_packs))
            continue;
        struct layout_pack *pack = mem_alloc(sizeof(*pack));

        *pack = refs->packs[i].pack;
        if (!tsearch(pack, counted, compare_packs))
            mem_give_up("could not allocate memory for a list of packs");
        plan->objects++;
        plan->bytes += refs->packs[i].size;
    }
}

static bool count_backup(struct repository *from, struct repository *to,
                         const struct backup_info *info, struct copy_plan *plan, void **counted,
                         struct error *err)
{
    struct refs refs = REFS_INIT;
    bool *lacking = NULL;
    size_t count;
    bool ok = refs_fetch(from, info->run, info->refs_sha256, &refs, err);

    if (ok) {
        lacking = mem_calloc(refs.count, sizeof(*lacking));
        ok = refs_find_lacking(to, &refs, lacking, &count, err);
    }
    if (ok)
        count_packs(plan, &refs, lacking, counted);
    else if (err->code == ERROR_INTEGRITY || err->code == ERROR_NOT_FOUND) {
        error_clear(err); /* what cannot be counted is met again when it is to be copied */
        ok = true;
    }
    plan->objects += NOTES_OF_A_BACKUP;
    free(lacking);
    refs_free(&refs);
    return ok;
}

static void drop_all(struct copy_plan *plan)
{
    copy_plan_free_objects(&plan->wal);
    plan->backup_count = 0;
    plan->objects = plan->bytes = 0;
}

static bool read_plan(struct repository *from, struct repository *to, struct copy_plan *plan,
                      struct error *err)
{
    void *counted = NULL;
    bool ok = expire_inventory_foresee(from, &to->config->retention, plan->source, err);

    plan->catalog = plan->source->catalog;
    ok = ok && find_wal(from, to, plan, err) && choose_backups(from, to, plan, err);
    if (ok && plan->parted.code != ERROR_NONE)
        drop_all(plan);
    for (size_t i = 0; ok && i < plan->backup_count; i++)
        ok = count_backup(from, to, plan->backups[i], plan, &counted, err);
    tdestroy(counted, free);
    return ok;
}

bool copy_plan_read(struct repository *from, struct repository *to, struct copy_plan *plan,
                    struct error *err)
{
    *plan = (struct copy_plan){.source = mem_calloc(1, sizeof(struct expire_inventory))};
    if (read_plan(from, to, plan, err))
        return true;
    copy_plan_free(plan);
    return false;
}

void copy_plan_free(struct copy_plan *plan)
{
    copy_plan_free_objects(&plan->wal);
    free(plan->backups);
    free(plan->lack_damaged);
    if (plan->source)
        expire_inventory_free(plan->source);
    free(plan->source);
    *plan = (struct copy_plan){.source = NULL};
}

bool copy_plan_keeps(const struct copy_plan *plan, const struct backup_info *info)
{
    return marks_kept(plan->source->marks, info->run);
}

bool copy_plan_parts(struct repository *to, const struct backup_info *info, const struct refs *refs,
                     struct copy_objects *parts, struct error *err)
{
    bool *lacking = mem_calloc(refs->count, sizeof(*lacking));
    char name[LAYOUT_NAME_SIZE];
    size_t count;
    bool ok = refs_find_lacking(to, refs, lacking, &count, err);

    for (size_t i = 0; ok && i < refs->count; i++)
        if (lacking[i])
            copy_plan_add_object(parts, layout_pack(&refs->packs[i].pack, name),
                                 refs->packs[i].size);
    copy_plan_add_object(parts, layout_manifest(info->run, name), 0);
    free(lacking);
    return ok;
}
