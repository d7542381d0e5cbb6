/* verify_inventory.c - what is there, what of it is known, and what is to be read */
#include "job/verify_inventory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/known_damage.h"
#include "pgvigil/layout.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"

static enum trailer_kind kind_of_wal(const char *name)
{
    static const enum trailer_kind kinds[] = {[WAL_NOT_A_WAL_FILE] = 0,
                                              [WAL_SEGMENT] = TRAILER_WAL,
                                              [WAL_PARTIAL] = TRAILER_PARTIAL,
                                              [WAL_BACKUP_HISTORY] = TRAILER_BACKUP_HISTORY,
                                              [WAL_HISTORY] = TRAILER_HISTORY};
    char file[WAL_NAME_SIZE];
    struct wal_name parsed;

    return layout_parse_wal(name, file, &parsed) ? kinds[parsed.kind] : 0;
}

enum trailer_kind verify_inventory_kind(const char *name)
{
    static const enum trailer_kind notes[] = {[LAYOUT_BEGIN] = TRAILER_BEGIN,
                                              [LAYOUT_LEASE] = TRAILER_LEASE,
                                              [LAYOUT_CLAIM] = TRAILER_CLAIM,
                                              [LAYOUT_END] = TRAILER_END};
    char again[LAYOUT_NAME_SIZE];
    struct layout_pack pack;
    struct layout_mark mark;
    struct layout_note note;
    int64_t run;

    if (strncmp(name, LAYOUT_WAL_PREFIX, strlen(LAYOUT_WAL_PREFIX)) == 0)
        return kind_of_wal(name);
    if (layout_parse_pack(name, &pack))
        return TRAILER_PACK;
    if (layout_parse_mark(name, &mark))
        return mark.kind == LAYOUT_KEEP ? TRAILER_KEEP : TRAILER_EXPIRE;
    if (layout_parse_note(name, &note))
        return notes[note.kind];
    if (!layout_parse_backup_part(name, &run))
        return 0;
    if (strcmp(layout_backup(run, again), name) == 0)
        return TRAILER_BACKUP;
    return strcmp(layout_refs(run, again), name) == 0 ? TRAILER_REFS : TRAILER_MANIFEST;
}

static bool take_object(const char *name, const struct store_info *info, void *context,
                        struct error *err)
{
    struct verify_walk *walk = context;
    struct verify_entry entry = {
        .name = mem_strdup(name), .size = info->size, .kind = verify_inventory_kind(name)};

    walk->entries = mem_grow(walk->entries, walk->count, &walk->capacity, sizeof *walk->entries);
    walk->entries[walk->count++] = entry;
    walk->result->objects++;
    walk->result->bytes += info->size;
    return process_check(err);
}

static void note_strays(struct verify_walk *walk)
{
    struct error why;

    error_set(&why, ERROR_INTEGRITY, "no object of a repository has such a name");
    for (size_t i = 0; i < walk->count; i++)
        if (walk->entries[i].kind == 0)
            verify_walk_blame(walk, VERIFY_STRAY, 0, walk->entries[i].name, &why);
}

/* Rows of objects that are gone; they are forgotten once all are read. */
struct remembering {
    struct verify_walk *walk;
    char **gone;
    size_t count, capacity;
};

static void remember(const struct verify_memory_row *row, void *context)
{
    struct remembering *remembering = context;
    struct verify_walk *walk = remembering->walk;
    struct verify_entry *entry = verify_walk_find(walk, row->object);

    if (entry == NULL) {
        remembering->gone = mem_grow(remembering->gone, remembering->count, &remembering->capacity,
                                     sizeof *remembering->gone);
        remembering->gone[remembering->count++] = mem_strdup(row->object);
        return;
    }
    entry->remembered = true;
    entry->suspect = entry->suspect || row->checked == 0;
    memcpy(entry->sha256, row->sha256, sizeof entry->sha256);
    if (entry->size == row->size && row->checked > 0 && row->checked <= walk->now)
        entry->checked = row->checked;
}

