/* verify.c - a verification, repository by repository */
#include "pgvigil/verify.h"

#include <stdlib.h>
#include <string.h>

#include "job/verify_backup.h"
#include "job/verify_blocks.h"
#include "job/verify_inventory.h"
#include "job/verify_object.h"
#include "job/verify_repair.h"
#include "job/verify_wal.h"
#include "job/verify_walk.h"
#include "pgvigil/clusters.h"
#include "pgvigil/known_damage.h"
#include "pgvigil/lock.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/outage.h"
#include "pgvigil/process.h"

#define SIBLING_PATIENCE (5 * CLOCK_SECOND)

struct verifying {
    const struct config *config;
    const struct verify_request *request;
    struct verify_result *result;
    struct verify_memory *memory;
    int jobs;
};

bool verify_is_open(const struct verify_finding *finding)
{
    return finding->fault != VERIFY_STRAY && finding->repaired < finding->count;
}

bool verify_is_wrong(const struct verify_finding *finding)
{
    return verify_is_open(finding) && !finding->harmless && finding->fault != VERIFY_OWED;
}

const char *verify_fault_name(enum verify_fault fault)
{
    static const char *const names[] = {[VERIFY_DAMAGED] = "damaged",
                                        [VERIFY_MISSING] = "missing",
                                        [VERIFY_OWED] = "owed",
                                        [VERIFY_STRAY] = "stray"};

    return names[fault];
}

static void free_cluster(struct verify_cluster *cluster)
{
    for (size_t i = 0; i < cluster->finding_count; i++)
        verify_walk_free_finding(&cluster->findings[i]);
    free(cluster->findings);
}

void verify_free_result(struct verify_result *result)
{
    for (size_t i = 0; i < result->repository_count; i++) {
        struct verify_repository *repository = &result->repositories[i];

        for (size_t j = 0; j < repository->cluster_count; j++)
            free_cluster(&repository->clusters[j]);
        free(repository->clusters);
    }
    free(result->repositories);
    *result = (struct verify_result){.repositories = NULL};
}

/* What the survey stumbled over is read whole in any case, as are histories, which everything hangs on. */
static void choose_more(struct verify_walk *walk)
{
    const struct survey *survey = walk->survey;

    for (size_t i = 0; i < walk->count; i++) {
        struct verify_entry *entry = &walk->entries[i];

        if (entry->kind == TRAILER_HISTORY)
            entry->chosen = true;
        for (size_t j = 0; j < survey->damage_count && !entry->chosen; j++)
            entry->chosen =
                entry->kind != 0 && strstr(survey->damage[j].message, entry->name) != NULL;
    }
}

static int compare_findings(const void *a, const void *b)
{
    return strcmp(((const struct verify_finding *)a)->object,
                  ((const struct verify_finding *)b)->object);
}

/* In the order of their names, whichever thread found them first. */
static void sort_findings(struct verify_cluster *cluster)
{
    if (cluster->finding_count > 1)
        qsort(cluster->findings, cluster->finding_count, sizeof *cluster->findings,
              compare_findings);
}

static bool look(struct verify_walk *walk, struct error *err)
{
    survey_free(walk->survey);
    walk->survey = NULL;
    return verify_owed_read(&walk->owed, walk->repository, err) &&
           survey_read(walk->repository, &walk->survey, err) &&
           verify_owed_read(&walk->owed, walk->repository, err);
}

/* What was missing and is there again, or has turned out to be somebody's deletion, changes what else is
 * missing: so the WAL is looked at once more. Findings of stretches that are repaired in part end with
 * what is back. */
static bool look_again(struct verify_walk *walk, struct error *err)
{
    struct verify_cluster *result = walk->result;
    size_t left = 0;

    if (!look(walk, err))
        return false;
    for (size_t i = 0; i < result->finding_count; i++) {
        struct verify_finding *finding = &result->findings[i];

        if (finding->fault != VERIFY_DAMAGED && finding->kind == TRAILER_WAL) {
            if (finding->repaired == 0) {
                verify_walk_free_finding(finding);
                continue;
            }
            finding->count = finding->repaired;
        }
        result->findings[left++] = *finding;
    }
    result->finding_count = left;
    verify_wal_check(walk);
    return true;
}

static bool repair(struct verify_walk *walk, struct repository *siblings, struct error *err)
{
    struct verify_cluster *result = walk->result;
    bool wal = false;

    if (!verify_repair(walk, siblings, err))
        return false;
    for (size_t i = 0; i < result->finding_count; i++)
        wal = wal || (result->findings[i].kind == TRAILER_WAL && result->findings[i].repaired > 0);
    return !wal || look_again(walk, err);
}

