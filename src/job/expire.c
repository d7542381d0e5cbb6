/* expire.c - applying retention */
#include "pgvigil/expire.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "job/expire_debts.h"
#include "job/expire_inventory.h"
#include "job/expire_sweep.h"
#include "pgvigil/clock.h"
#include "pgvigil/clusters.h"
#include "pgvigil/digest.h"
#include "pgvigil/lock.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"
#include "pgvigil/units.h"

#define SKEW_MAXIMUM (15 * 60 * CLOCK_SECOND)
/* For two that begin at the same moment: */
#define TOGETHER (10 * CLOCK_SECOND)
#define ATTEMPTS 4
#define PAUSE_MAXIMUM (4 * CLOCK_SECOND)

/* One cluster in one repository. */
struct expiring {
    struct repository *repository;
    struct run *run; /* NULL: dry run */
    int64_t now;
    bool collided; /* with another expire, which has just begun as well */
    struct expire_inventory inventory;
    struct expire_cluster *cluster;
};

/* The time of the begin note, which has just been stored: no host's clock judges ages. But where two
 * clocks are far apart one of them is wrong, and old might look what is not. */
static bool ask_clock(struct expiring *expiring, struct error *err)
{
    char store[CLOCK_TEXT_SIZE], host[CLOCK_TEXT_SIZE];
    int64_t here;

    if (!run_began(expiring->run, &expiring->now, err))
        return false;
    here = clock_now();
    if (expiring->now - here < SKEW_MAXIMUM && here - expiring->now < SKEW_MAXIMUM)
        return true;
    error_set(err, ERROR_STORE,
              "nothing is removed from repository \"%s\": its clock says %s, this host's %s",
              expiring->repository->name, clock_format(expiring->now, store),
              clock_format(here, host));
    return error_hint(err, "set the one that is wrong");
}

static bool begin(struct expiring *expiring, enum expire_mode mode, struct error *err)
{
    expiring->now = clock_now();
    return mode == EXPIRE_DRY_RUN ||
           (run_begin(expiring->repository, "expire", 0, &expiring->run, err) &&
            ask_clock(expiring, err));
}

/* -- who else is at work ------------------------------------------------------------------------ */

static char *describe_run(const struct runs_entry *entry, const char *what)
{
    char id[CLOCK_COMPACT_SIZE], until[CLOCK_TEXT_SIZE];

    return mem_printf("%s (run %s%s%s) is under way; if it was killed, it is waited for until %s",
                      what, layout_run_text(entry->run, id), entry->host[0] ? " on host " : "",
                      entry->host, clock_format_local_up(entry->seen + RUNS_PATIENCE, until));
}

/* They have stored their begin notes and looked for ours, or look for it now: so at most one of us
 * goes on. */
static void find_others(struct expiring *expiring)
{
    const struct runs *runs = &expiring->inventory.runs;
    int64_t own = expiring->run ? run_id(expiring->run) : 0;
    const struct runs_entry *expire = runs_living(runs, "expire", own);
    const struct runs_entry *copy = runs_living(runs, "copy", own);
    const struct runs_entry *verify = runs_living(runs, "verify", own);

    expiring->collided = expiring->run && expire && llabs(expire->began - expiring->now) < TOGETHER;
    if (expire)
        expiring->cluster->postponed = describe_run(expire, "another expire");
    else if (copy)
        expiring->cluster->postponed = describe_run(copy, "a copy");
    else if (verify)
        expiring->cluster->postponed = describe_run(verify, "a repair");
}

/* Two that have begun together may have seen each other, and neither knows whether the other one has; ids and
 * clocks of hosts do not tell either. So each ends, and begins anew after a while of its own. */
static bool step_back(struct expiring *expiring, struct error *err)
{
    uint32_t chance;

    log_info("%s; trying again in a moment", expiring->cluster->postponed);
    free(expiring->cluster->postponed);
    expiring->cluster->postponed = NULL;
    expire_inventory_free(&expiring->inventory);
    expiring->inventory = (struct expire_inventory){.now = 0};
    run_end(expiring->run);
    expiring->run = NULL;
    if (!digest_random(&chance, sizeof(chance), err))
        return false;
    clock_sleep((int64_t)(chance % PAUSE_MAXIMUM));
    return process_check(err);
}

static bool look(struct expiring *expiring, enum expire_mode mode, struct error *err)
{
    for (int attempt = 1;; attempt++) {
        if (!begin(expiring, mode, err) ||
            !expire_inventory_read(expiring->repository, expiring->now, &expiring->inventory, err))
            return false;
        find_others(expiring);
        if (!expiring->collided || attempt == ATTEMPTS)
            return true;
        if (!step_back(expiring, err))
            return false;
    }
}

/* -- marks -------------------------------------------------------------------------------------- */

/* What is kept only because somebody reads it just now stays marked. */
static bool write_marks(struct expiring *expiring, struct error *err)
{
    const struct expire_inventory *inventory = &expiring->inventory;

    for (size_t i = 0; i < inventory->retention.count; i++) {
        const struct retention_backup *backup = &inventory->retention.backups[i];
        bool marked = marks_expired(inventory->marks, backup->info->run);
        bool stays = (backup->reasons & ~(unsigned)RETENTION_HELD) != 0;
        enum marks_outcome ignored;

        if ((marked && stays &&
             !marks_write(expiring->repository, backup->info->run, MARKS_UNEXPIRE, &ignored,
                          err)) ||
            (!marked && backup->reasons == 0 &&
             !marks_write(expiring->repository, backup->info->run, MARKS_EXPIRE, &ignored, err)))
            return false;
    }
    return true;
}

