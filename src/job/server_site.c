/*
 * server_site.c - is this the directory the server runs in, and does it archive through pgvigil?
 */
#include "job/server_site.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "job/apart.h"
#include "pgvigil/files.h"
#include "pgvigil/hook.h"
#include "pgvigil/mem.h"
#include "pgvigil/pack.h"
#include "pgvigil/process.h"

#define PIDFILE_MAXIMUM ((size_t)64 * 1024)
#define START_TOLERANCE 60 /* s */

static bool same_file(const char *a, const char *b)
{
    struct stat of_a, of_b;

    return stat(a, &of_a) == 0 && stat(b, &of_b) == 0 && of_a.st_dev == of_b.st_dev &&
           of_a.st_ino == of_b.st_ino;
}

static bool check_control(const char *path, const struct control *control,
                          const struct connection_server *server, struct error *err)
{
    int major = server->version_num / 10000;

    if (control->system_identifier != server->system_identifier)
        return error_set(err, ERROR_CONFIG,
                         "\"%s\" belongs to another cluster (system identifier %" PRIu64
                         ") than the server (%" PRIu64 ")",
                         path, control->system_identifier, server->system_identifier);
    if (control->major != major)
        return error_set(err, ERROR_CONFIG,
                         "\"%s\" is a data directory of catalog version %" PRIu32
                         ", which PostgreSQL %d should not have",
                         path, control->catalog_version, major);
    if (control->block_size != PACK_BLOCK)
        return error_set(err, ERROR_CONFIG,
                         "the cluster has pages of %u bytes; only %zu can be backed up",
                         control->block_size, PACK_BLOCK);
    return true;
}

static bool choose_directory(const struct config *config, const struct connection_server *server,
                             struct error *err)
{
    const char *configured = config->pgdata;
    const char *servers = server->data_directory;

    if (configured == NULL && servers == NULL) {
        error_set(err, ERROR_CONFIG, "the server does not tell its data directory to this role");
        return error_hint(err, "set pgdata in \"%s\", or grant pg_read_all_settings", config->path);
    }
    if (configured == NULL || servers == NULL || same_file(configured, servers))
        return true;
    error_set(err, ERROR_CONFIG,
              "pgdata is \"%s\", but the server that conninfo leads to runs in \"%s\"", configured,
              servers);
    return error_hint(err,
                      "if that server is the right one, and on this host, set pgdata in \"%s\" to "
                      "\"%s\"",
                      config->path, servers);
}

/* Line 3 of postmaster.pid: when the server started, in seconds since 1970
 * (src/include/utils/pidfile.h). 0 if it cannot be read. */
static long long start_in_directory(const char *directory)
{
    char *path = files_join(directory, "postmaster.pid");
    struct buffer text = BUFFER_INIT;
    struct error ignored = ERROR_INIT;
    const char *line = NULL;
    long long start = 0;

    if (files_read(path, PIDFILE_MAXIMUM, &text, &ignored)) {
        line = strchr(buffer_text(&text), '\n');
        line = line != NULL ? strchr(line + 1, '\n') : NULL;
    }
    if (line != NULL)
        start = strtoll(line + 1, NULL, 10);
    buffer_free(&text);
    free(path);
    return start;
}

/* A copy of a data directory passes every look at what is in it, but no server started there when
 * this one did. The server notes the two times a moment apart. */
static bool runs_here(struct connection *connection, const char *directory, struct error *err)
{
    long long here = start_in_directory(directory), server;
    char **row;

    if (!connection_row(connection,
                        "SELECT extract(epoch FROM pg_postmaster_start_time())::bigint::text", 1,
                        &row, err))
        return false;
    server = row[0] != NULL ? strtoll(row[0], NULL, 10) : 0;
    connection_free_row(row, 1);
    if (here != 0 && llabs(server - here) <= START_TOLERANCE)
        return true;
    error_set(err, ERROR_CONFIG, "\"%s\" is not the directory the server runs in", directory);
    error_detail(err, "its postmaster.pid does not tell of a server started when this one was");
    return error_hint(err, "pgvigil must run on the database host; check pgdata and conninfo");
}

