/*
 * restore.c - pgvigil restore
 */
#include "pgvigil/restore.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"
#include "cmd/restore_text.h"
#include "pgvigil/clock.h"
#include "pgvigil/files.h"
#include "pgvigil/layout.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"
#include "pgvigil/progress.h"
#include "pgvigil/wal.h"

#define NAME_MAXIMUM 63     /* of a restore point: MAXFNAMELEN of the server, less the NUL */
#define FIRST_NORMAL_XID 3u /* src/include/access/transam.h */

/* The options as they were given. */
struct arguments {
    const char *to, *backup, *time, *lsn, *xid, *name, *target, *timeline, *action, *repository;
    struct option_list tablespaces, without;
    long jobs;
    bool exclusive, delta, take_over, quiet, json;
};

/* What they mean; owns the lists that the request points to. */
struct meaning {
    struct restore_request request;
    struct restore_mapping *mappings;
    char **texts; /* of the mappings */
    const char **without;
};

static bool parse_number(const char *text, uint64_t *value)
{
    char *end;

    errno = 0;
    *value = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
}

static bool refuse(struct error *err, const char *option, const char *value, const char *expected)
{
    error_set(err, ERROR_USAGE, "\"%s\" makes no sense for %s", value, option);
    return error_hint(err, "%s", expected);
}

static bool parse_xid(const char *text, struct restore_request *request, struct error *err)
{
    uint64_t value;

    /* Functions of the server give transaction ids with their epoch; WAL has the lower half. */
    if (!parse_number(text, &value) || (uint32_t)value < FIRST_NORMAL_XID)
        return refuse(err, "--target-xid", text, "give a transaction id, as a decimal number");
    request->xid = (uint32_t)value;
    return true;
}

static bool parse_name(const char *text, struct restore_request *request, struct error *err)
{
    if (text[0] == '\0' || strlen(text) > NAME_MAXIMUM)
        return refuse(err, "--target-name", text,
                      "the name of a restore point has 1 to 63 characters");
    request->name = text;
    return true;
}

static bool parse_word(const char *text, struct restore_request *request, struct error *err)
{
    if (strcmp(text, "immediate") == 0)
        request->target = RESTORE_IMMEDIATE;
    else if (strcmp(text, "latest") == 0)
        request->target = RESTORE_LATEST;
    else
        return refuse(err, "--target", text,
                      "--target takes \"immediate\" or \"latest\"; there are --target-time, "
                      "--target-lsn, --target-xid and --target-name too");
    return true;
}

static bool parse_target(const struct arguments *arguments, struct restore_request *request,
                         struct error *err)
{
    const int given = (arguments->time != NULL) + (arguments->lsn != NULL) +
                      (arguments->xid != NULL) + (arguments->name != NULL) +
                      (arguments->target != NULL);

    if (given > 1) {
        error_set(err, ERROR_USAGE, "more than one target is given");
        return error_hint(err, "use one of --target-time, --target-lsn, --target-xid, "
                               "--target-name and --target");
    }
    if (arguments->target)
        return parse_word(arguments->target, request, err);
    if (arguments->time) {
        request->target = RESTORE_TIME;
        return clock_parse(arguments->time, &request->time, err);
    }
    if (arguments->lsn) {
        request->target = RESTORE_LSN;
        return wal_parse_lsn(arguments->lsn, &request->lsn) ||
               refuse(err, "--target-lsn", arguments->lsn, "an LSN looks like 16/B374D848");
    }
    if (arguments->xid) {
        request->target = RESTORE_XID;
        return parse_xid(arguments->xid, request, err);
    }
    if (arguments->name) {
        request->target = RESTORE_NAME;
        return parse_name(arguments->name, request, err);
    }
    return true;
}

static bool parse_bound(const struct arguments *arguments, struct restore_request *request,
                        struct error *err)
{
    if (!arguments->exclusive)
        return true;
    if (request->target != RESTORE_TIME && request->target != RESTORE_LSN &&
        request->target != RESTORE_XID) {
        error_set(err, ERROR_USAGE, "--exclusive does not go with this target");
        return error_hint(err, "it goes with --target-time, --target-lsn and --target-xid");
    }
    request->bound = RESTORE_EXCLUSIVE;
    return true;
}