static bool read_memory(struct verify_walk *walk, struct error *err)
{
    struct remembering remembering = {.walk = walk};
    const struct repository *repository = walk->repository;
    bool ok = verify_memory_each(walk->memory, repository->id, repository->prefix, remember,
                                 &remembering, err);

    for (size_t i = 0; i < remembering.count; i++) {
        ok = ok && verify_memory_forget(walk->memory, repository->id, repository->prefix,
                                        remembering.gone[i], err);
        free(remembering.gone[i]);
    }
    free(remembering.gone);
    return ok;
}

/* What cannot be read is found once more when its turn comes. */
static void suspect_known(struct verify_walk *walk)
{
    struct known_damage damage;

    known_damage_read(walk->repository, &damage);
    for (size_t i = 0; i < damage.count; i++) {
        struct verify_entry *entry = verify_walk_find(walk, damage.findings[i].object);

        if (entry != NULL)
            entry->suspect = true;
    }
    known_damage_free(&damage);
}

bool verify_inventory_read(struct verify_walk *walk, struct error *err)
{
    if (!repository_list(walk->repository, "", NULL, take_object, walk, err))
        return false;
    note_strays(walk);
    suspect_known(walk);
    return read_memory(walk, err);
}

void verify_inventory_free(struct verify_walk *walk)
{
    for (size_t i = 0; i < walk->count; i++)
        free(walk->entries[i].name);
    free(walk->entries);
    walk->entries = NULL;
    walk->count = walk->capacity = 0;
}

/* splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). */
static uint64_t next_random(uint64_t *state)
{
    uint64_t mixed = *state += UINT64_C(0x9E3779B97F4A7C15);

    mixed = (mixed ^ (mixed >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    mixed = (mixed ^ (mixed >> 27)) * UINT64_C(0x94D049BB133111EB);
    return mixed ^ (mixed >> 31);
}

static void choose_sample(struct verify_walk *walk)
{
    uint64_t state = walk->request->seed;

    for (size_t i = 0; i < walk->count; i++) {
        const double number = (double)(next_random(&state) >> 11) / (double)(UINT64_C(1) << 53);

        walk->entries[i].chosen = walk->entries[i].kind != 0 &&
                                  (walk->entries[i].suspect || number < walk->request->sample);
    }
}

static int compare_ages(const void *a, const void *b)
{
    const struct verify_entry *left = *(struct verify_entry *const *)a;
    const struct verify_entry *right = *(struct verify_entry *const *)b;

    if (left->checked != right->checked)
        return left->checked < right->checked ? -1 : 1;
    return strcmp(left->name, right->name);
}

/* Of what was read before, the oldest: as great a share as the time since the last run is of the
 * period, so that it comes round in time however often this runs; and what is overdue. */
static void choose_oldest(struct verify_walk *walk)
{
    struct verify_entry **known = mem_calloc(walk->count, sizeof(struct verify_entry *));
    int64_t newest = 0;
    uint64_t bytes = 0;
    size_t count = 0;

    for (size_t i = 0; i < walk->count; i++) {
        struct verify_entry *entry = &walk->entries[i];

        if (entry->kind == 0 || entry->checked == 0)
            continue;
        known[count++] = entry;
        bytes += entry->size;
        newest = entry->checked > newest ? entry->checked : newest;
    }
    if (count > 0)
        qsort(known, count, sizeof *known, compare_ages);

    double left = (double)bytes * (double)(walk->now - newest) / (double)VERIFY_PERIOD;

    for (size_t i = 0; i < count; i++) {
        const bool overdue = walk->now - known[i]->checked > VERIFY_PERIOD;

        if (!overdue && left <= 0)
            break;
        known[i]->chosen = true;
        left -= (double)known[i]->size;
    }
    free(known);
}

void verify_inventory_choose(struct verify_walk *walk)
{
    if (walk->request->extent == VERIFY_SAMPLE) {
        choose_sample(walk);
        return;
    }
    for (size_t i = 0; i < walk->count; i++)
        walk->entries[i].chosen = walk->entries[i].kind != 0 &&
                                  (walk->request->extent == VERIFY_ALL ||
                                   walk->entries[i].suspect || walk->entries[i].checked == 0);
    if (walk->request->extent == VERIFY_DUE)
        choose_oldest(walk);
}
