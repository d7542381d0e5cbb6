/* copy.c - bringing repositories level */
#include "pgvigil/copy.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/backup_info.h"
#include "pgvigil/catalog.h"
#include "pgvigil/debt.h"
#include "pgvigil/layout.h"
#include "pgvigil/lock.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/object_copy.h"
#include "pgvigil/process.h"
#include "pgvigil/progress.h"
#include "pgvigil/refs.h"
#include "pgvigil/workers.h"

/* Objects by name, ascending, as lists give them. */
struct names {
    char **names;
    uint64_t *sizes;
    size_t count;
    size_t capacity;
    size_t size_capacity;
};

struct copying {
    struct repository *from, *to;
    int jobs;
    struct copy_result *result;
};

static void names_free(struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->names[i]);
    free(names->names);
    free(names->sizes);
    *names = (struct names){.names = NULL};
}

static void names_add(struct names *names, const char *name, uint64_t size)
{
    names->names = mem_grow(names->names, names->count, &names->capacity, sizeof(*names->names));
    names->sizes =
        mem_grow(names->sizes, names->count, &names->size_capacity, sizeof(*names->sizes));
    names->names[names->count] = mem_strdup(name);
    names->sizes[names->count++] = size;
}

static bool names_take(const char *name, const struct store_info *info, void *context,
                       struct error *err)
{
    names_add(context, name, info->size);
    return process_check(err);
}

static int names_compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool names_has(const struct names *names, const char *name)
{
    return names->count > 0 &&
           bsearch(&name, names->names, names->count, sizeof(*names->names), names_compare) != NULL;
}

/* The objects with a prefix that `from` has and `to` lacks. */
static bool find_lacking(const struct copying *copying, const char *prefix, struct names *lacking,
                         struct error *err)
{
    struct names here = {.names = NULL}, there = {.names = NULL};
    bool ok = repository_list(copying->from, prefix, NULL, names_take, &here, err) &&
              repository_list(copying->to, prefix, NULL, names_take, &there, err);

    for (size_t i = 0; ok && i < here.count; i++)
        if (!names_has(&there, here.names[i]))
            names_add(lacking, here.names[i], here.sizes[i]);
    names_free(&here);
    names_free(&there);
    return ok;
}

/* Several objects on their way at once. */
struct batch {
    const struct copying *copying;
    const struct names *names;
    atomic_size_t next;
};

static bool copy_some(struct workers *workers, int number, void *context, struct error *err)
{
    struct batch *batch = context;
    size_t i;

    (void)number;
    while ((i = atomic_fetch_add(&batch->next, 1)) < batch->names->count) {
        if (!workers_check(workers, err) ||
            !object_copy(batch->copying->from, batch->copying->to, batch->names->names[i], err))
            return false;
        progress_add(batch->names->sizes[i]);
    }
    return true;
}

static bool copy_all(const struct copying *copying, const struct names *names, struct error *err)
{
    struct batch batch = {.copying = copying, .names = names, .next = 0};

    if (names->count == 0)
        return true;
    if (!workers_run(copying->jobs, copy_some, &batch, err))
        return false;
    copying->result->objects += names->count;
    for (size_t i = 0; i < names->count; i++)
        copying->result->bytes += names->sizes[i];
    return true;
}

static bool copy_wal(const struct copying *copying, struct error *err)
{
    struct names lacking = {.names = NULL};
    bool ok =
        find_lacking(copying, LAYOUT_WAL_PREFIX, &lacking, err) && copy_all(copying, &lacking, err);

    names_free(&lacking);
    return ok;
}

/* The packs that a backup needs and the target lacks, and its manifest and refs. */
static bool find_parts(const struct copying *copying, const struct backup_info *info,
                       struct names *lacking, struct error *err)
{
    struct refs refs = REFS_INIT;
    struct names there = {.names = NULL};
    char name[LAYOUT_NAME_SIZE];
    bool ok = refs_fetch(copying->from, info->run, info->refs_sha256, &refs, err);

    for (size_t i = 0; ok && i < refs.count; i++) {
        if (i == 0 || refs.packs[i].pack.run != refs.packs[i - 1].pack.run) {
            names_free(&there);
            layout_pack_prefix(refs.packs[i].pack.run, name);
            ok = repository_list(copying->to, name, NULL, names_take, &there, err);
        }
        if (ok && !names_has(&there, layout_pack(&refs.packs[i].pack, name)))
            names_add(lacking, name, refs.packs[i].size);
    }
    names_free(&there);
    refs_free(&refs);
    if (ok) {
        names_add(lacking, layout_manifest(info->run, name), 0);
        names_add(lacking, layout_refs(info->run, name), 0);
    }
    return ok;
}

static bool copy_backup(const struct copying *copying, const struct backup_info *info,
                        struct error *err)
{
    struct names parts = {.names = NULL};
    char name[LAYOUT_NAME_SIZE], run[CLOCK_COMPACT_SIZE];
    bool ok = find_parts(copying, info, &parts, err) && copy_all(copying, &parts, err) &&
              object_copy(copying->from, copying->to, layout_backup(info->run, name), err);

