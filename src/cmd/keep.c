/* keep.c - pgvigil keep, pgvigil unkeep */
#include "pgvigil/keep.h"

#include <string.h>

#include "cmd/cmd.h"
#include "pgvigil/clock.h"
#include "pgvigil/layout.h"
#include "pgvigil/log.h"
#include "pgvigil/process.h"

struct keeping {
    char id[CLOCK_COMPACT_SIZE];
    enum marks_note note;
};

/* Errors are returned besides, the first of them: the others must not be lost. */
static void say_what_came(const struct keep_result *result, void *context)
{
    const struct keeping *keeping = context;
    const char *name = result->repository->name;
    const char *what = keeping->note == MARKS_KEEP ? "kept" : "no longer kept";

    switch (result->outcome) {
    case KEEP_ABSENT:
        log_debug("backup %s is not in repository \"%s\"", keeping->id, name);
        break;
    case KEEP_TURNED:
        log_info("backup %s is %s in repository \"%s\"", keeping->id, what, name);
        break;
    case KEEP_AS_IT_WAS:
        log_info("backup %s was %s in repository \"%s\" already", keeping->id, what, name);
        break;
    case KEEP_FAILED:
        log_warning("nothing was changed for sure in repository \"%s\": %s", name,
                    result->error.message);
        break;
    }
}

static int run(const char *config_name, const struct options *options, enum marks_note note,
               int argc, char **argv)
{
    struct keeping keeping = {.note = note};
    struct error err = ERROR_INIT;
    struct config *config;
    const char *id;
    int64_t backup = 0;
    size_t count;
    int status;

    if (!cmd_begin(options, argc, argv, &id, &count, &status))
        return status;
    if (strcmp(id, "latest") != 0 && !layout_parse_run(id, &backup)) {
        error_set(&err, ERROR_USAGE, "\"%s\" is no ID of a backup", id);
        error_hint(&err, "an ID looks like 20261120T020000Z (see `%s list`), or \"latest\"",
                   process_command());
        return cmd_fail(&err);
    }
    process_catch_signals();
    if (!cmd_load_config(config_name, &config, &err))
        return cmd_fail(&err);
    bool ok = backup != 0 || keep_find_latest(config, &backup, &err);
    layout_run_text(backup, keeping.id);
    ok = ok && keep_run(config, backup, note, say_what_came, &keeping, &err);
    config_free(config);
    return ok ? 0 : cmd_fail(&err);
}

static const struct option none[] = {{.name = NULL}};

int cmd_keep(const char *config_name, int argc, char **argv)
{
    const struct options options = {
        .command = "keep",
        .synopsis = "keep ID|latest",
        .summary = "Exempts a backup from expiry, in every repository that has it.",
        .table = none,
        .operands_minimum = 1,
        .operands_maximum = 1,
        .notes = "A kept backup outside of the recovery window keeps the WAL that makes it "
                 "consistent, no more.\nExit status: 1 if there is no such backup, 3 if a "
                 "repository could not be reached."};

    return run(config_name, &options, MARKS_KEEP, argc, argv);
}

int cmd_unkeep(const char *config_name, int argc, char **argv)
{
    const struct options options = {
        .command = "unkeep",
        .synopsis = "unkeep ID|latest",
        .summary = "Lets a backup that was kept expire again.",
        .table = none,
        .operands_minimum = 1,
        .operands_maximum = 1,
        .notes = "Exit status: 1 if there is no such backup, 3 if a repository could not be "
                 "reached."};

    return run(config_name, &options, MARKS_UNKEEP, argc, argv);
}
