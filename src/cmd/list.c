/* list.c - pgvigil list */
#include "cmd/list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"
#include "pgvigil/debt.h"
#include "pgvigil/layout.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"

struct request {
    bool json;
    const char *repository;
};

char *cmd_list_segment(const struct survey *survey, uint32_t timeline, uint64_t number,
                       char text[WAL_NAME_SIZE])
{
    return wal_segment_name(timeline, number, survey->wal.segment_size, text);
}

static bool read_surveys(struct repository *repository, struct list_repository *entry,
                         struct error *err)
{
    uint64_t *identifiers;
    size_t count;
    bool ok = true;

    if (!repository_system_identifiers(repository, &identifiers, &count, err))
        return false;
    entry->surveys = mem_calloc(count, sizeof(struct survey *));
    for (size_t i = 0; ok && i < count; i++) {
        repository_select(repository, identifiers[i]);
        ok = survey_read(repository, &entry->surveys[i], err);
        entry->count += ok;
    }
    free(identifiers);
    return ok;
}

/* What was read before an error is shown all the same. */
static void read_repository(const struct config *config, struct list_repository *entry)
{
    struct repository *repository;

    if (!debt_count(config, entry->config->name, &entry->owed, &entry->error) ||
        !repository_open(config, entry->config, &repository, &entry->error))
        return;
    memcpy(entry->id, repository->id, sizeof(entry->id));
    read_surveys(repository, entry, &entry->error);
    repository_close(repository);
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
    return error_hint(err, "\"pgvigil list\" without --repository shows all of them");
}

static void free_list(struct list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        for (size_t j = 0; j < list->repositories[i].count; j++)
            survey_free(list->repositories[i].surveys[j]);
        free(list->repositories[i].surveys);
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
static void log_incomplete(const struct list_repository *entry, const struct survey *survey,
                           const struct survey_backup *backup)
{
    const struct backup_info *info = backup->info;
    char run[CLOCK_COMPACT_SIZE], segment[WAL_NAME_SIZE];
    struct error err = ERROR_INIT;

    wal_segment_name(info->timeline, backup->missing, info->wal_segment_size, segment);
    error_set(
        &err, ERROR_INTEGRITY,
        "backup %s of cluster %llu in repository \"%s\" cannot be restored: WAL segment %s is "
        "missing",
        layout_run_text(info->run, run), (unsigned long long)survey->system_identifier,
        entry->config->name, segment);
    log_error(LOG_ERROR, &err);
}

/* Damage that was found outweighs a repository that could not be reached. */
static int judge(const struct list *list)
{
    int status = 0;

    for (size_t i = 0; i < list->count; i++) {
        const struct list_repository *entry = &list->repositories[i];

        for (size_t j = 0; j < entry->count; j++) {
            const struct survey *survey = entry->surveys[j];

            for (size_t k = 0; k < survey->damage_count; k++) {
                log_error(LOG_ERROR, &survey->damage[k]);
                status = error_exit_code(ERROR_INTEGRITY);
            }
            for (size_t k = 0; k < survey->catalog->count; k++) {
                if (survey->backups[k].wal_complete)
                    continue;
                log_incomplete(entry, survey, &survey->backups[k]);
                status = error_exit_code(ERROR_INTEGRITY);
            }
        }
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
        for (size_t i = 0; i < list.count; i++)
            read_repository(config, &list.repositories[i]);
        bool printed = print(&list, request, &err);
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
        .summary = "Shows what there is: backups, WAL with its gaps, and what can be restored.",
        .table = table,
        .notes =
            "Exit status: 0, also with gaps in the WAL; 3 if a repository could not be read; 4 "
            "if something in it is damaged or a backup lacks WAL that it needs."};
    struct error err = ERROR_INIT;
    struct config *config;
    int status;

    if (!cmd_begin(&options, argc, argv, NULL, NULL, &status))
        return status;
    if (!cmd_load_config(config_name, &config, &err))
        return cmd_fail(&err);
    status = run(config, &request);
    config_free(config);
    return status;
}