static void sum_up(struct verify_walk *walk)
{
    struct verify_cluster *result = walk->result;

    for (size_t i = 0; i < walk->count; i++) {
        const struct verify_entry *entry = &walk->entries[i];

        if (entry->kind == 0 || entry->blamed)
            continue;
        result->unread_objects += entry->checked == 0;
        if (entry->checked != 0 && (result->oldest == 0 || entry->checked < result->oldest))
            result->oldest = entry->checked;
    }
}

static bool check_all(struct verify_walk *walk, struct repository *siblings, struct error *err)
{
    if (!verify_inventory_read(walk, err) || !look(walk, err))
        return false;
    verify_inventory_choose(walk);
    choose_more(walk);
    if (!verify_backup_check_parts(walk, err))
        return false;
    verify_wal_check(walk);
    if (!verify_backup_choose_maps(walk, err) || !verify_object_read_chosen(walk, err) ||
        !verify_backup_check_maps(walk, err))
        return false;
    sort_findings(walk->result);
    if (walk->request->mode == VERIFY_REPAIR && !repair(walk, siblings, err))
        return false;
    return verify_backup_count_costs(walk, err) && verify_wal_count_costs(walk, err);
}

/* For backup and list. Without it they know no more than before. */
static void make_known(const struct verify_walk *walk, const struct repository *repository,
                       const struct verify_cluster *result)
{
    struct error err = ERROR_INIT;

    if (known_damage_write(repository, walk->now, result, &err))
        return;
    error_context(&err, "could not note what is damaged");
    log_error(LOG_WARNING, &err);
}

static struct verify_finding *find_finding(const struct verify_cluster *cluster, const char *object)
{
    for (size_t i = 0; i < cluster->finding_count; i++)
        if (strcmp(cluster->findings[i].object, object) == 0)
            return &cluster->findings[i];
    return NULL;
}

/* The same cluster in that repository, if it has been verified before this one. */
static struct verify_cluster *find_done(const struct verifying *verifying,
                                        const struct verify_walk *walk,
                                        const struct config_repository *config)
{
    const struct verify_result *result = verifying->result;

    for (size_t i = 0; i < result->repository_count; i++)
        for (size_t j = 0; result->repositories[i].config == config &&
                           result->repositories[i].error.code == ERROR_NONE &&
                           j < result->repositories[i].cluster_count;
             j++)
            if (result->repositories[i].clusters[j].system_identifier ==
                walk->result->system_identifier)
                return &result->repositories[i].clusters[j];
    return NULL;
}

/* What was sound, or not read, when its repository was verified, and is damaged by now: it costs there what
 * it costs here. */
static void add_doubt(const struct verify_walk *walk, const struct verify_doubt *doubt,
                      struct verify_cluster *cluster)
{
    const struct verify_finding *here = find_finding(walk->result, doubt->object);
    struct verify_finding *there;

    if (here == NULL || find_finding(cluster, doubt->object) != NULL)
        return;
    cluster->findings = mem_grow(cluster->findings, cluster->finding_count,
                                 &cluster->finding_capacity, sizeof *cluster->findings);
    there = &cluster->findings[cluster->finding_count++];
    *there = (struct verify_finding){.fault = VERIFY_DAMAGED,
                                     .kind = here->kind,
                                     .object = mem_strdup(doubt->object),
                                     .count = 1,
                                     .why = mem_strdup(doubt->why)};
    for (size_t i = 0; i < here->backup_count; i++)
        verify_walk_cost(there, here->backups[i]);
    there->lost = mem_calloc(here->lost_count, sizeof *there->lost);
    for (; there->lost_count < here->lost_count; there->lost_count++)
        there->lost[there->lost_count] = here->lost[there->lost_count];
    sort_findings(cluster);
}

/* Copies of what is damaged here that are damaged, too. */
static void settle_doubts(const struct verifying *verifying, struct verify_walk *walk,
                          const struct repository *siblings)
{
    for (const struct repository *one = siblings; one != NULL; one = one->sibling) {
        struct verify_cluster *cluster = find_done(verifying, walk, one->config);
        const size_t before = cluster != NULL ? cluster->finding_count : 0;

        for (size_t i = 0; cluster != NULL && i < walk->doubt_count; i++)
            if (walk->doubts[i].config == one->config)
                add_doubt(walk, &walk->doubts[i], cluster);
        if (cluster != NULL && cluster->finding_count > before)
            make_known(walk, one, cluster);
    }
    for (size_t i = 0; i < walk->doubt_count; i++) {
        free(walk->doubts[i].object);
        free(walk->doubts[i].why);
    }
    free(walk->doubts);
}