static void describe_backup(const struct expire_inventory *inventory,
                            const struct retention_backup *backup, struct expire_backup *result)
{
    const struct backup_info *info = backup->info;
    const struct runs_entry *holder = runs_holder(&inventory->runs, info->run);

    *result = (struct expire_backup){.run = info->run,
                                     .timeline = info->timeline,
                                     .stop_time = info->stop_time,
                                     .stored_bytes = info->stored_bytes,
                                     .reasons = backup->reasons,
                                     .holder = holder ? holder->run : 0,
                                     .held_until = holder ? holder->seen + RUNS_PATIENCE : 0};
    if (holder)
        snprintf(result->holder_host, sizeof(result->holder_host), "%s", holder->host);
    int64_t locked = inventory->locked[backup - inventory->retention.backups];

    if (backup->reasons != 0) {
        result->fate = EXPIRE_STAYS;
    } else if (expire_inventory_goes(inventory, backup)) {
        result->fate = EXPIRE_GOES;
    } else if (locked != 0) {
        result->fate = EXPIRE_LOCKED;
        result->moment = locked;
    } else if (marks_expired(inventory->marks, info->run)) {
        result->fate = EXPIRE_WAITS;
        result->moment = marks_expired_at(inventory->marks, info->run) + RUNS_PATIENCE;
    } else {
        result->fate = EXPIRE_MARKED;
    }
}

static void describe_backups(struct expiring *expiring)
{
    const struct retention *retention = &expiring->inventory.retention;
    struct expire_cluster *cluster = expiring->cluster;

    cluster->backups = mem_calloc(retention->count + 1, sizeof(*cluster->backups));
    for (size_t i = 0; i < retention->count; i++)
        describe_backup(&expiring->inventory, &retention->backups[i],
                        &cluster->backups[cluster->count++]);
}

/* -- one cluster, one repository, all ----------------------------------------------------------- */

static bool expire_cluster(struct expiring *expiring, enum expire_mode mode, struct error *err)
{
    if (!look(expiring, mode, err))
        return false;
    describe_backups(expiring);
    if (expiring->cluster->postponed)
        return true;
    return (mode == EXPIRE_DRY_RUN || write_marks(expiring, err)) &&
           expire_sweep(&expiring->inventory, expiring->run, expiring->cluster, err);
}

static bool expire_clusters(struct repository *repository, enum expire_mode mode,
                            struct expire_result *result, struct error *err)
{
    uint64_t *identifiers;
    size_t count;
    bool ok = clusters_identifiers(repository, &identifiers, &count, err);

    if (!ok)
        return false;
    if (count == 0)
        clusters_doubt(repository);
    result->clusters = mem_calloc(count + 1, sizeof(*result->clusters));
    for (size_t i = 0; ok && i < count; i++) {
        struct expiring expiring = {.repository = repository,
                                    .cluster = &result->clusters[result->count++]};

        expiring.cluster->system_identifier = identifiers[i];
        repository_select(repository, identifiers[i]);
        ok = expire_cluster(&expiring, mode, err);
        expire_inventory_free(&expiring.inventory);
        run_end(expiring.run);
    }
    free(identifiers);
    return ok;
}

static void expire_repository(const struct config *config, const struct expire_request *request,
                              struct expire_result *result)
{
    int64_t deadline = request->patience ? clock_monotonic() + request->patience : 0;
    struct repository *repository;

    if (result->repository->retention.window == 0)
        return;
    if (!repository_open_until(config, result->repository, deadline, &repository, &result->error))
        return;
    store_set_deadline(repository->store, 0);
    result->versioned = store_keeps_versions(repository->store);
    expire_clusters(repository, request->mode, result, &result->error);
    repository_close(repository);
}

static void free_result(struct expire_result *result)
{
    for (size_t i = 0; i < result->count; i++) {
        free(result->clusters[i].backups);
        free(result->clusters[i].postponed);
    }
    free(result->clusters);
}

static bool is_chosen(const struct expire_request *request, const struct config_repository *one)
{
    return !request->repository || strcmp(request->repository, one->name) == 0;
}

static bool expire_all(const struct config *config, const struct expire_request *request,
                       expire_report_fn report, void *context, struct error *err)
{
    size_t chosen = 0;

    error_clear(err);
    for (size_t i = 0; i < config->repository_count; i++) {
        struct expire_result result = {.repository = &config->repositories[i]};

        if (!is_chosen(request, result.repository))
            continue;
        chosen++;
        expire_repository(config, request, &result);
        report(&result, context);
        if (err->code == ERROR_NONE)
            *err = result.error;
        free_result(&result);
        if (err->code == ERROR_CANCELLED)
            break;
    }
    if (chosen == 0)
        return error_set(err, ERROR_USAGE, "there is no repository \"%s\" in \"%s\"",
                         request->repository, config->path);
    return err->code == ERROR_NONE;
}

bool expire_run(const struct config *config, const struct expire_request *request,
                expire_report_fn report, void *context, struct error *err)
{
    struct lock *lock;

    if (!lock_take(config->state_dir, "expire", "expire", &lock, err))
        return false;
    bool ok = expire_all(config, request, report, context, err);

    if (ok && request->mode == EXPIRE_APPLY)
        ok = expire_debts_forget(config, err);
    lock_release(lock);
    return ok;
}
