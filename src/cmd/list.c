/* list.c - pgvigil list */
#include "cmd/list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"
#include "pgvigil/clock.h"
#include "pgvigil/clusters.h"
#include "pgvigil/debt.h"
#include "pgvigil/layout.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"
#include "pgvigil/workers.h"

#define OPENING (20 * CLOCK_SECOND)

struct request {
    bool json;
    const char *repository;
};

char *cmd_list_segment(const struct survey *survey, uint32_t timeline, uint64_t number,
                       char text[WAL_NAME_SIZE])
{
    return wal_segment_name(timeline, number, survey->wal.segment_size, text);
}

bool cmd_list_is_verified(const struct known_damage *known, const struct backup_info *info)
{
    return info->stop_time <= known->looked;
}

static bool read_surveys(struct repository *repository, struct list_repository *entry,
                         struct error *err)
{
    uint64_t *identifiers;
    size_t count;
    bool ok = true;

    if (!clusters_identifiers(repository, &identifiers, &count, err))
        return false;
    entry->surveys = mem_calloc(count, sizeof(struct survey *));
    entry->known = mem_calloc(count, sizeof(*entry->known));
    for (size_t i = 0; ok && i < count; i++) {
        repository_select(repository, identifiers[i]);
        ok = survey_read(repository, &entry->surveys[i], err);
        if (ok)
            known_damage_read(repository, &entry->known[i]);
        entry->count += ok;
    }
    free(identifiers);
    return ok;
}

/* What was read before an error is shown all the same. One that does not answer is no reason to keep
 * those who want to see the others waiting. */
static bool read_repository(struct workers *workers, int number, void *context, struct error *err)
{
    const struct list *list = context;
    struct list_repository *entry = &list->repositories[number];
    int64_t deadline = list->count > 1 ? clock_monotonic() + OPENING : 0;

    (void)workers;
    (void)err;
    if (!debt_count(list->config, entry->config->name, &entry->owed, &entry->error) ||
        !repository_open_until(list->config, entry->config, deadline, &entry->repository,
                               &entry->error)) {
        entry->repository = NULL;
        return true;
    }
    store_set_deadline(entry->repository->store, 0);
    memcpy(entry->id, entry->repository->id, sizeof(entry->id));
    read_surveys(entry->repository, entry, &entry->error);
    return true;
}

static const struct survey *survey_of(const struct list_repository *entry, uint64_t identifier)
{
    for (size_t i = 0; i < entry->count; i++)
        if (entry->surveys[i]->system_identifier == identifier)
            return entry->surveys[i];
    return NULL;
}

static int64_t newest_moment(const struct list_repository *entry, uint64_t identifier, bool *sealed)
{
    const struct survey *survey = survey_of(entry, identifier);

    return survey ? lag_newest_moment(survey, sealed) : INT64_MIN;
}

static void add_time(const struct list *list, struct list_repository *entry, uint64_t identifier,
                     uint64_t lacking)
{
    bool sealed = false;
    int64_t here = newest_moment(entry, identifier, &sealed), newest = INT64_MIN;

    for (size_t i = 0; i < list->count; i++) {
        int64_t moment = newest_moment(&list->repositories[i], identifier, &sealed);

        newest = moment > newest ? moment : newest;
    }
    if (newest == INT64_MIN || entry->lag.time == LAG_TIME_NOTHING)
        return;
    if (here == INT64_MIN)
        entry->lag.time = LAG_TIME_NOTHING;
    else if (entry->lag.time == LAG_TIME_SEALED || (sealed && lacking > 0))
        entry->lag.time = LAG_TIME_SEALED;
    else if (newest - here > entry->lag.time)
        entry->lag.time = newest - here;
}

