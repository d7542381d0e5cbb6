/* copy.c - bringing repositories level */
#include "pgvigil/copy.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/backup_info.h"
#include "pgvigil/clusters.h"
#include "pgvigil/copy_plan.h"
#include "pgvigil/debt.h"
#include "pgvigil/layout.h"
#include "pgvigil/lock.h"
#include "pgvigil/log.h"
#include "pgvigil/marks.h"
#include "pgvigil/mem.h"
#include "pgvigil/object_copy.h"
#include "pgvigil/outage.h"
#include "pgvigil/process.h"
#include "pgvigil/progress.h"
#include "pgvigil/refs.h"
#include "pgvigil/runs.h"
#include "pgvigil/wal_archive.h"
#include "pgvigil/workers.h"

/* One source and one target. What other sources may help out with are the source's siblings. */
struct copying {
    struct repository *from, *to;
    int jobs;
    struct copy_result *result;
    struct error failure; /* the first object or backup that had to be left out; ERROR_NONE: none */
};

/* Is it a matter of this one object, and no reason to give up the rest? */
static bool is_of_object(const struct error *err)
{
    return err->code == ERROR_INTEGRITY || err->code == ERROR_NOT_FOUND;
}

/* From the source or, where it is missing or damaged there, from another one. */
static bool copy_object(const struct copying *copying, const char *name, struct error *err)
{
    struct error later = ERROR_INIT;

    if (object_copy(copying->from, copying->to, name, err))
        return true;
    for (struct repository *other = copying->from->sibling; other && is_of_object(err);
         other = other->sibling)
        if (object_copy(other, copying->to, name, &later)) {
            log_warning("%s; repository \"%s\" had it", err->message, other->name);
            error_clear(err);
            return true;
        }
    return false;
}

/* Several objects on their way at once. */
struct batch {
    const struct copying *copying;
    const struct copy_objects *objects;
    atomic_size_t next;
    pthread_mutex_t lock; /* guards what follows */
    uint64_t copied, bytes, failed;
    struct error failure; /* of the first object that could not be copied */
};

/* One object came, or did not for a reason of its own (`why`). */
static void batch_note(struct batch *batch, size_t i, const struct error *why)
{
    pthread_mutex_lock(&batch->lock);
    if (why->code == ERROR_NONE) {
        batch->copied++;
        batch->bytes += batch->objects->sizes[i];
    } else if (batch->failed++ == 0) {
        batch->failure = *why;
    }
    pthread_mutex_unlock(&batch->lock);
    progress_add(batch->objects->sizes[i]);
}

static bool copy_some(struct workers *workers, int number, void *context, struct error *err)
{
    struct batch *batch = context;
    size_t i;

    (void)number;
    while ((i = atomic_fetch_add(&batch->next, 1)) < batch->objects->count) {
        if (!workers_check(workers, err))
            return false;
        if (!copy_object(batch->copying, batch->objects->names[i], err) && !is_of_object(err))
            return false;
        batch_note(batch, i, err);
        error_clear(err);
    }
    return true;
}

/* All that can be: *failed counts those that could not, *failure tells of the first of them. False: the
 * source or the target is out of reach, or we are to stop. */
static bool copy_all(const struct copying *copying, const struct copy_objects *objects,
                     uint64_t *failed, struct error *failure, struct error *err)
{
    struct batch batch = {.copying = copying, .objects = objects, .failure = ERROR_INIT};
    size_t jobs = (size_t)copying->jobs < objects->count ? (size_t)copying->jobs : objects->count;

    *failed = 0;
    if (jobs == 0)
        return true;
    pthread_mutex_init(&batch.lock, NULL);
    bool ok = workers_run((int)jobs, copy_some, &batch, err);

    pthread_mutex_destroy(&batch.lock);
    copying->result->objects += batch.copied;
    copying->result->bytes += batch.bytes;
    *failed = batch.failed;
    *failure = batch.failure;
    return ok;
}

static void keep_failure(struct copying *copying, const struct error *failure)
{
    if (copying->failure.code == ERROR_NONE)
        copying->failure = *failure;
    else
        log_error(LOG_WARNING, failure);
}

/* A backup of the plan, and the runs that keep it from being expired meanwhile. */
struct copied_backup {
    const struct backup_info *info;
    struct refs refs;
    struct run *run_from, *run_to;
    bool kept; /* by a person, in the source */
};

/* Promise 3: what is listed is whole. */
static bool check_target(const struct copying *copying, const struct copied_backup *backup,
                         struct error *err)
{
    const struct backup_info *info = backup->info;
    const uint32_t size = info->wal_segment_size;
    bool *lacking = mem_calloc(backup->refs.count, sizeof(*lacking)), complete = false;
    char segment[WAL_NAME_SIZE];
    uint64_t missing;
    size_t count;
    bool ok = refs_find_lacking(copying->to, &backup->refs, lacking, &count, err) &&
              wal_archive_complete(copying->to, info->timeline, info->start_lsn / size,
                                   (info->stop_lsn - 1) / size, size, &complete, &missing, err);