    names_free(&parts);
    if (!ok)
        return error_context(err, "could not copy backup %s to repository \"%s\"",
                             layout_run_text(info->run, run), copying->to->name);
    copying->result->objects++;
    copying->result->backups++;
    log_debug("backup %s is in repository \"%s\"", layout_run_text(info->run, run),
              copying->to->name);
    return true;
}

/* The backups are listed before the WAL: of those, all WAL that they need is there to be copied. */
static bool copy_cluster(const struct copying *copying, struct error *err)
{
    struct names there = {.names = NULL};
    struct catalog *catalog;
    char name[LAYOUT_NAME_SIZE];

    if (!catalog_read(copying->from, &catalog, err))
        return false;
    for (size_t i = 0; i < catalog->damaged_count; i++)
        log_error(LOG_WARNING, &catalog->damaged[i].error);

    bool ok = copy_wal(copying, err) &&
              repository_list(copying->to, LAYOUT_BACKUP_PREFIX, NULL, names_take, &there, err);

    for (size_t i = 0; ok && i < catalog->count; i++)
        if (!names_has(&there, layout_backup(catalog->backups[i]->run, name)))
            ok = copy_backup(copying, catalog->backups[i], err);
    names_free(&there);
    catalog_free(catalog);
    return ok;
}

static bool level(const struct copying *copying, struct error *err)
{
    uint64_t *identifiers;
    size_t count;
    bool ok = repository_system_identifiers(copying->from, &identifiers, &count, err);

    if (!ok)
        return false;
    for (size_t i = 0; ok && i < count; i++) {
        repository_select(copying->from, identifiers[i]);
        repository_select(copying->to, identifiers[i]);
        ok = copy_cluster(copying, err);
    }
    free(identifiers);
    return ok;
}

static const struct config_repository *find(const struct config *config, const char *name,
                                            struct error *err)
{
    for (size_t i = 0; i < config->repository_count; i++)
        if (strcmp(config->repositories[i].name, name) == 0)
            return &config->repositories[i];
    error_set(err, ERROR_USAGE, "there is no repository \"%s\" in \"%s\"", name, config->path);
    return NULL;
}

/* The one asked for, or the first that opens and is another one than the target. */
static bool open_source(const struct config *config, const struct config_repository *from,
                        const struct config_repository *to, struct repository **repository,
                        struct error *err)
{
    if (from)
        return repository_open(config, from, repository, err);
    error_set(err, ERROR_USAGE, "there is no other repository to copy from");
    for (size_t i = 0; i < config->repository_count; i++)
        if (&config->repositories[i] != to &&
            repository_open(config, &config->repositories[i], repository, err)) {
            error_clear(err);
            return true;
        }
    return false;
}

static bool copy_to(const struct config *config, const struct copy_request *request,
                    const struct config_repository *from, const struct config_repository *to,
                    struct copy_result *result, struct error *err)
{
    struct copying copying = {.jobs = request->jobs > 0 ? request->jobs : config->backup.jobs,
                              .result = result};

    if (!open_source(config, from, to, &copying.from, err))
        return false;
    *result = (struct copy_result){.from = copying.from->config->name, .to = to->name};
    progress_start("copying", 0);
    bool ok = repository_open(config, to, &copying.to, err) && level(&copying, err);
    progress_stop();
    repository_close(copying.to);
    repository_close(copying.from);
    return ok;
}

/* Most of what was owed has just been copied: then the note of it goes. Of which cluster they are the
 * notes say. */
static void settle_debts(const struct config *config)
{
    struct error err = ERROR_INIT;
    struct repository_set set;
    uint64_t *identifiers = NULL;
    size_t count = 0, paid;

    if (!repository_set_open(config, REPOSITORY_SET_SKIP_DOWN, 0, 0, 1, &set, &err))
        return;
    for (size_t i = 0; i < set.count && count == 0; i++)
        if (repository_set_has(&set, i) &&
            !repository_system_identifiers(set.members[i].repository, &identifiers, &count, &err))
            log_error(LOG_WARNING, &err);
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < set.count; j++)
            if (repository_set_has(&set, j))
                repository_select(set.members[j].repository, identifiers[i]);
        if (!debt_pay(&set, SIZE_MAX, &paid, &err))
            log_error(LOG_WARNING, &err);
    }
    free(identifiers);
    repository_set_close(&set);
}

bool copy_run(const struct config *config, const struct copy_request *request,
              copy_report_fn report, void *context, struct error *err)
{
    const struct config_repository *from = NULL, *to = NULL;
    struct error first = ERROR_INIT;
    struct lock *lock;

    if ((request->from && !(from = find(config, request->from, err))) ||
        (request->to && !(to = find(config, request->to, err))))
        return false;
    if (to && from == to)
        return error_set(err, ERROR_USAGE, "\"%s\" cannot be copied to itself", to->name);
    if (!lock_take(config->state_dir, "copy", "copy", &lock, err))
        return false;
    for (size_t i = 0; i < config->repository_count; i++) {
        const struct config_repository *one = &config->repositories[i];
        struct copy_result result;

        if (one == from || (to && one != to))
            continue;
        if (copy_to(config, request, from, one, &result, err))
            report(&result, context);
        else if (first.code == ERROR_NONE)
            first = *err;
        if (err->code == ERROR_CANCELLED)
            break;
        error_clear(err);
    }
    settle_debts(config);
    lock_release(lock);
    *err = first;
    return first.code == ERROR_NONE;
}
