/* keep.c - exempting a backup from expiry */
#include "pgvigil/keep.h"

#include <inttypes.h>
#include <stdlib.h>

#include "pgvigil/catalog.h"
#include "pgvigil/clock.h"
#include "pgvigil/clusters.h"
#include "pgvigil/layout.h"
#include "pgvigil/log.h"
#include "pgvigil/process.h"
#include "pgvigil/repository.h"
#include "pgvigil/runs.h"

/* The newest so far: of any repository and cluster. */
struct latest {
    int64_t run, stop_time;
};

/* One that is damaged may be the latest. */
static bool look_into(const struct catalog *catalog, struct latest *latest, struct error *err)
{
    for (size_t i = 0; i < catalog->count; i++)
        if (catalog->backups[i]->stop_time > latest->stop_time)
            *latest = (struct latest){.run = catalog->backups[i]->run,
                                      .stop_time = catalog->backups[i]->stop_time};
    if (catalog->damaged_count > 0)
        *err = catalog->damaged[0].error;
    return catalog->damaged_count == 0;
}

static bool look_for_latest(struct repository *repository, struct latest *latest, struct error *err)
{
    uint64_t *identifiers = NULL;
    size_t count = 0;
    bool ok = clusters_identifiers(repository, &identifiers, &count, err);

    for (size_t i = 0; ok && i < count; i++) {
        struct catalog *catalog;

        repository_select(repository, identifiers[i]);
        ok = catalog_read(repository, &catalog, err);
        if (!ok)
            break;
        ok = look_into(catalog, latest, err);
        catalog_free(catalog);
    }
    free(identifiers);
    return ok;
}

bool keep_find_latest(const struct config *config, int64_t *backup, struct error *err)
{
    struct latest latest = {.run = 0};
    bool ok = true;

    for (size_t i = 0; ok && i < config->repository_count; i++) {
        struct repository *repository;

        ok = repository_open(config, &config->repositories[i], &repository, err);
        if (!ok)
            break;
        ok = look_for_latest(repository, &latest, err);
        repository_close(repository);
    }
    *backup = latest.run;
    if (!ok) {
        error_hint(err, "name the backup by its ID; `%s list` shows them", process_command());
        return error_context(err, "could not tell which backup is the latest");
    }
    return latest.run != 0 || error_set(err, ERROR_NOT_FOUND, "there is no backup yet");
}

static bool is_there(struct repository *repository, int64_t backup, bool *there, struct error *err)
{
    char name[LAYOUT_NAME_SIZE];
    char *full = repository_object_name(repository, layout_backup(backup, name));
    struct store_info info;

    *there = store_stat(repository->store, full, &info, err);
    free(full);
    if (*there || err->code != ERROR_NOT_FOUND)
        return *there;
    error_clear(err);
    return true;
}

/* Of the selected cluster. */
static bool keep_cluster(struct repository *repository, int64_t backup, enum marks_note note,
                         enum keep_outcome *outcome, struct error *err)
{
    char id[CLOCK_COMPACT_SIZE];
    enum marks_outcome turned;
    bool there, over;

    if (!is_there(repository, backup, &there, err))
        return false;
    if (!there)
        return true;
    if (!marks_write(repository, backup, note, &turned, err))
        return false;
    *outcome = turned == MARKS_TURNED ? KEEP_TURNED : KEEP_AS_IT_WAS;
    if (note == MARKS_UNKEEP)
        return true;
    if (!runs_await_expire(repository, NULL, &over, err) ||
        !is_there(repository, backup, &there, err))
        return false;
    if (there && !over)
        log_warning(
            "an expire of repository \"%s\" has not ended: if it still runs, it may not have "
            "seen the note of backup %s",
            repository->name, layout_run_text(backup, id));
    return there || error_set(err, ERROR_NOT_FOUND,
                              "backup %s was being removed from repository \"%s\", and is gone",
                              layout_run_text(backup, id), repository->name);
}

static bool keep_repository(const struct config *config, int64_t backup, enum marks_note note,
                            struct keep_result *result, struct error *err)
{
    struct repository *repository;
    uint64_t *identifiers = NULL;
    size_t count = 0;

    if (!repository_open(config, result->repository, &repository, err))
        return false;
    bool ok = clusters_identifiers(repository, &identifiers, &count, err);

    for (size_t i = 0; ok && i < count; i++) {
        repository_select(repository, identifiers[i]);
        ok = keep_cluster(repository, backup, note, &result->outcome, err);
    }
    free(identifiers);
    repository_close(repository);
    return ok;
}

bool keep_run(const struct config *config, int64_t backup, enum marks_note note,
              keep_report_fn report, void *context, struct error *err)
{
    char id[CLOCK_COMPACT_SIZE];
    bool found = false;

    error_clear(err);
    for (size_t i = 0; i < config->repository_count; i++) {
        struct keep_result result = {.repository = &config->repositories[i]};

        if (!keep_repository(config, backup, note, &result, &result.error))
            result.outcome = KEEP_FAILED;
        else
            found = found || result.outcome != KEEP_ABSENT;
        report(&result, context);
        if (err->code == ERROR_NONE)
            *err = result.error;
    }
    if (err->code != ERROR_NONE || found)
        return err->code == ERROR_NONE;
    error_set(err, ERROR_NOT_FOUND, "there is no backup %s", layout_run_text(backup, id));
    return error_hint(err, "`%s list` shows those there are", process_command());
}