    free(lacking);
    if (!ok || (count == 0 && complete))
        return ok;
    if (count > 0)
        return error_set(err, ERROR_INTEGRITY, "it would lack %zu of its %zu packs", count,
                         backup->refs.count);
    return error_set(err, ERROR_INTEGRITY, "WAL segment %s is not there",
                     wal_segment_name(info->timeline, missing, size, segment));
}

static bool copy_parts(const struct copying *copying, const struct copied_backup *backup,
                       struct error *err)
{
    struct copy_objects parts = {.names = NULL};
    struct error failure;
    uint64_t failed;
    bool ok = copy_plan_parts(copying->to, backup->info, &backup->refs, &parts, err) &&
              copy_all(copying, &parts, &failed, &failure, err);

    copy_plan_free_objects(&parts);
    if (ok && failed > 0) {
        *err = failure;
        ok = false;
    }
    return ok;
}

/* What a person wants to be kept is kept in the copy as well, from its first moment on. */
static bool copy_keep(const struct copying *copying, const struct copied_backup *backup,
                      struct error *err)
{
    enum marks_outcome ignored;

    return !backup->kept || marks_write(copying->to, backup->info->run, MARKS_KEEP, &ignored, err);
}

/* The list of packs comes first: it tells an expire in the target what the packs are for. */
static bool copy_whole(const struct copying *copying, struct copied_backup *backup,
                       struct error *err)
{
    char name[LAYOUT_NAME_SIZE];

    return refs_fetch(copying->from, backup->info->run, backup->info->refs_sha256, &backup->refs,
                      err) &&
           copy_object(copying, layout_refs(backup->info->run, name), err) &&
           copy_parts(copying, backup, err) && check_target(copying, backup, err) &&
           copy_keep(copying, backup, err) && run_check(backup->run_to, err) &&
           copy_object(copying, layout_backup(backup->info->run, name), err);
}

/* A source that cannot be written to is not changed by anybody else either. An expire that was at work in
 * the target before our note was there takes packs that lie there already for such as nobody needs. */
static bool note_runs(const struct copying *copying, struct copied_backup *backup,
                      struct error *err)
{
    struct error ignored = ERROR_INIT;
    bool over;

    if (!run_begin(copying->to, "copy", backup->info->run, &backup->run_to, err) ||
        !runs_await_expire(copying->to, backup->run_to, &over, err) ||
        (!over && !runs_refuse_expire(copying->to, err)))
        return false;
    if (!run_begin(copying->from, "copy", backup->info->run, &backup->run_from, &ignored)) {
        backup->run_from = NULL;
        log_debug("%s", ignored.message);
    }
    return true;
}

static bool copy_backup(struct copying *copying, const struct copy_plan *plan,
                        const struct backup_info *info, struct error *err)
{
    struct copied_backup backup = {
        .info = info, .refs = REFS_INIT, .kept = copy_plan_keeps(plan, info)};
    char run[CLOCK_COMPACT_SIZE];
    bool ok = note_runs(copying, &backup, err) && copy_whole(copying, &backup, err);

    run_end(backup.run_from);
    run_end(backup.run_to);
    refs_free(&backup.refs);
    if (!ok) {
        error_context(err, "could not copy backup %s to repository \"%s\"",
                      layout_run_text(info->run, run), copying->to->name);
        if (!is_of_object(err))
            return false;
        copying->result->backups_left++;
        keep_failure(copying, err);
        error_clear(err);
        return true;
    }
    copying->result->objects += 2; /* the list of packs and backup.json, outside of any batch */
    copying->result->backups++;
    log_debug("backup %s is in repository \"%s\"", layout_run_text(info->run, run),
              copying->to->name);
    return true;
}

/* Then it comes from there, in its turn. */
static bool is_elsewhere(const struct copying *copying, int64_t run)
{
    struct error ignored = ERROR_INIT;
    struct backup_info *info;
    bool is = false;

    for (struct repository *other = copying->from->sibling; !is && other; other = other->sibling) {
        is = backup_info_fetch(other, run, &info, &ignored);
        if (is)
            backup_info_free(info);
    }
    return is;
}

/* Backups of the source of which it cannot be told what they need. */
static void leave_out_damaged(struct copying *copying, const struct copy_plan *plan)
{
    for (size_t i = 0; i < plan->catalog->damaged_count; i++) {
        const struct catalog_damage *damage = &plan->catalog->damaged[i];

        if (!plan->lack_damaged[i] || is_elsewhere(copying, damage->run)) {
            log_error(LOG_WARNING, &damage->error);
            continue;
        }
        copying->result->backups_left++;
        keep_failure(copying, &damage->error);
    }
}

