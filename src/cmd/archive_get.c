/*
 * archive_get.c - pgvigil archive-get SEGMENT PATH
 *
 * PostgreSQL takes any exit code up to 125 for "there is no such file", and ends recovery then. So
 * whatever goes wrong here ends with 126, usage and configuration errors included.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"
#include "pgvigil/fetch.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"

#define EXIT_DELIVERED 0
#define EXIT_ABSENT 1
#define EXIT_CANNOT_TELL 126

static int get_file(const struct config *config, const struct fetch_request *request)
{
    struct error err = ERROR_INIT;
    enum fetch_answer answer;

    if (fetch_file(config, request, &answer, &err)) {
        log_debug("\"%s\" %s", request->file,
                  answer == FETCH_DELIVERED ? "was delivered" : "is not in the archive");
        return answer == FETCH_DELIVERED ? EXIT_DELIVERED : EXIT_ABSENT;
    }
    if (err.code == ERROR_USAGE || !fetch_is_for_standby(config, request)) {
        cmd_fail(&err);
        return EXIT_CANNOT_TELL;
    }
    log_error(LOG_WARNING, &err);
    log_warning("a standby asks for \"%s\": it is told that there is none, and will ask again",
                request->file);
    return EXIT_ABSENT;
}

/* The list as fetch.h wants it: with a NULL at its end. */
static const char **get_terminate(const struct option_list *list)
{
    const char **names = mem_calloc(list->count + 1, sizeof(*names));

    if (list->count > 0)
        memcpy(names, list->values, list->count * sizeof(*names));
    return names;
}

static int get_with_options(const char *config_name, const struct options *options, int argc,
                            char **argv, struct fetch_request *request,
                            const struct option_list *without)
{
    struct error err = ERROR_INIT;
    const char *operands[2];
    size_t count;
    struct config *config;
    int status;

    if (!cmd_begin(options, argc, argv, operands, &count, &status))
        return status == 0 ? 0 : EXIT_CANNOT_TELL;
    if (!cmd_load_config_to_read(config_name, &config, &err)) {
        cmd_fail(&err);
        return EXIT_CANNOT_TELL;
    }
    const char **names = get_terminate(without);
    request->file = operands[0];
    request->path = operands[1];
    request->without = names;
    status = get_file(config, request);
    free(names);
    config_free(config);
    return status;
}

int cmd_archive_get(const char *config_name, int argc, char **argv)
{
    struct fetch_request request = {.file = NULL};
    struct option_list without = {.values = NULL};
    const struct option table[] = {
        {"repository", OPTION_STRING, &request.repository, "NAME", "ask this repository only"},
        {"without", OPTION_LIST, &without, "NAME",
         "do without this repository (may be given several times)"},
        {.name = NULL},
    };
    const struct options options = {
        .command = "archive-get",
        .synopsis = "archive-get [options] SEGMENT PATH",
        .summary = "Brings one WAL file back from the repositories, verified, and puts it at PATH.",
        .table = table,
        .operands_minimum = 2,
        .operands_maximum = 2,
        .notes = "In the configuration of a server in recovery:\n"
                 "  restore_command = 'pgvigil -c NAME archive-get \"%f\" \"%p\"'\n"
                 "\n"
                 "Exit code: 0 delivered; 1 surely absent; 126 it cannot be told, which makes "
                 "PostgreSQL stop\ninstead of ending recovery at the wrong point. A standby is "
                 "answered 1 instead of 126, as it\nasks again.",
    };

    int status = get_with_options(config_name, &options, argc, argv, &request, &without);
    options_free_list(&without);
    return status;
}
