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
#include "pgvigil/mem.h"
#include "pgvigil/process.h"
#include "pgvigil/repository_ask.h"

/* What is asked for, and what is known. */
struct choosing {
    struct repository *repository;
    char *where; /* all that are asked */
    const struct restore_request *request;
    struct catalog *catalog; /* of the cluster that serves best so far; or NULL */
};

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

    error_set(
        err, ERROR_INTEGRITY,
        "there is no backup of cluster \"%s\" in %s that is sound and serves to restore to %s",
        choosing->repository->cluster, choosing->where,
        restore_target_text(choosing->request, target));
    error_detail(err, "damaged backups: %zu; the first is %s", catalog->damaged_count,
                 layout_run_text(catalog->damaged[0].run, run));
    return choosing->repository->sibling == NULL &&
           error_hint(err, "is there another repository (--repository)?");
}

static bool refuse_no_backup(const struct choosing *choosing, struct error *err)
{
    const struct restore_request *request = choosing->request;
    const struct catalog *catalog = choosing->catalog;
    const struct backup_info *earliest = NULL;
    char text[CLOCK_TEXT_SIZE], target[RESTORE_TARGET_TEXT_SIZE], run[CLOCK_COMPACT_SIZE];

    if (request->backup != 0) {
        error_set(err, ERROR_NEGATIVE, "there is no backup %s in %s",
                  layout_run_text(request->backup, run), choosing->where);
        return error_hint(err, "`%s list` shows the backups that there are", process_command());
    }
    if (catalog && catalog->damaged_count > 0)
        return refuse_damaged(choosing, err);
    for (size_t i = 0; catalog && i < catalog->count; i++)
        if (earliest == NULL || catalog->backups[i]->stop_time < earliest->stop_time)
            earliest = catalog->backups[i];
    if (earliest == NULL) {
        error_set(err, ERROR_NEGATIVE, "there is no backup of cluster \"%s\" in %s",
                  choosing->repository->cluster, choosing->where);
        error_hint(err,
                   "is this the right configuration and repository? `%s list` shows what there is",
                   process_command());
        clusters_hint(choosing->repository, err);
        return false;
    }
    clock_format_local(earliest->stop_time, text);
    error_set(err, ERROR_NEGATIVE, "cannot restore to %s: no backup ended before it",
              restore_target_text(request, target));
    error_detail(err, "the first backup in %s, %s, ended at %s", choosing->where,
                 layout_run_text(earliest->run, run), text);
    return error_hint(err, "the earliest moment that can be restored is --target-time '%s'", text);
}

/* Of the clusters in the repositories the one whose newest fitting backup is the newest. */
static bool choose_among(struct choosing *choosing, const uint64_t *identifiers, size_t count,
                         struct error *err)
{
    const struct backup_info *best = NULL;

    for (size_t i = 0; i < count; i++) {
        const struct backup_info *newest;
        struct catalog *catalog;

        repository_select(choosing->repository, identifiers[i]);
        if (!catalog_read_all(choosing->repository, &catalog, err))
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
        log_info("%zu clusters of this name are in %s; restoring system identifier %" PRIu64, count,
                 choosing->where, best->system_identifier);
    return true;
}

struct identifiers {
    uint64_t *identifiers;
    size_t count;
};

static bool is_among(const struct identifiers *all, uint64_t identifier)
{
    size_t i = 0;

    while (i < all->count && all->identifiers[i] != identifier)
        i++;
    return i < all->count;
}

static bool add_identifiers(struct repository *repository, void *context, struct error *err)
{
    struct identifiers *all = context;
    uint64_t *more;
    size_t count;

    if (!clusters_identifiers(repository, &more, &count, err))
        return false;
    all->identifiers =
        mem_realloc(all->identifiers, (all->count + count) * sizeof *all->identifiers);
    for (size_t i = 0; i < count; i++)
        if (!is_among(all, more[i]))
            all->identifiers[all->count++] = more[i];
    free(more);
    return true;
}

/* Of a cluster that only this sibling knows. */
static void warn_of_newer(struct choosing *choosing, struct repository *sibling,
                          const struct backup_info *chosen)
{
    const struct backup_info *newest;
    struct error err = ERROR_INIT;
    struct catalog *catalog;
    char run[CLOCK_COMPACT_SIZE], time[CLOCK_TEXT_SIZE];

    if (!catalog_read(sibling, &catalog, &err)) {
        log_debug("%s", err.message);
        return;
    }
    newest = newest_of(catalog, choosing->request);
    if (newest != NULL && newest->stop_time > chosen->stop_time) {
        log_warning("repository \"%s\" has a newer backup, %s of %s, of another cluster of this "
                    "name, with system identifier %" PRIu64,
                    sibling->name, layout_run_text(newest->run, run),
                    clock_format_local(newest->stop_time, time), newest->system_identifier);
        log_hint(
            "if the cluster was made anew or upgraded while repository \"%s\" was out of reach, "
            "--repository %s restores what it is now",
            choosing->repository->name, sibling->name);
    }
    catalog_free(catalog);
}

/* What only others have may be the cluster of another host that took the same name, or what has become of
 * this one. */
static void look_at_others(struct choosing *choosing, const struct identifiers *known)
{
    struct repository *repository = choosing->repository, *one = repository;
    const struct backup_info *chosen = newest_of(choosing->catalog, choosing->request);
    struct error ignored = ERROR_INIT;

    while (choosing->request->backup == 0 && (one = repository_ask_next(one)) != NULL) {
        struct identifiers its = {.count = 0};

        add_identifiers(one, &its, &ignored);
        for (size_t i = 0; i < its.count; i++) {
            if (is_among(known, its.identifiers[i]))
                continue;
            repository_select(repository, its.identifiers[i]);
            warn_of_newer(choosing, one, chosen);
        }
        free(its.identifiers);
    }
    repository_select(repository, chosen->system_identifier);
}

bool restore_cluster_choose(struct repository *repository, const struct restore_request *request,
                            struct catalog **catalog, struct error *err)
{
    struct choosing choosing = {.repository = repository, .request = request};
    struct identifiers all = {.count = 0};
    bool ok = add_identifiers(repository, &all, err);

    if (ok && all.count == 0)
        ok = repository_ask_each(repository, "backups and WAL", add_identifiers, &all, err);

    choosing.where = repository_ask_names(repository);
    ok = ok && choose_among(&choosing, all.identifiers, all.count, err);
    if (ok)
        look_at_others(&choosing, &all);
    free(choosing.where);
    free(all.identifiers);
    *catalog = choosing.catalog;
    return ok;
}