/* With all others that could be read, in what concerns one system identifier. */
static bool compare_cluster(const struct list *list, struct list_repository *entry,
                            uint64_t identifier, struct error *err)
{
    struct repository **others = mem_calloc(list->count, sizeof(struct repository *));
    struct lag *lag = &entry->lag, one;
    size_t count = 0;

    for (size_t i = 0; i < list->count; i++) {
        struct repository *repository = list->repositories[i].repository;

        if (!repository)
            continue;
        repository_select(repository, identifier);
        if (repository != entry->repository)
            others[count++] = repository;
    }
    bool ok = lag_read(entry->repository, others, count, &one, err);

    free(others);
    if (!ok)
        return false;
    entry->compared = count > 0;
    lag->ahead = one.ahead ? one.ahead : lag->ahead;
    lag->objects += one.objects;
    lag->bytes += one.bytes;
    lag->backups += one.backups;
    lag->wal_files += one.wal_files;
    add_time(list, entry, identifier, one.objects);
    return true;
}

/* Each system identifier that any repository has, once. */
static bool compare(const struct list *list, struct list_repository *entry, struct error *err)
{
    bool ok = true;

    for (size_t i = 0; ok && i < list->count; i++)
        for (size_t j = 0; ok && j < list->repositories[i].count; j++) {
            uint64_t identifier = list->repositories[i].surveys[j]->system_identifier;
            bool seen = false;

            for (size_t before = 0; before < i && !seen; before++)
                seen = survey_of(&list->repositories[before], identifier) != NULL;
            ok = seen || compare_cluster(list, entry, identifier, err);
        }
    return ok;
}

static void read_all(struct list *list, struct error *err)
{
    if (!workers_run((int)list->count, read_repository, list, err))
        return;
    for (size_t i = 0; i < list->count; i++) {
        struct list_repository *entry = &list->repositories[i];

        if (entry->error.code == ERROR_NONE && !compare(list, entry, &entry->error))
            entry->compared = false;
    }
}

static bool choose(const struct config *config, const struct request *request, struct list *list,
                   struct error *err)
{
    list->config = config;
    list->repositories = mem_calloc(config->repository_count, sizeof(*list->repositories));
    for (size_t i = 0; i < config->repository_count; i++)
        if (!request->repository || strcmp(request->repository, config->repositories[i].name) == 0)
            list->repositories[list->count++].config = &config->repositories[i];
    if (list->count > 0)
        return true;
    error_set(err, ERROR_USAGE, "there is no repository \"%s\" in \"%s\"", request->repository,
              config->path);
    return error_hint(err, "`%s list` without --repository shows all of them", process_command());
}

static void free_list(struct list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        for (size_t j = 0; j < list->repositories[i].count; j++) {
            survey_free(list->repositories[i].surveys[j]);
            known_damage_free(&list->repositories[i].known[j]);
        }
        free(list->repositories[i].surveys);
        free(list->repositories[i].known);
        repository_close(list->repositories[i].repository);
    }
    free(list->repositories);
}

static bool print(const struct list *list, const struct request *request, struct error *err)
{
    struct buffer out = BUFFER_INIT;
    bool ok;

    if (request->json)
        cmd_list_json(list, &out);
    else
        cmd_list_text(list, &out);
    ok = (fwrite(out.data, 1, out.length, stdout) == out.length && fflush(stdout) == 0) ||
         error_set_errno(err, "could not write to standard output");
    buffer_free(&out);
    return ok;
}

/* A backup that lacks WAL is of no use, whatever its own objects are like. */
static void log_incomplete(const struct survey_backup *backup, const struct error *subject)
{
    const struct backup_info *info = backup->info;
    struct error err = ERROR_INIT;
    char segment[WAL_NAME_SIZE];

    wal_segment_name(info->timeline, backup->missing, info->wal_segment_size, segment);
    error_set(&err, ERROR_INTEGRITY, "WAL segment %s is missing", segment);
    error_context(&err, "%s", subject->message);
    log_error(LOG_ERROR, &err);
}

/* What verify found may have been mended since, by whom this host does not know. */
static void log_damaged(const struct list_repository *entry, const struct known_damage *known,
                        uint64_t objects, const struct error *subject)
{
    struct error err = ERROR_INIT;
    char when[CLOCK_TEXT_SIZE];

    error_set(&err, ERROR_INTEGRITY,
              "verify found %llu object%s damaged or missing that it needs, on %s",
              (unsigned long long)objects, objects == 1 ? "" : "s",
              clock_format_local(known->looked / CLOCK_SECOND * CLOCK_SECOND, when));
    error_context(&err, "%s", subject->message);
    error_hint(&err,
               "`%s verify --repository %s` looks again, and says which, what that costs "
               "and what to do",
               process_command(), entry->config->name);
    log_error(LOG_ERROR, &err);
}