static bool parse_action(const struct arguments *arguments, struct restore_request *request,
                         struct error *err)
{
    if (arguments->action == NULL)
        return true;
    for (size_t i = 0; i < CMD_RESTORE_ACTIONS; i++) {
        if (strcmp(arguments->action, cmd_restore_actions[i]) != 0)
            continue;
        request->action = (enum restore_action)i;
        if (request->target != RESTORE_LATEST || request->action == RESTORE_PROMOTE)
            return true;
        error_set(err, ERROR_USAGE, "--action %s needs a target", arguments->action);
        return error_hint(err, "without one the server is promoted at the end of the WAL");
    }
    return refuse(err, "--action", arguments->action, "it is promote, pause or shutdown");
}

static bool parse_timeline(const struct arguments *arguments, struct restore_request *request,
                           struct error *err)
{
    uint64_t value;

    if (arguments->timeline == NULL || strcmp(arguments->timeline, "latest") == 0)
        return true;
    if (!parse_number(arguments->timeline, &value) || value == 0 || value > UINT32_MAX)
        return refuse(err, "--target-timeline", arguments->timeline,
                      "give its decimal number, or \"latest\"");
    request->timeline = (uint32_t)value;
    return true;
}

static bool parse_backup(const struct arguments *arguments, struct restore_request *request,
                         struct error *err)
{
    if (arguments->backup == NULL || strcmp(arguments->backup, "latest") == 0 ||
        layout_parse_run(arguments->backup, &request->backup))
        return true;
    refuse(err, "--backup", arguments->backup, "");
    return error_hint(err,
                      "a backup's ID looks like 20261120T020000Z (see `%s list`), or \"latest\"",
                      process_command());
}

/* OLD=NEW: NEW is absolute, so that what is before the first "=/" is OLD. */
static bool parse_mappings(const struct arguments *arguments, struct meaning *meaning,
                           struct error *err)
{
    const size_t count = arguments->tablespaces.count;

    meaning->mappings = mem_calloc(count + 1, sizeof *meaning->mappings);
    meaning->texts = mem_calloc(count + 1, sizeof *meaning->texts);
    for (size_t i = 0; i < count; i++) {
        char *text = meaning->texts[i] = mem_strdup(arguments->tablespaces.values[i]);
        char *equals = strstr(text, "=/");

        if (equals == NULL || equals == text)
            return refuse(err, "--tablespace", text,
                          "it is OLD=NEW, OLD a location or OID, NEW an absolute path");
        *equals = '\0';
        meaning->mappings[i] = (struct restore_mapping){.from = text, .to = equals + 1};
    }
    meaning->request.mappings = meaning->mappings;
    meaning->request.mapping_count = count;
    return true;
}

static bool parse_arguments(const struct arguments *arguments, struct meaning *meaning,
                            struct error *err)
{
    struct restore_request *request = &meaning->request;
    const size_t without = arguments->without.count;

    if (arguments->to == NULL || arguments->to[0] == '\0') {
        error_set(err, ERROR_USAGE, "--to DIR is missing");
        return error_hint(err, "DIR is the new data directory: absent, or empty");
    }
    request->to = arguments->to;
    request->mode = arguments->delta ? RESTORE_DELTA : RESTORE_ANEW;
    request->repository = arguments->repository;
    request->jobs = (int)arguments->jobs;
    request->archiving = arguments->take_over ? RESTORE_TAKE_OVER : RESTORE_ARCHIVING_BY_PLACE;
    meaning->without = mem_calloc(without + 1, sizeof *meaning->without);
    for (size_t i = 0; i < without; i++)
        meaning->without[i] = arguments->without.values[i];
    request->without = meaning->without;
    return parse_target(arguments, request, err) && parse_bound(arguments, request, err) &&
           parse_action(arguments, request, err) && parse_timeline(arguments, request, err) &&
           parse_backup(arguments, request, err) && parse_mappings(arguments, meaning, err);
}

static void free_meaning(struct meaning *meaning)
{
    for (size_t i = 0; meaning->texts != NULL && meaning->texts[i] != NULL; i++)
        free(meaning->texts[i]);
    free(meaning->texts);
    free(meaning->mappings);
    free(meaning->without);
}

static int restore(const char *config_name, const struct arguments *arguments,
                   struct restore_request *request)
{
    const int64_t started = clock_monotonic();
    struct restore_result result = {.backup = 0};
    struct error err = ERROR_INIT;
    struct config *config = NULL;
    char *directory;
    bool ok;

