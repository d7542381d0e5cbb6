/*
 * restore.c - a restore, from the choice of the backup to a directory that starts
 */
#include "pgvigil/restore.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "job/restore_begin.h"
#include "job/restore_blocks.h"
#include "job/restore_config.h"
#include "job/restore_delta.h"
#include "job/restore_instead.h"
#include "job/restore_manifest.h"
#include "job/restore_newer.h"
#include "job/restore_place.h"
#include "job/restore_plan.h"
#include "job/restore_repositories.h"
#include "job/restore_target.h"
#include "job/restore_tree.h"
#include "job/restore_worker.h"
#include "pgvigil/clock.h"
#include "pgvigil/files.h"
#include "pgvigil/keyring.h"
#include "pgvigil/layout.h"
#include "pgvigil/log.h"
#include "pgvigil/manifest.h"
#include "pgvigil/marks.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"
#include "pgvigil/progress.h"
#include "pgvigil/refs.h"
#include "pgvigil/repository.h"
#include "pgvigil/run.h"

struct restoring {
    const struct config *config;
    const struct restore_request *request;
    int jobs;
    struct repository *repository;
    struct restore_target_choice choice;
    struct restore_place place;
    struct run **runs; /* one in each repository that could be written to */
    size_t run_count;
    struct manifest *manifest;
    struct refs refs;
    struct restore_plan plan;
    struct restore_tree *tree; /* NULL as long as nothing has been written */
    struct restore_blocks blocks;
    uint64_t kept;   /* bytes that were there */
    char *wal_aside; /* or NULL */
    char *temporary; /* a directory in place of the state directory, or NULL */
    int temporary_lock;
};

static void warn_of_damage(const struct backup_info *backup)
{
    char run[CLOCK_COMPACT_SIZE];

    if (backup->page_errors == 0)
        return;
    log_warning("backup %s has %" PRIu64 " page%s that had a wrong checksum when it was taken; the"
                " first: %s",
                layout_run_text(backup->run, run), backup->page_errors,
                backup->page_errors == 1 ? "" : "s",
                backup->page_error_list_count > 0 ? backup->page_error_list[0] : "not known");
}

/* An expire that began before our note was there does not know of us; but it removes only what was
 * marked long before. */
static void warn_of_mark(const struct restoring *restoring)
{
    int64_t backup = restoring->choice.backup->run;
    struct error err = ERROR_INIT;
    char id[CLOCK_COMPACT_SIZE];
    struct marks *marks;

    if (!marks_read(restoring->repository, &marks, &err)) {
        log_error(LOG_WARNING, &err);
        return;
    }
    if (marks_expired(marks, backup)) {
        error_set(&err, ERROR_STORE,
                  "backup %s is marked for removal from repository \"%s\", and so may be the WAL "
                  "behind it",
                  layout_run_text(backup, id), restoring->repository->name);
        error_hint(&err, "`%s keep %s` holds it", process_command(), id);
        log_error(LOG_WARNING, &err);
    }
    marks_free(marks);
}

/* Keeps a later expire from taking away what is being read. A repository that cannot be written to
 * (a mounted snapshot) is not changed by anybody else either. */
static void note_run(struct restoring *restoring, struct repository *repository)
{
    struct error err = ERROR_INIT;

    if (run_begin(repository, "restore", restoring->choice.backup->run,
                  &restoring->runs[restoring->run_count], &err)) {
        restoring->run_count++;
        return;
    }
    error_context(&err, "the restore is not noted in repository \"%s\"", repository->name);
    log_error(LOG_WARNING, &err);
}

/* Each of them may be read from. */
static void note_runs(struct restoring *restoring)
{
    struct repository *first = restoring->repository;
    size_t count = 1;

    for (struct repository *one = first->sibling; one != NULL; one = one->sibling)
        count++;
    restoring->runs = mem_calloc(count, sizeof(struct run *));
    note_run(restoring, first);
    for (struct repository *one = first->sibling; one != NULL; one = one->sibling) {
        if (atomic_load(&one->was_silent))
            continue;
        store_set_deadline(one->store, clock_monotonic() + RESTORE_REPOSITORIES_PATIENCE);
        note_run(restoring, one);
        store_set_deadline(one->store, 0);
    }
}

/* Each link's place is compared when it is made; here, that none is missing. */
static bool check_tablespaces(const struct restoring *restoring, struct error *err)
{
    const struct restore_plan *plan = &restoring->plan;
    size_t links = 0;

    for (size_t i = 0; i < plan->directory_count; i++)
        links += plan->directories[i].link != NULL;
    return links == restoring->place.count ||
           error_set(err, ERROR_INTEGRITY,
                     "manifest and backup.json disagree: %zu and %zu tablespaces", links,
                     restoring->place.count);
}

static bool fetch_manifest(struct restoring *restoring, struct error *err)
{
    const struct backup_info *backup = restoring->choice.backup;

    if (restoring->config->stateless &&
        !files_temporary_directory(&restoring->temporary, &restoring->temporary_lock, err))
        return false;
    return manifest_fetch(restoring->repository, backup->run, backup->manifest_sha256,
                          restoring->temporary ? restoring->temporary
                                               : restoring->config->state_dir,
                          &restoring->manifest, err);
}