static bool copy_plan(struct copying *copying, const struct copy_plan *plan, struct error *err)
{
    struct error failure;
    uint64_t failed;

    leave_out_damaged(copying, plan);
    if (plan->parted.code != ERROR_NONE)
        keep_failure(copying, &plan->parted);
    if (plan->conflicts > 0)
        keep_failure(copying, &plan->conflict);
    copying->result->backups_left += plan->conflicts;
    if (!copy_all(copying, &plan->wal, &failed, &failure, err))
        return false;
    if (failed > 0)
        keep_failure(copying, &failure);
    copying->result->wal_left += failed;
    for (size_t i = 0; i < plan->backup_count; i++)
        if (!copy_backup(copying, plan, plan->backups[i], err))
            return false;
    return true;
}

static bool copy_cluster(struct copying *copying, struct error *err)
{
    struct copy_plan plan;
    char *what = mem_printf("copying to %s", copying->to->name);
    bool ok;

    progress_start("comparing repositories", 0);
    ok = copy_plan_read(copying->from, copying->to, &plan, err);
    if (ok) {
        progress_start(what, plan.bytes);
        ok = copy_plan(copying, &plan, err);
        copy_plan_free(&plan);
    }
    progress_stop();
    free(what);
    return ok;
}

static bool level(struct copying *copying, struct error *err)
{
    uint64_t *identifiers;
    size_t count;
    bool ok = clusters_identifiers(copying->from, &identifiers, &count, err);

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

/* The repositories that can be copied from, opened. */
struct sources {
    struct repository **opened;
    size_t count;
};

static void close_sources(struct sources *sources)
{
    for (size_t i = 0; i < sources->count; i++) {
        sources->opened[i]->sibling = NULL;
        repository_close(sources->opened[i]);
    }
    free(sources->opened);
}

/* The one asked for, or all that open and are others than the target: at least one. */
static bool open_sources(const struct config *config, const struct config_repository *from,
                         const struct config_repository *to, struct sources *sources,
                         struct error *err)
{
    struct error why = ERROR_INIT;

    *sources = (struct sources){.count = 0};
    sources->opened = mem_calloc(config->repository_count, sizeof(struct repository *));
    error_set(err, ERROR_USAGE, "there is no other repository to copy from");
    for (size_t i = 0; i < config->repository_count; i++) {
        const struct config_repository *one = &config->repositories[i];

        if (one == to || (from && one != from))
            continue;
        if (outage_open(config, one, &sources->opened[sources->count], &why)) {
            sources->count++;
            continue;
        }
        *err = why;
        if (!from && config->repository_count > 2)
            log_error(LOG_WARNING, &why);
    }
    if (sources->count > 0) {
        error_clear(err);
        return true;
    }
    free(sources->opened);
    return false;
}

/* All the others become the siblings of this one. */
static void put_first(const struct sources *sources, size_t first)
{
    struct repository *last = sources->opened[first];

    for (size_t i = 0; i < sources->count; i++)
        if (i != first) {
            last->sibling = sources->opened[i];
            last = last->sibling;
        }
    last->sibling = NULL;
}

static bool copy_between(const struct config *config, const struct copy_request *request,
                         struct repository *from, struct repository *to, copy_report_fn report,
                         void *context, struct error *err)
{
    struct copy_result result = {.from = from->name, .to = to->name};
    struct copying copying = {.from = from,
                              .to = to,
                              .jobs = request->jobs > 0 ? request->jobs : config->backup.jobs,
                              .result = &result,
                              .failure = ERROR_INIT};

    if (!level(&copying, err))
        return false;
    report(&result, context);
    *err = copying.failure;
    return copying.failure.code == ERROR_NONE;
}

/* What one source cannot give another one may: the first failure is told at the end. */
static bool copy_to(const struct config *config, const struct copy_request *request,
                    const struct config_repository *from, const struct config_repository *to,
                    copy_report_fn report, void *context, struct error *err)
{
    struct error first = ERROR_INIT;
    struct repository *target;
    struct sources sources;

    if (!open_sources(config, from, to, &sources, err))
        return false;
    if (!repository_open(config, to, &target, err)) {
        close_sources(&sources);
        return false;
    }
    outage_end(config, to->name); /* it answers: what it is owed is looked at in the end */
    for (size_t i = 0; i < sources.count && first.code != ERROR_CANCELLED; i++) {
        put_first(&sources, i);
        if (!copy_between(config, request, sources.opened[i], target, report, context, err) &&
            (first.code == ERROR_NONE || err->code == ERROR_CANCELLED))
            first = *err;
    }
    repository_close(target);
    close_sources(&sources);
    *err = first;
    return first.code == ERROR_NONE;
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
            !clusters_identifiers(set.members[i].repository, &identifiers, &count, &err))
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
    for (size_t i = 0; i < config->repository_count && first.code != ERROR_CANCELLED; i++) {
        const struct config_repository *one = &config->repositories[i];

        if (one == from || (to && one != to))
            continue;
        if (!copy_to(config, request, from, one, report, context, err) &&
            (first.code == ERROR_NONE || err->code == ERROR_CANCELLED))
            first = *err;
    }
    if (first.code != ERROR_CANCELLED)
        settle_debts(config);
    lock_release(lock);
    *err = first;
    return first.code == ERROR_NONE;
}