    if (!files_absolute(request->to, &directory, &err))
        return cmd_fail(&err);
    /* Onto an existing directory: what it has not archived is. */
    ok = arguments->delta ? cmd_load_config(config_name, &config, &err)
                          : cmd_load_config_to_read(config_name, &config, &err);
    ok = ok && restore_run(config, request, &result, &err);
    if (ok) {
        const int64_t took = clock_monotonic() - started;

        cmd_restore_text(config, request, directory, &result, took);
        if (arguments->json)
            cmd_restore_json(request, directory, &result, took);
        restore_free_result(&result);
    }
    config_free(config);
    free(directory);
    return ok ? 0 : cmd_fail(&err);
}

static const char notes[] =
    "Without a target everything that is archived is recovered. OLD of --tablespace is\n"
    "a location or an OID. A target that the archived WAL does not reach is refused\n"
    "before anything is written.\n"
    "\n"
    "A cluster restored anywhere but into the configured data directory starts with\n"
    "archiving off, so that it does not write into the archive of the original;\n"
    "--take-over leaves it on.\n"
    "\n"
    "--delta keeps the blocks of DIR that are right, fetches the others, and removes\n"
    "files that the backup does not have. DIR must be proven to be this cluster's, and\n"
    "no server may run in it. WAL in it that was not archived is archived first, but for\n"
    "the segment that was being written; all of it is kept in pg_wal/before-*. Without\n"
    "--tablespace a tablespace stays where DIR has it.\n"
    "\n"
    "Exit code: 0 restored; 1 there is no such backup, or the target cannot be reached;\n"
    "2 wrong options, or a directory that is not free; 3 environment; 4 damaged repository.";

int cmd_restore(const char *config_name, int argc, char **argv)
{
    struct arguments given = {.to = NULL};
    struct meaning meaning = {.mappings = NULL};
    const struct option table[] = {
        {"to", OPTION_STRING, &given.to, "DIR",
         "the data directory; absent or empty but for --delta"},
        {"backup", OPTION_STRING, &given.backup, "ID|latest",
         "a certain backup; default: the right one"},
        {"target-time", OPTION_STRING, &given.time, "TIME", "recover to 2026-11-20 03:00:00+01"},
        {"target-lsn", OPTION_STRING, &given.lsn, "LSN", "recover to this position of the WAL"},
        {"target-xid", OPTION_STRING, &given.xid, "XID", "recover to the end of a transaction"},
        {"target-name", OPTION_STRING, &given.name, "NAME", "recover to a restore point"},
        {"target", OPTION_STRING, &given.target, "immediate|latest", "the backup's end; or all"},
        {"target-timeline", OPTION_STRING, &given.timeline, "TLI|latest", "default: the latest"},
        {"exclusive", OPTION_FLAG, &given.exclusive, NULL, "stop just before the target"},
        {"action", OPTION_STRING, &given.action, "promote|pause|shutdown",
         "what to do there; default: promote"},
        {"delta", OPTION_FLAG, &given.delta, NULL, "onto an existing directory of this cluster"},
        {"take-over", OPTION_FLAG, &given.take_over, NULL, "leave archiving as it was"},
        {"tablespace", OPTION_LIST, &given.tablespaces, "OLD=NEW",
         "put a tablespace elsewhere (may be given several times)"},
        {"repository", OPTION_STRING, &given.repository, "NAME", "restore from this one"},
        {"without", OPTION_LIST, &given.without, "NAME",
         "do without this repository (may be given several times)"},
        {"jobs", OPTION_COUNT, &given.jobs, "N", "threads; default: as for backups"},
        {"quiet", OPTION_FLAG, &given.quiet, NULL, "say nothing unless something is wrong"},
        {"json", OPTION_FLAG, &given.json, NULL, "print what was done as JSON"},
        {.name = NULL}};
    const struct options options = {
        .command = "restore",
        .synopsis = "restore --to DIR [options]",
        .summary = "Brings a data directory back as it was at any moment, ready to be started.",
        .table = table,
        .notes = notes};
    struct error err = ERROR_INIT;
    int status;

    if (cmd_begin(&options, argc, argv, NULL, NULL, &status)) {
        process_catch_signals();
        if (given.quiet)
            log_set_level(LOG_WARNING);
        if (given.quiet || given.json)
            progress_set_terminal(false);
        status = parse_arguments(&given, &meaning, &err)
                     ? restore(config_name, &given, &meaning.request)
                     : cmd_fail(&err);
    }
    free_meaning(&meaning);
    options_free_list(&given.tablespaces);
    options_free_list(&given.without);
    return status;
}