/* All that can be found out before anything is written. */
static bool prepare(struct restoring *restoring, struct error *err)
{
    const struct backup_info *backup;

    if (!restore_repositories_open(restoring->config, restoring->request, &restoring->repository,
                                   err))
        return false;
    if (restoring->request->mode == RESTORE_DELTA)
        restore_delta_ship(restoring->config, restoring->repository, restoring->request->to);
    if (!restore_target_choose(restoring->repository, restoring->request, restoring->jobs,
                               &restoring->choice, err))
        return false;
    restore_repositories_put_first(&restoring->repository, restoring->choice.repository);
    backup = restoring->choice.backup;
    if (!restore_place_choose(restoring->config, restoring->request, backup, &restoring->place,
                              err))
        return false;
    warn_of_damage(backup);
    note_runs(restoring);
    warn_of_mark(restoring);
    restore_newer_warn(restoring->repository, restoring->request, &restoring->choice,
                       restoring->jobs);
    return fetch_manifest(restoring, err) &&
           restore_begin_check(restoring->repository, backup, manifest_meta(restoring->manifest),
                               err) &&
           refs_fetch(restoring->repository, backup->run, backup->refs_sha256, &restoring->refs,
                      err) &&
           restore_plan_read(&restoring->plan, restoring->manifest, err) &&
           check_tablespaces(restoring, err);
}

/* What the mark says to people. The caller frees it. */
static char *mark_text(const struct restoring *restoring)
{
    char run[CLOCK_COMPACT_SIZE], target[RESTORE_TARGET_TEXT_SIZE];

    if (restoring->place.mode == RESTORE_DELTA)
        return mem_strdup("pgvigil restore --delta is writing here, or did not get to its end.\n"
                          "It can be run again, with --delta; pg_wal/before-* is kept.");
    return mem_printf(
        "pgvigil restore is writing here, or did not get to its end: backup %s to %s.\n"
        "It can be run again, and begins by removing what is here.",
        layout_run_text(restoring->choice.backup->run, run),
        restore_target_text(restoring->request, target));
}

static bool make_tree(struct restoring *restoring, struct error *err)
{
    char *text = mark_text(restoring);
    bool ok = restore_tree_new(&restoring->place, text, &restoring->tree, err);

    free(text);
    if (ok && restoring->place.mode == RESTORE_DELTA)
        ok = restore_delta_begin(&restoring->place, restoring->tree, &restoring->plan,
                                 &restoring->wal_aside, err);
    return ok && restore_plan_make(&restoring->plan, restoring->tree, err);
}

static bool write_blocks(struct restoring *restoring, struct error *err)
{
    bool ok;

    if (!restore_blocks_read(&restoring->plan, restoring->repository, &restoring->refs,
                             restoring->tree, restoring->place.count + 1, restoring->jobs,
                             &restoring->blocks, err) ||
        !restore_tree_check_space(restoring->tree, restoring->blocks.root_bytes, err))
        return false;
    progress_start("restore", restoring->blocks.bytes);
    ok = restore_worker_run(&restoring->plan, &restoring->blocks, restoring->repository,
                            &restoring->refs, restoring->tree, restoring->jobs, &restoring->kept,
                            err);
    if (!ok)
        progress_stop();
    return ok;
}

static bool complete(struct restoring *restoring, const struct restore_config *settings,
                     struct error *err)
{
    struct restore_manifest_files written = {.count = 0};
    bool ok;

    progress_stage("syncing");
    ok = restore_config_write(settings, &written, err) &&
         restore_manifest_write(restoring->tree, &restoring->plan, &written,
                                restoring->choice.backup, err) &&
         restore_plan_set_modes(&restoring->plan, restoring->tree, err) &&
         restore_seams_put(&restoring->choice.seams, restoring->repository, restoring->tree, err) &&
         process_check(err) && restore_tree_finish(restoring->tree, err);
    progress_stop();
    return ok;
}

static bool write_all(struct restoring *restoring, struct restore_result *result, struct error *err)
{
    const struct restore_config settings = {.config = restoring->config,
                                            .request = restoring->request,
                                            .choice = &restoring->choice,
                                            .place = &restoring->place,
                                            .plan = &restoring->plan,
                                            .meta = manifest_meta(restoring->manifest),
                                            .tree = restoring->tree};

    if (!write_blocks(restoring, err) || !complete(restoring, &settings, err))
        return false;
    *result = (struct restore_result){.backup = restoring->choice.backup->run,
                                      .major = restoring->choice.backup->version_num / 10000,
                                      .timeline = restoring->choice.timeline,
                                      .bytes = restoring->blocks.bytes,
                                      .kept = restoring->kept,
                                      .wal_aside = restoring->wal_aside,
                                      .archiving_off = restore_config_archiving_off(&settings),
                                      .passphrase =
                                          keyring_took_environment(restoring->repository->keyring)};
    memcpy(result->missing, restoring->choice.missing, sizeof result->missing);
    if (restoring->request->target == RESTORE_LATEST && restoring->place.mode == RESTORE_DELTA)
        result->unarchived =
            restore_delta_unarchived(restoring->place.path, restoring->choice.missing,
                                     restoring->choice.backup->system_identifier);
    restoring->wal_aside = NULL;
    if (restoring->plan.configuration)
        result->configuration = mem_printf("%s/" RESTORE_PLAN_CONFIGURATION, restoring->place.path);
    return true;
}

