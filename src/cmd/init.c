/*
 * init.c - pgvigil init
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "pgvigil/hook.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"
#include "pgvigil/repository.h"
#include "pgvigil/setup.h"

struct request {
    bool apply;
    bool quiet;
    const char *pgdata;
    const char *conninfo;
    const char *url;
    const char *state_dir;
};

/* "/etc/pgvigil/main.conf" names cluster "main". */
static char *cluster_of_path(const char *path)
{
    const char *base = strrchr(path, '/') + 1;
    size_t length = strlen(base);

    if (length > 5 && strcmp(base + length - 5, ".conf") == 0)
        length -= 5;
    return mem_strndup(base, length);
}

static bool make_configuration(const char *path, const struct request *request, struct error *err)
{
    struct setup_answers answers = {.pgdata = request->pgdata,
                                    .conninfo = request->conninfo,
                                    .url = request->url,
                                    .state_dir = request->state_dir};
    char *cluster;
    bool ok;

    if (request->url == NULL) {
        error_set(err, ERROR_CONFIG, "there is no configuration file \"%s\"", path);
        return error_hint(err,
                          "have one written: pgvigil -c %s init --pgdata DIR --url "
                          "file:///path/of/the/repository",
                          path);
    }
    cluster = cluster_of_path(path);
    answers.cluster_name = cluster;
    ok = setup_configuration(path, &answers, err);
    free(cluster);
    if (ok)
        log_info("wrote configuration \"%s\"", path);
    return ok;
}

/* Whoever answers questions that are not asked should know that nobody listens. */
static void warn_of_answers(const char *path, const struct request *request)
{
    if (request->pgdata != NULL || request->conninfo != NULL || request->url != NULL ||
        request->state_dir != NULL)
        log_warning("configuration file \"%s\" exists already and stays as it is", path);
}

static bool load(const char *config_name, const struct request *request, struct config **config,
                 struct error *err)
{
    const char *name = config_name != NULL ? config_name : getenv("PGVIGIL_CONFIG");
    char *path;
    bool ok = true;

    if (name == NULL)
        name = "main";
    if (!config_find_path(name, &path, err))
        return false;
    if (access(path, F_OK) == 0)
        warn_of_answers(path, request);
    else
        ok = make_configuration(path, request, err);
    ok = ok && config_load(path, config, err);
    free(path);
    return ok;
}

static bool make_repositories(const struct config *config, struct error *err)
{
    for (size_t i = 0; i < config->repository_count; i++) {
        const struct config_repository *repository = &config->repositories[i];
        enum repository_creation creation;

        if (!repository_create(config, repository, &creation, err))
            return false;
        log_info(creation == REPOSITORY_CREATED ? "made repository \"%s\" at %s"
                                                : "repository \"%s\" is there already: %s",
                 repository->name, repository->url);
    }
    return true;
}

/* Data for whoever edits postgresql.conf by hand, in its syntax: goes to stdout. */
static void show_settings(const struct setup_setting settings[SETUP_SETTINGS])
{
    printf("# settings that the server needs\n");
    for (size_t i = 0; i < SETUP_SETTINGS; i++) {
        static const char *const notes[] = {"  # is set already", "  # needs a reload",
                                            "  # needs a restart"};
        char *value = hook_setting_value(settings[i].wanted);

        printf("%s = %s%s\n", settings[i].name, value, notes[settings[i].need]);
        free(value);
    }
}

/* Whoever replaces the command that archives must know which one it was, and that WAL goes elsewhere only
 * from here on. */
static void tell_replaced_command(const char *before, const struct setup_setting *archive_command)
{
    struct error err = ERROR_INIT;

    if (archive_command->need == SETUP_FINE || before == NULL || before[0] == '\0' ||
        strcmp(before, "(disabled)") == 0)
        return;
    error_set(&err, ERROR_NEGATIVE, "archive_command was: %s", before);
    error_hint(&err, "what it has archived is not brought here; take a backup, as restores cannot "
                     "reach over such a gap");
    log_error(LOG_WARNING, &err);
}

static bool change_settings(struct connection *connection, const struct connection_server *server,
                            const struct setup_setting settings[SETUP_SETTINGS], struct error *err)
{
    if (!setup_apply(connection, settings, err))
        return false;
    tell_replaced_command(server->archive_command, &settings[SETUP_SETTINGS - 1]);
    for (size_t i = 0; i < SETUP_SETTINGS; i++)
        if (settings[i].need != SETUP_FINE)
            log_info("set %s%s", settings[i].name,
                     settings[i].need == SETUP_RESTART ? "; it takes effect after a restart" : "");
    log_info("next: `%s check`", process_command());
    return true;
}

static bool settle_settings(const struct config *config, const struct request *request,
                            struct error *err)
{
    struct setup_setting settings[SETUP_SETTINGS];
    struct connection *connection = NULL;
    const struct connection_server *server = NULL;
    struct error unreachable = ERROR_INIT;
    bool ok;

    if (!connection_open(config->conninfo, "init", &connection, &unreachable) ||
        !connection_server(connection, &server, &unreachable))
        server = NULL;
    ok = setup_settings(config, server, settings, err);
    if (ok) {
        if (!request->apply) {
            if (server == NULL)
                log_error(LOG_WARNING, &unreachable);
            show_settings(settings);
        } else if (server == NULL) {
            *err = unreachable;
            ok = false;
        } else {
            ok = change_settings(connection, server, settings, err);
        }
        setup_free_settings(settings);
    }
    connection_close(connection);
    return ok;
}

int cmd_init(const char *config_name, int argc, char **argv)
{
    struct request request = {.apply = false};
    const struct option table[] = {
        {"apply", OPTION_FLAG, &request.apply, NULL, "make the server's settings by ALTER SYSTEM"},
        {"pgdata", OPTION_STRING, &request.pgdata, "DIR",
         "data directory, for a new configuration"},
        {"conninfo", OPTION_STRING, &request.conninfo, "TEXT",
         "how to connect, for a new configuration"},
        {"url", OPTION_STRING, &request.url, "URL", "the repository, for a new configuration"},
        {"state-dir", OPTION_STRING, &request.state_dir, "DIR",
         "where pgvigil keeps its own files, for a new configuration"},
        {"quiet", OPTION_FLAG, &request.quiet, NULL, "say nothing unless something is wrong"},
        {0}};
    const struct options options = {
        .command = "init",
        .synopsis = "init [--apply] [--pgdata DIR] [--conninfo TEXT] [--url URL] [--state-dir DIR]",
        .summary =
            "Makes what is missing (configuration, repositories) and shows the settings that "
            "the server needs.",
        .table = table,
        .notes = "What is there already is left as it is, so init may be run again at any time."};
    struct config *config = NULL;
    struct error err = ERROR_INIT;
    int status;
    bool ok;

    if (!cmd_begin(&options, argc, argv, NULL, NULL, &status))
        return status;
    if (request.quiet)
        log_set_level(LOG_WARNING);
    ok = load(config_name, &request, &config, &err) && setup_places(config, &err) &&
         make_repositories(config, &err) && settle_settings(config, &request, &err);
    config_free(config);
    return ok ? 0 : cmd_fail(&err);
}
