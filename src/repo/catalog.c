/* catalog.c - the backups of a cluster in a repository */
#include "pgvigil/catalog.h"

#include <stdlib.h>

#include "pgvigil/layout.h"
#include "pgvigil/mem.h"

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

static void note_damage(struct catalog *catalog, int64_t run, const struct error *err)
{
    catalog->damaged[catalog->damaged_count++] = (struct catalog_damage){.run = run, .error = *err};
}

/* A backup deleted since it was listed is no longer a backup; what cannot be read for another
 * reason than its own bytes says nothing about the backup. */
static bool read_backup(struct repository *repository, int64_t run, struct catalog *catalog,
                        struct error *err)
{
    struct backup_info *info;

    if (backup_info_fetch(repository, run, &info, err)) {
        catalog->backups[catalog->count++] = info;
        return true;
    }
    if (err->code == ERROR_INTEGRITY)
        note_damage(catalog, run, err);
    else if (err->code != ERROR_NOT_FOUND)
        return false;
    error_clear(err);
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

static bool read_all(struct repository *repository, const struct runs *runs,
                     struct catalog *catalog, struct error *err)
{
    catalog->backups = mem_calloc(runs->count, sizeof(*catalog->backups));
    catalog->damaged = mem_calloc(runs->count, sizeof(*catalog->damaged));
    for (size_t i = 0; i < runs->count; i++)
        if (!read_backup(repository, runs->ids[i], catalog, err))
            return false;
    qsort(catalog->backups, catalog->count, sizeof(struct backup_info *), compare);
    return true;
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
