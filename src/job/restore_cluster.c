/*
 * restore_cluster.c - which of the clusters in a repository is to be restored
 */
#include "job/restore_cluster.h"

#include <inttypes.h>
#include <stdlib.h>

#include "job/restore_target.h"
#include "pgvigil/clock.h"
#include "pgvigil/clusters.h"
#include "pgvigil/layout.h"
#include "pgvigil/log.h"
#include "pgvigil/process.h"

/* What is asked for, and what is known. */
struct choosing {
    struct repository *repository;
    const struct restore_request *request;
    struct catalog *catalog; /* of the cluster that serves best so far; or NULL */
};

bool restore_cluster_hint_others(const struct repository *repository, struct error *err)
{
    if (!repository->sibling || (err->code != ERROR_NEGATIVE && err->code != ERROR_INTEGRITY))
        return false;
    return error_hint(err,
                      "%s%sbackups are looked for in repository \"%s\" alone: where another one has"
                      " one that serves, --repository restores from there",
                      err->hint, err->hint[0] != '\0' ? "; " : "", repository->name);
}

bool restore_cluster_may_serve(const struct restore_request *request,
                               const struct backup_info *backup)
{
    if (request->backup != 0)
        return backup->run == request->backup;
    return request->target != RESTORE_TIME || backup->stop_time < restore_target_beyond(request);
}

static const struct backup_info *newest_of(const struct catalog *catalog,
                                           const struct restore_request *request)
{
    const struct backup_info *newest = NULL;

    for (size_t i = 0; i < catalog->count; i++) {
        const struct backup_info *backup = catalog->backups[i];

        if (restore_cluster_may_serve(request, backup) &&
            (newest == NULL || backup->stop_time > newest->stop_time))
            newest = backup;
    }
    return newest;
}

/* The backup asked for must not be passed over because it is damaged; others are reported. */
static bool look_at_damage(const struct catalog *catalog, const struct restore_request *request,
                           struct error *err)
{
    for (size_t i = 0; i < catalog->damaged_count; i++) {
        if (catalog->damaged[i].run == request->backup) {
            *err = catalog->damaged[i].error;
            return false;
        }
        log_error(LOG_WARNING, &catalog->damaged[i].error);
    }
    return true;
}

/* None of those that can be read fits, but a damaged one may have. */
static bool refuse_damaged(const struct choosing *choosing, struct error *err)
{
    const struct catalog *catalog = choosing->catalog;
    char target[RESTORE_TARGET_TEXT_SIZE], run[CLOCK_COMPACT_SIZE];

    error_set(err, ERROR_INTEGRITY,
              "there is no backup of cluster \"%s\" in repository \"%s\" that is sound and serves "
              "to restore to %s",
              choosing->repository->cluster, choosing->repository->name,
              restore_target_text(choosing->request, target));
    error_detail(err, "%zu of its backups are damaged; the first is %s", catalog->damaged_count,
                 layout_run_text(catalog->damaged[0].run, run));
    return error_hint(err, "is there another repository (--repository)?");
}

static bool refuse_no_backup(const struct choosing *choosing, struct error *err)
{
    const struct restore_request *request = choosing->request;
    const struct catalog *catalog = choosing->catalog;
    const struct backup_info *earliest = NULL;
    char text[CLOCK_TEXT_SIZE], target[RESTORE_TARGET_TEXT_SIZE], run[CLOCK_COMPACT_SIZE];

    if (request->backup != 0) {
        error_set(err, ERROR_NEGATIVE, "there is no backup %s in repository \"%s\"",
                  layout_run_text(request->backup, run), choosing->repository->name);
        return error_hint(err, "`%s list` shows the backups that there are", process_command());
    }
    if (catalog && catalog->damaged_count > 0)
        return refuse_damaged(choosing, err);
    for (size_t i = 0; catalog && i < catalog->count; i++)
        if (earliest == NULL || catalog->backups[i]->stop_time < earliest->stop_time)
            earliest = catalog->backups[i];
    if (earliest == NULL) {
        error_set(err, ERROR_NEGATIVE, "there is no backup of cluster \"%s\" in repository \"%s\"",
                  choosing->repository->cluster, choosing->repository->name);
        error_hint(err,
                   "is this the right configuration and repository? `%s list` shows what there is",
                   process_command());
        clusters_hint(choosing->repository, err);
        return false;
    }
    clock_format_local(earliest->stop_time, text);
    error_set(err, ERROR_NEGATIVE, "cannot restore to %s: no backup ended before it",
              restore_target_text(request, target));
    error_detail(err, "the first backup in repository \"%s\", %s, ended at %s",
                 choosing->repository->name, layout_run_text(earliest->run, run), text);
    return error_hint(err, "the earliest moment that can be restored is --target-time '%s'", text);
}

/* Of the clusters in the repository the one whose newest fitting backup is the newest. */
static bool choose_among(struct choosing *choosing, const uint64_t *identifiers, size_t count,
                         struct error *err)
{
    const struct backup_info *best = NULL;

    for (size_t i = 0; i < count; i++) {
        const struct backup_info *newest;
        struct catalog *catalog;

        repository_select(choosing->repository, identifiers[i]);
        if (!catalog_read(choosing->repository, &catalog, err))
            return false;
        if (!look_at_damage(catalog, choosing->request, err)) {
            catalog_free(catalog);
            return false;
        }
        newest = newest_of(catalog, choosing->request);
        /* Without any that fits, the last cluster looked at serves for the refusal. */
        if (best == NULL || (newest != NULL && newest->stop_time > best->stop_time)) {
            catalog_free(choosing->catalog);
            choosing->catalog = catalog;
            best = newest;
        } else {
            catalog_free(catalog);
        }
    }
    if (best == NULL)
        return refuse_no_backup(choosing, err);
    repository_select(choosing->repository, best->system_identifier);
    if (count > 1)
        log_info("repository \"%s\" holds %zu clusters of this name; restoring system identifier"
                 " %" PRIu64,
                 choosing->repository->name, count, best->system_identifier);
    return true;
}

bool restore_cluster_choose(struct repository *repository, const struct restore_request *request,
                            struct catalog **catalog, struct error *err)
{
    struct choosing choosing = {.repository = repository, .request = request};
    uint64_t *identifiers;
    size_t count;
    bool ok;

    if (!repository_system_identifiers(repository, &identifiers, &count, err))
        return false;
    ok = choose_among(&choosing, identifiers, count, err);
    free(identifiers);
    *catalog = choosing.catalog;
    return ok || restore_cluster_hint_others(repository, err);
}