bool server_site_directory(const struct config *config, struct connection *connection,
                           const struct connection_server *server, char **path,
                           struct control *control, struct error *err)
{
    const char *directory = config->pgdata != NULL ? config->pgdata : server->data_directory;

    if (directory != NULL && !control_read(directory, control, NULL, NULL, err)) {
        if (err->code == ERROR_NOT_FOUND)
            err->code = ERROR_CONFIG;
        return false;
    }
    if (!choose_directory(config, server, err) || !check_control(directory, control, server, err) ||
        !runs_here(connection, directory, err) || !apart_from_data(config, directory, err))
        return false;
    *path = mem_strdup(directory);
    return true;
}

/* Was it set, but not yet taken up? */
static bool awaits_restart(struct connection *connection, const char *setting)
{
    char *sql =
        mem_printf("SELECT pending_restart::text FROM pg_settings WHERE name = '%s'", setting);
    struct error ignored = ERROR_INIT;
    char **row;
    bool awaits = false;

    if (connection_row(connection, sql, 1, &row, &ignored)) {
        awaits = row[0] != NULL && strcmp(row[0], "true") == 0;
        connection_free_row(row, 1);
    }
    free(sql);
    return awaits;
}

static bool refuse_setting(struct connection *connection, const char *setting, const char *value,
                           struct error *err)
{
    error_set(err, ERROR_CONFIG, "the server does not archive its WAL: %s is %s", setting, value);
    if (awaits_restart(connection, setting))
        return error_hint(err,
                          "it was changed, but takes effect only after a restart of the server");
    return error_hint(err, "`%s init` shows the settings, `%s init --apply` makes them",
                      process_command(), process_command());
}

bool server_site_archives(struct connection *connection, const struct connection_server *server,
                          struct error *err)
{
    if (server->archive_mode != NULL && strcmp(server->archive_mode, "off") == 0)
        return refuse_setting(connection, "archive_mode", "off", err);
    if (server->wal_level != NULL && strcmp(server->wal_level, "minimal") == 0)
        return refuse_setting(connection, "wal_level", "minimal", err);
    /* That of a standby archives nothing before it is promoted. */
    if (!server->in_recovery && server->archive_command != NULL &&
        server->archive_command[0] == '\0' &&
        (server->archive_library == NULL || server->archive_library[0] == '\0'))
        return refuse_setting(connection, "archive_command", "empty", err);
    return true;
}

/* By a relative path it would be sought from the server's directory: that is not judged. */
static bool calls_with(const struct config *config, const char *command)
{
    char *name = hook_configuration(command), *path = NULL;
    struct error ignored = ERROR_INIT;
    bool same = true;

    if (name != NULL && (name[0] == '/' || strpbrk(name, "/.") == NULL) &&
        (name[0] != '\0' ? config_find_path(name, &path, &ignored)
                         : config_find_only(CONFIG_DIRECTORY, &path, &ignored)))
        same = same_file(path, config->path);
    free(path);
    free(name);
    return same;
}

bool server_site_calls_us(const struct config *config, const struct connection_server *server,
                          struct error *err)
{
    const char *library = server->archive_library;
    const char *command = server->archive_command;
    char *wanted, *quoted;

    if (library != NULL && library[0] != '\0')
        error_set(err, ERROR_CONFIG,
                  "archive_library is \"%s\" and takes the place of archive_command", library);
    else if (command != NULL && strstr(command, "archive-push") == NULL)
        error_set(err, ERROR_CONFIG, "archive_command does not call pgvigil: \"%s\"", command);
    else if (command != NULL && !calls_with(config, command))
        error_set(err, ERROR_CONFIG,
                  "archive_command uses another configuration than \"%s\": \"%s\"", config->path,
                  command);
    else
        return true;
    if (!hook_archive_command(config, &wanted, err))
        return false;
    quoted = hook_setting_value(wanted);
    error_hint(err, "archive_command = %s; `%s init --apply` sets it", quoted, process_command());
    free(quoted);
    free(wanted);
    return false;
}