static void remove_temporary(struct restoring *restoring)
{
    struct error err = ERROR_INIT;

    if (!restoring->temporary)
        return;
    if (!files_remove_tree(restoring->temporary, &err))
        log_error(LOG_WARNING, &err);
    close(restoring->temporary_lock);
    free(restoring->temporary);
}

static void free_all(struct restoring *restoring)
{
    free(restoring->wal_aside);
    restore_blocks_free(&restoring->blocks);
    restore_tree_free(restoring->tree);
    restore_plan_free(&restoring->plan);
    refs_free(&restoring->refs);
    manifest_free(restoring->manifest);
    remove_temporary(restoring);
    for (size_t i = 0; i < restoring->run_count; i++)
        run_end(restoring->runs[i]);
    free(restoring->runs);
    restore_place_free(&restoring->place);
    restore_target_free(&restoring->choice);
    repository_close(restoring->repository);
}

/* Where the repository could not be written to, an expire did not know of us. */
static bool was_removed(const struct restoring *restoring)
{
    const struct repository *repository = restoring->repository;
    char name[LAYOUT_NAME_SIZE];
    char *full =
        repository_object_name(repository, layout_backup(restoring->choice.backup->run, name));
    struct store_info info;
    struct error err = ERROR_INIT;
    bool there = store_stat(repository->store, full, &info, &err);

    free(full);
    return !there && err.code == ERROR_NOT_FOUND;
}

/* What damage costs, where it is not that of one WAL segment; or why it is none. */
static void tell_cost(const struct restoring *restoring, struct error *err)
{
    char run[CLOCK_COMPACT_SIZE];

    layout_run_text(restoring->choice.backup->run, run);
    if (was_removed(restoring)) {
        error_detail(err,
                     "backup %s has been removed from repository \"%s\" by an expire meanwhile",
                     run, restoring->repository->name);
        error_hint(err, "restore a newer one; `%s list` shows what there is", process_command());
        return;
    }
    error_detail(err, "backup %s cannot be restored from repository \"%s\"", run,
                 restoring->repository->name);
}

/* How to go on where the backup cannot be had. */
static void hint_backup(const struct restoring *restoring, struct error *err)
{
    const struct restore_instead instead = {.repository = restoring->repository,
                                            .request = restoring->request,
                                            .choice = &restoring->choice,
                                            .refs = &restoring->refs,
                                            .jobs = restoring->jobs,
                                            .begun = restoring->tree != NULL};

    restore_instead_hint(&instead, err);
}

/* Once the place is chosen, what is damaged is the backup's. */
static void explain_damage(const struct restoring *restoring, struct error *err)
{
    const bool told = err->detail[0] != '\0';

    if (restoring->choice.backup == NULL)
        return;
    if (!told)
        tell_cost(restoring, err);
    if (restoring->place.path != NULL && err->hint[0] == '\0')
        hint_backup(restoring, err);
    else if (!told && err->hint[0] == '\0')
        error_hint(err,
                   "--backup chooses another one, --repository another place; `%s list` shows what "
                   "there is",
                   process_command());
}

/* It costs nothing to ask them, which what else there is to do may. */
static void hint_unasked(const struct restoring *restoring, struct error *err)
{
    if (restoring->request->repository != NULL && restoring->config->repository_count > 1)
        error_hint(err, "without --repository the other repositories are asked for it, too%s%s",
                   err->hint[0] != '\0' ? "; else " : "", err->hint);
}

static void explain(const struct restoring *restoring, struct error *err)
{
    if (err->code == ERROR_INTEGRITY) {
        explain_damage(restoring, err);
        hint_unasked(restoring, err);
    }
    if (err->code == ERROR_CANCELLED && restoring->tree == NULL)
        error_hint(err, "nothing was written to \"%s\"", restoring->request->to);
    if (restoring->tree != NULL && err->hint[0] == '\0')
        error_hint(err, "\"%s\" cannot be started; running the restore again %s",
                   restoring->place.path,
                   restoring->request->mode == RESTORE_DELTA ? "with --delta goes on from there"
                                                             : "removes what is in it");
}

bool restore_run(const struct config *config, const struct restore_request *request,
                 struct restore_result *result, struct error *err)
{
    struct restoring restoring = {.config = config,
                                  .request = request,
                                  .jobs = request->jobs > 0 ? request->jobs : config->backup.jobs};
    bool ok = prepare(&restoring, err) && make_tree(&restoring, err) &&
              write_all(&restoring, result, err);

    if (!ok)
        explain(&restoring, err);
    free_all(&restoring);
    return ok;
}

void restore_free_result(struct restore_result *result)
{
    free(result->configuration);
    free(result->wal_aside);
    free(result->unarchived);
    *result = (struct restore_result){.backup = 0};
}
