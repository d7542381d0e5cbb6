/* expire.c - pgvigil expire */
#include "cmd/expire.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "cmd/cmd.h"
#include "pgvigil/clock.h"
#include "pgvigil/json_out.h"
#include "pgvigil/log.h"
#include "pgvigil/process.h"
#include "pgvigil/units.h"

struct expiring {
    enum expire_mode mode;
    bool json;
    json_t *repositories; /* of --json */
    struct buffer text;   /* of --dry-run */
};

static size_t count_fate(const struct expire_cluster *cluster, enum expire_fate fate)
{
    size_t count = 0;

    for (size_t i = 0; i < cluster->count; i++)
        count += cluster->backups[i].fate == fate;
    return count;
}

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

/* One line of what was done, nothing where nothing was. */
static void say_cluster(const struct expire_result *result, const struct expire_cluster *cluster)
{
    size_t marked = count_fate(cluster, EXPIRE_MARKED), gone = count_fate(cluster, EXPIRE_GOES);
    const struct expire_count *packs = &cluster->packs.removed, *wal = &cluster->wal.removed;
    char pack_bytes[UNITS_TEXT_SIZE], wal_bytes[UNITS_TEXT_SIZE];

    if (cluster->postponed) {
        log_warning("nothing was removed from repository \"%s\": %s", result->repository->name,
                    cluster->postponed);
        return;
    }
    if (marked + gone == 0 && packs->objects + wal->objects == 0)
        return;
    log_info("repository \"%s\": marked %zu backup%s for removal; removed %zu backup%s, %" PRIu64
             " pack%s (%s), %" PRIu64 " WAL file%s (%s)",
             result->repository->name, marked, plural(marked), gone, plural(gone), packs->objects,
             plural(packs->objects), units_format_size(packs->bytes, pack_bytes), wal->objects,
             plural(wal->objects), units_format_size(wal->bytes, wal_bytes));
}

static void say_repository(const struct expire_result *result)
{
    if (result->repository->retention.window == 0)
        log_info("repository \"%s\": no retention is configured, nothing ever expires",
                 result->repository->name);
    for (size_t i = 0; i < result->count; i++)
        if (result->error.code == ERROR_NONE || i + 1 < result->count)
            say_cluster(result, &result->clusters[i]);
}

/* The first error is the command's own; the others are told here. */
static void take_result(const struct expire_result *result, void *context)
{
    struct expiring *expiring = context;

    if (result->error.code != ERROR_NONE)
        log_warning("repository \"%s\": %s", result->repository->name, result->error.message);
    if (expiring->json)
        json_out_add(expiring->repositories, cmd_expire_json(result));
    else if (expiring->mode == EXPIRE_DRY_RUN)
        cmd_expire_text(result, &expiring->text);
    else
        say_repository(result);
}

static bool print(struct expiring *expiring, struct error *err)
{
    if (expiring->json) {
        json_t *object = json_out_object();

        json_out_put(object, "format", json_integer(1));
        json_out_put(object, "dry_run", json_boolean(expiring->mode == EXPIRE_DRY_RUN));
        json_out_put(object, "repositories", expiring->repositories);
        json_out_write(object, &expiring->text);
        json_decref(object);
    }
    if (expiring->text.length == 0)
        return true;
    return (fwrite(expiring->text.data, 1, expiring->text.length, stdout) ==
                expiring->text.length &&
            fflush(stdout) == 0) ||
           error_set_errno(err, "could not write to standard output");
}

static int run(const struct config *config, const struct expire_request *request, bool json)
{
    struct expiring expiring = {.mode = request->mode, .json = json};
    struct error err = ERROR_INIT, unprinted = ERROR_INIT;

    if (json)
        expiring.repositories = json_out_array();
    bool ok = expire_run(config, request, take_result, &expiring, &err);
    bool printed = print(&expiring, &unprinted);

    buffer_free(&expiring.text);
    if (!ok)
        return cmd_fail(&err);
    return printed ? 0 : cmd_fail(&unprinted);
}

void cmd_expire_after_backup(const struct config *config)
{
    const struct expire_request request = {.mode = EXPIRE_APPLY, .patience = 5 * CLOCK_SECOND};
    struct expiring expiring = {.mode = EXPIRE_APPLY};
    struct error err = ERROR_INIT;
    bool any = false;

    for (size_t i = 0; i < config->repository_count; i++)
        any = any || config->repositories[i].retention.window != 0;
    if (!any || expire_run(config, &request, take_result, &expiring, &err))
        return;
    error_context(&err, "the backup is complete, but expiry is not");
    log_error(LOG_WARNING, &err);
}

int cmd_expire(const char *config_name, int argc, char **argv)
{
    struct expire_request request = {.mode = EXPIRE_APPLY};
    bool dry_run = false, json = false, quiet = false;
    const struct option table[] = {
        {"dry-run", OPTION_FLAG, &dry_run, NULL,
         "remove nothing: say what would go, and why each backup stays"},
        {"repository", OPTION_STRING, &request.repository, "NAME", "this repository only"},
        {"json", OPTION_FLAG, &json, NULL, "print JSON; its form is in FORMAT.md"},
        {"quiet", OPTION_FLAG, &quiet, NULL, "say nothing unless something is wrong"},
        {0}};
    const struct options options = {
        .command = "expire",
        .synopsis = "expire [--dry-run] [--repository NAME] [--json] [--quiet]",
        .summary = "Removes what retention lets go. Each successful backup does the same.",
        .table = table,
        .notes = "Without a section [retention] in the configuration nothing is ever removed.\n"
                 "What may go is marked first, and removed by a run two hours later or more, if "
                 "it still may go then.\n"
                 "Exit status: 0; 3 if a repository could not be reached, or has no right to "
                 "remove; 4 if something in it is damaged: nothing is removed there then."};
    struct error err = ERROR_INIT;
    struct config *config;
    int status;

    if (!cmd_begin(&options, argc, argv, NULL, NULL, &status))
        return status;
    process_catch_signals();
    if (quiet)
        log_set_level(LOG_WARNING);
    request.mode = dry_run ? EXPIRE_DRY_RUN : EXPIRE_APPLY;
    if (!cmd_load_config(config_name, &config, &err))
        return cmd_fail(&err);
    status = run(config, &request, json);
    config_free(config);
    return status;
}