/* The cluster that is selected. */
static bool verify_cluster(struct verifying *verifying, struct repository *repository,
                           struct repository *siblings, struct verify_cluster *result,
                           struct error *err)
{
    struct verify_walk walk = {.config = verifying->config,
                               .request = verifying->request,
                               .jobs = verifying->jobs,
                               .now = clock_now(),
                               .repository = repository,
                               .memory = verifying->memory,
                               .result = result};
    struct error ignored = ERROR_INIT;
    bool ok;

    result->system_identifier = repository->system_identifier;
    pthread_mutex_init(&walk.mutex, NULL);
    ok = check_all(&walk, siblings, err);
    if (ok)
        make_known(&walk, repository, result);
    settle_doubts(verifying, &walk, siblings);
    if (walk.memory != NULL && !verify_memory_flush(walk.memory, &ignored))
        log_error(LOG_WARNING, &ignored);
    sort_findings(result);
    sum_up(&walk);
    survey_free(walk.survey);
    verify_owed_free(&walk.owed);
    verify_blocks_free(walk.blocks);
    verify_inventory_free(&walk);
    pthread_mutex_destroy(&walk.mutex);
    return ok;
}

/* The other repositories, as far as they can be opened, for a repair. */
static struct repository *open_siblings(const struct verifying *verifying,
                                        const struct config_repository *which)
{
    const struct config *config = verifying->config;
    struct repository *first = NULL, **last = &first;

    if (verifying->request->mode != VERIFY_REPAIR)
        return NULL;
    for (size_t i = 0; i < config->repository_count; i++) {
        struct error err = ERROR_INIT;

        if (&config->repositories[i] == which)
            continue;
        if (!repository_open_until(config, &config->repositories[i],
                                   clock_monotonic() + SIBLING_PATIENCE, last, &err)) {
            log_error(LOG_WARNING, &err);
            continue;
        }
        store_set_deadline((*last)->store, 0);
        last = &(*last)->sibling;
    }
    return first;
}

static bool verify_clusters(struct verifying *verifying, struct repository *repository,
                            struct repository *siblings, struct verify_repository *result,
                            struct error *err)
{
    uint64_t *identifiers;
    size_t count;
    bool ok = true;

    if (!clusters_identifiers(repository, &identifiers, &count, err))
        return false;
    result->doubted = count == 0 && clusters_doubt(repository);
    result->clusters = mem_calloc(count, sizeof *result->clusters);
    for (size_t i = 0; ok && i < count; i++) {
        repository_select(repository, identifiers[i]);
        if (siblings != NULL)
            repository_select(siblings, identifiers[i]);
        ok = verify_cluster(verifying, repository, siblings,
                            &result->clusters[result->cluster_count++], err);
    }
    free(identifiers);
    return ok;
}

static void verify_one(struct verifying *verifying, struct verify_repository *result)
{
    struct repository *repository, *siblings;

    if (!outage_open(verifying->config, result->config, &repository, &result->error))
        return;
    memcpy(result->id, repository->id, sizeof result->id);
    siblings = open_siblings(verifying, result->config);
    verify_clusters(verifying, repository, siblings, result, &result->error);
    repository_close(siblings);
    repository_close(repository);
}

static bool choose(const struct config *config, const struct verify_request *request,
                   struct verify_result *result, struct error *err)
{
    result->repositories = mem_calloc(config->repository_count, sizeof *result->repositories);
    result->repository_count = 0;
    for (size_t i = 0; i < config->repository_count; i++)
        if (request->repository == NULL ||
            strcmp(request->repository, config->repositories[i].name) == 0)
            result->repositories[result->repository_count++].config = &config->repositories[i];
    if (result->repository_count > 0)
        return true;
    error_set(err, ERROR_USAGE, "there is no repository \"%s\" in \"%s\"", request->repository,
              config->path);
    return error_hint(err, "`%s verify` without --repository verifies all of them",
                      process_command());
}

bool verify_run(const struct config *config, const struct verify_request *request,
                struct verify_result *result, struct error *err)
{
    struct verifying verifying = {.config = config,
                                  .request = request,
                                  .result = result,
                                  .jobs = request->jobs > 0 ? request->jobs : config->backup.jobs};
    struct lock *lock;

    if (!choose(config, request, result, err))
        return false;
    if (!lock_take(config->state_dir, "verify", "verify", &lock, err))
        return false;
    if (!verify_memory_open(config->state_dir, &verifying.memory, err)) {
        lock_release(lock);
        return false;
    }
    for (size_t i = 0; i < result->repository_count; i++) {
        verify_one(&verifying, &result->repositories[i]);
        if (result->repositories[i].error.code == ERROR_CANCELLED)
            break;
    }
    verify_memory_close(verifying.memory);
    lock_release(lock);
    return true;
}