/* Says why a backup cannot be restored, as far as that is known. */
static bool judge_backup(const struct list_repository *entry, size_t cluster,
                         const struct survey_backup *backup)
{
    const struct known_damage *known = &entry->known[cluster];
    const uint64_t damaged = known_damage_of(known, backup->info->run);
    struct error subject = ERROR_INIT;
    char run[CLOCK_COMPACT_SIZE];

    if (backup->wal_complete && damaged == 0)
        return true;
    error_set(&subject, ERROR_INTEGRITY,
              "backup %s of cluster %llu in repository \"%s\" cannot be restored",
              layout_run_text(backup->info->run, run),
              (unsigned long long)entry->surveys[cluster]->system_identifier, entry->config->name);
    if (!backup->wal_complete)
        log_incomplete(backup, &subject);
    else
        log_damaged(entry, known, damaged, &subject);
    return false;
}

static bool judge_cluster(const struct list_repository *entry, size_t cluster)
{
    const struct survey *survey = entry->surveys[cluster];
    bool sound = survey->damage_count == 0;

    for (size_t i = 0; i < survey->damage_count; i++)
        log_error(LOG_ERROR, &survey->damage[i]);
    for (size_t i = 0; i < survey->catalog->count; i++)
        sound = judge_backup(entry, cluster, &survey->backups[i]) && sound;
    return sound;
}

/* Damage that was found outweighs a repository that could not be reached. */
static int judge(const struct list *list)
{
    int status = 0;

    for (size_t i = 0; i < list->count; i++) {
        const struct list_repository *entry = &list->repositories[i];

        for (size_t j = 0; j < entry->count; j++)
            if (!judge_cluster(entry, j))
                status = error_exit_code(ERROR_INTEGRITY);
        if (entry->error.code == ERROR_NONE && entry->count == 0)
            clusters_doubt(entry->repository);
        if (entry->error.code != ERROR_NONE) {
            int failed = cmd_fail(&entry->error);
            status = status == 0 ? failed : status;
        }
    }
    return status;
}

static int run(const struct config *config, const struct request *request)
{
    struct error err = ERROR_INIT;
    struct list list = {.count = 0};
    int status;

    if (choose(config, request, &list, &err)) {
        read_all(&list, &err);
        bool printed = err.code == ERROR_NONE && print(&list, request, &err);
        status = judge(&list);
        if (!printed)
            status = cmd_fail(&err);
    } else {
        status = cmd_fail(&err);
    }
    free_list(&list);
    return status;
}

int cmd_list(const char *config_name, int argc, char **argv)
{
    struct request request = {.json = false};
    const struct option table[] = {
        {"json", OPTION_FLAG, &request.json, NULL, "print JSON; its form is in FORMAT.md"},
        {"repository", OPTION_STRING, &request.repository, "NAME", "show this repository only"},
        {0}};
    const struct options options = {
        .command = "list",
        .synopsis = "list [--json] [--repository NAME]",
        .summary =
            "Shows what there is: backups, WAL with its gaps, what can be restored, and how far\n"
            "each repository is behind the others.",
        .table = table,
        .notes =
            "Packs are not read: that is for verify. What the last verify on this host found is "
            "shown.\n\nExit status: 0, also with gaps in the WAL; 3 if a repository could not be "
            "read; 4 if something\nthat is read here is damaged, or a backup cannot be restored, "
            "as "
            "it lacks WAL or verify on this\nhost found something that it needs damaged or "
            "missing."};
    struct error err = ERROR_INIT;
    struct config *config;
    int status;

    if (!cmd_begin(&options, argc, argv, NULL, NULL, &status))
        return status;
    if (!cmd_load_config_to_read(config_name, &config, &err))
        return cmd_fail(&err);
    status = run(config, &request);
    config_free(config);
    return status;
}
