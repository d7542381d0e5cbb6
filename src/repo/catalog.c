/* catalog.c - the backups of a cluster in a repository */
#include "pgvigil/catalog.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "pgvigil/layout.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/repository_ask.h"
#include "pgvigil/workers.h"

#define RUNS_A_READER 4 /* fewer are not worth another connection */
#define READERS_MAXIMUM 16

struct runs {
    int64_t *ids;
    size_t count;
    size_t capacity;
};

static bool note_run(const char *name, const struct store_info *info, void *context,
                     struct error *err)
{
    struct runs *runs = context;
    int64_t run;

    (void)info;
    (void)err;
    if (!layout_parse_backup(name, &run))
        return true;
    runs->ids = mem_grow(runs->ids, runs->count, &runs->capacity, sizeof(*runs->ids));
    runs->ids[runs->count++] = run;
    return true;
}

/* What was found of each run: one of the two, or none for a backup deleted since it was listed, which is
 * no longer a backup. */
struct found {
    struct backup_info *info;
    struct error damage;
};

struct reading {
    struct repository *repository;
    const struct runs *runs;
    struct found *found; /* of each run */
    atomic_size_t next;
};

/* What cannot be read for another reason than its own bytes says nothing about the backup. */
static bool read_backup(struct repository *repository, int64_t run, struct found *found,
                        struct error *err)
{
    if (backup_info_fetch(repository, run, &found->info, err))
        return true;
    if (err->code == ERROR_INTEGRITY)
        found->damage = *err;
    else if (err->code != ERROR_NOT_FOUND)
        return false;
    error_clear(err);
    return true;
}

static bool read_some(struct workers *workers, int number, void *context, struct error *err)
{
    struct reading *reading = context;
    size_t i;

    (void)number;
    while ((i = atomic_fetch_add(&reading->next, 1)) < reading->runs->count)
        if (!workers_check(workers, err) ||
            !read_backup(reading->repository, reading->runs->ids[i], &reading->found[i], err))
            return false;
    return true;
}

static int compare(const void *a, const void *b)
{
    const struct backup_info *left = *(struct backup_info *const *)a;
    const struct backup_info *right = *(struct backup_info *const *)b;

    if (left->timeline != right->timeline)
        return left->timeline < right->timeline ? -1 : 1;
    if (left->stop_lsn != right->stop_lsn)
        return left->stop_lsn < right->stop_lsn ? -1 : 1;
    return (left->run > right->run) - (left->run < right->run);
}

static void take(struct catalog *catalog, const struct runs *runs, struct found *found)
{
    catalog->backups = mem_calloc(runs->count, sizeof(*catalog->backups));
    catalog->damaged = mem_calloc(runs->count, sizeof(*catalog->damaged));
    for (size_t i = 0; i < runs->count; i++) {
        if (found[i].info)
            catalog->backups[catalog->count++] = found[i].info;
        else if (found[i].damage.code != ERROR_NONE)
            catalog->damaged[catalog->damaged_count++] =
                (struct catalog_damage){.run = runs->ids[i], .error = found[i].damage};
        else
            catalog->vanished++;
    }
    qsort(catalog->backups, catalog->count, sizeof(struct backup_info *), compare);
}

/* Small objects, each of which costs a round trip: so many are asked for at once. */
static bool read_all(struct repository *repository, const struct runs *runs,
                     struct catalog *catalog, struct error *err)
{
    struct reading reading = {.repository = repository, .runs = runs};
    const size_t readers = (runs->count + RUNS_A_READER - 1) / RUNS_A_READER;
    bool ok;

    atomic_init(&reading.next, 0);
    reading.found = mem_calloc(runs->count, sizeof(*reading.found));
    ok = runs->count == 0 ||
         workers_run((int)(readers < READERS_MAXIMUM ? readers : READERS_MAXIMUM), read_some,
                     &reading, err);
    /* Also when it failed: then they are freed with the catalog. */
    take(catalog, runs, reading.found);
    free(reading.found);
    return ok;
}

bool catalog_read(struct repository *repository, struct catalog **catalog, struct error *err)
{
    struct catalog *read = mem_calloc(1, sizeof(*read));
    struct runs runs = {.ids = NULL};
    bool ok;

    ok = repository_list(repository, LAYOUT_BACKUP_PREFIX, NULL, note_run, &runs, err) &&
         read_all(repository, &runs, read, err);
    free(runs.ids);
    if (!ok) {
        catalog_free(read);
        return false;
    }
    *catalog = read;
    return true;
}

static bool has(const struct catalog *catalog, int64_t run)
{
    for (size_t i = 0; i < catalog->count; i++)
        if (catalog->backups[i]->run == run)
            return true;
    return false;
}

/* What is there already stays as it is. */
static void merge(struct catalog *all, struct catalog *more)
{
    const size_t known = all->count;

    all->backups = mem_realloc(all->backups, (all->count + more->count) * sizeof(*all->backups));
    all->damaged = mem_realloc(all->damaged,
                               (all->damaged_count + more->damaged_count) * sizeof(*all->damaged));
    for (size_t i = 0; i < more->count; i++)
        if (!has(all, more->backups[i]->run)) {
            all->backups[all->count++] = more->backups[i];
            more->backups[i] = NULL;
        }
    for (size_t i = 0; i < more->damaged_count; i++)
        all->damaged[all->damaged_count++] = more->damaged[i];
    all->vanished += more->vanished;
    if (all->count > known)
        qsort(all->backups, all->count, sizeof(struct backup_info *), compare);
    catalog_free(more);
}

static bool add(struct repository *repository, void *context, struct error *err)
{
    struct catalog **all = context, *more;

    if (!catalog_read(repository, &more, err))
        return false;
    if (*all)
        merge(*all, more);
    else
        *all = more;
    return true;
}

/* Damage of a backup that another repository has is told here, and to nobody else. */
static void drop_helped(struct catalog *catalog)
{
    size_t left = 0;

    for (size_t i = 0; i < catalog->damaged_count; i++)
        if (has(catalog, catalog->damaged[i].run))
            log_error(LOG_WARNING, &catalog->damaged[i].error);
        else
            catalog->damaged[left++] = catalog->damaged[i];
    catalog->damaged_count = left;
}

bool catalog_read_all(struct repository *repository, struct catalog **catalog, struct error *err)
{
    struct catalog *all = NULL;

    if (!repository_ask_each(repository, "backups", add, &all, err)) {
        catalog_free(all);
        return false;
    }
    drop_helped(all);
    *catalog = all;
    return true;
}

void catalog_free(struct catalog *catalog)
{
    if (!catalog)
        return;
    for (size_t i = 0; i < catalog->count; i++)
        backup_info_free(catalog->backups[i]);
    free(catalog->backups);
    free(catalog->damaged);
    free(catalog);
}
