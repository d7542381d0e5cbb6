/*
 * restore_text.c - what a restore did, and what is to be done next
 */
#include "cmd/restore_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgvigil/clock.h"
#include "pgvigil/json_out.h"
#include "pgvigil/keyring.h"
#include "pgvigil/layout.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"
#include "pgvigil/units.h"
#include "pgvigil/wal.h"

const char *const cmd_restore_actions[CMD_RESTORE_ACTIONS] =
    {[RESTORE_PROMOTE] = "promote", [RESTORE_PAUSE] = "pause", [RESTORE_SHUTDOWN] = "shutdown"};

/* The target's kind and value as text. */
static const char *describe(const struct restore_request *request, char value[CLOCK_TEXT_SIZE + 32])
{
    char moment[CLOCK_TEXT_SIZE];

    value[0] = '\0';
    switch (request->target) {
    case RESTORE_LATEST:
        return "latest";
    case RESTORE_IMMEDIATE:
        return "immediate";
    case RESTORE_TIME:
        snprintf(value, CLOCK_TEXT_SIZE + 32, "%s", clock_format_local(request->time, moment));
        return "time";
    case RESTORE_LSN:
        wal_format_lsn(request->lsn, value);
        return "lsn";
    case RESTORE_XID:
        snprintf(value, CLOCK_TEXT_SIZE + 32, "%" PRIu32, request->xid);
        return "xid";
    case RESTORE_NAME:
        snprintf(value, CLOCK_TEXT_SIZE + 32, "%s", request->name);
        return "name";
    }
    return "";
}

static void say_where_it_stops(const struct restore_request *request,
                               const struct restore_result *result)
{
    const uint32_t timeline = result->timeline;
    const char *bound = request->bound == RESTORE_INCLUSIVE ? "" : "just before ";
    char value[CLOCK_TEXT_SIZE + 32];
    const char *kind = describe(request, value);

    if (request->target == RESTORE_LATEST)
        log_info("it recovers to the end of the archived WAL of timeline %" PRIu32
                 "; segment %s is the first that is not there",
                 timeline, result->missing);
    else if (request->target == RESTORE_IMMEDIATE)
        log_info("it recovers to the end of the backup");
    else
        log_info("it recovers to %s%s %s on timeline %" PRIu32, bound, kind, value, timeline);
}

/* Packages keep the programs of each major version where PATH does not lead. */
static char *find_pg_ctl(int major)
{
    char *debian = mem_printf("/usr/lib/postgresql/%d/bin/pg_ctl", major);
    char *redhat = mem_printf("/usr/pgsql-%d/bin/pg_ctl", major);
    char *found = mem_strdup(access(debian, X_OK) == 0   ? debian
                             : access(redhat, X_OK) == 0 ? redhat
                                                         : "pg_ctl");

    free(redhat);
    free(debian);
    return found;
}

/* Debian names clusters by where they are, and keeps their configuration elsewhere. NULL: not there. */
static char *debian_command(const char *directory, int major)
{
    char *prefix = mem_printf("/var/lib/postgresql/%d/", major);
    const size_t length = strlen(prefix);
    const char *name = strncmp(directory, prefix, length) == 0 ? directory + length : "";
    char *configuration = mem_printf("/etc/postgresql/%d/%s/postgresql.conf", major, name);
    char *word = process_word(name), *command = NULL;

    if (*name != '\0' && access(configuration, F_OK) == 0)
        command = mem_printf("pg_ctlcluster %d %s start", major, word);
    free(word);
    free(configuration);
    free(prefix);
    return command;
}

static char *start_command(const char *directory, int major)
{
    char *debian = debian_command(directory, major);

    if (debian != NULL)
        return debian;
    char *program = find_pg_ctl(major);
    char *word = process_word(program), *quoted = process_quote(directory);
    char *log = mem_printf("%s/start.log", directory), *quoted_log = process_quote(log);
    char *command = mem_printf("%s -D %s -l %s start", word, quoted, quoted_log);

    free(quoted_log);
    free(log);
    free(quoted);
    free(word);
    free(program);
    return command;
}

/* Everything else can do without. */
static void warn_of_state(const struct config *config, const struct restore_result *result)
{
    struct error err = ERROR_INIT;

    if (!config->stateless || result->archiving_off)
        return;
    error_set(&err, ERROR_SYSTEM,
              "the restored server archives, which fails as long as state directory \"%s\" cannot "
              "be written to",
              config->state_dir);
    process_hint_directory(config->state_dir, &err);
    log_error(LOG_WARNING, &err);
}

static void say_what_next(const struct restore_request *request, const char *directory,
                          const struct restore_result *result)
{
    char *start = start_command(directory, result->major);

    log_info("start it as user %s: %s (with -o '-p PORT' while another server has its port)",
             process_user_name(), start);
    free(start);
    if (result->passphrase)
        log_info(
            "the server's environment needs " KEYRING_PASSPHRASE ", too: its restore_command "
            "reads the encrypted WAL (or name a file: identity_passphrase_file in [encryption])");
    if (request->action == RESTORE_PROMOTE)
        log_info("it is there, and takes writes on a new timeline, when SELECT pg_is_in_recovery() "
                 "returns f");
    else if (request->action == RESTORE_PAUSE)
        log_info("it pauses there for you to look: SELECT pg_wal_replay_resume() then makes it a "
                 "primary; for another moment, restore again");
    else
        log_info("it shuts down there; without recovery_target_action = 'shutdown' in "
                 "postgresql.auto.conf the next start goes on from there");
    if (result->configuration)
        log_info("configuration files from outside the data directory are in \"%s\"",
                 result->configuration);
    if (result->archiving_off)
        log_info("it does not archive; once it takes the place of the original: ALTER SYSTEM SET "
                 "archive_mode = 'on', restart, and set pgdata in the configuration to it");
    else if (request->archiving == RESTORE_TAKE_OVER)
        log_info("it archives as the original did: make sure that the original never starts again, "
                 "and that pgdata in the configuration is '%s'",
                 directory);
}

/* The server was writing to it when it died, so it was not complete and could not be archived by itself. */
static void warn_of_unarchived(const struct config *config, const char *directory,
                               const struct restore_result *result)
{
    struct error err = ERROR_INIT;
    char *folder = process_quote(directory), *path = process_quote(config->path);
    const char *name = strrchr(result->unarchived, '/');

    while (name[-1] != '/') /* with the directory made in pg_wal */
        name--;

    error_set(&err, ERROR_NEGATIVE,
              "the last transactions before the server died are not in the archive, but may be in "
              "\"%s\"",
              result->unarchived);
    error_hint(&err,
               "to recover them too, before you start it: cd %s && pgvigil -c %s archive-push "
               "pg_wal/%s",
               folder, path, name);
    log_error(LOG_WARNING, &err);
    free(folder);
    free(path);
}

void cmd_restore_text(const struct config *config, const struct restore_request *request,
                      const char *directory, const struct restore_result *result, int64_t took)
{
    char run[CLOCK_COMPACT_SIZE], size[UNITS_TEXT_SIZE], duration[UNITS_TEXT_SIZE];

    log_info("backup %s is restored to \"%s\": %s written and verified, took %s",
             layout_run_text(result->backup, run), directory,
             units_format_size(result->bytes - result->kept, size),
             units_format_duration(took, duration));
    if (request->mode == RESTORE_DELTA)
        log_info("%s were there already, and right", units_format_size(result->kept, size));
    if (result->wal_aside)
        log_info("what was in pg_wal is in \"%s\"; remove it once you are sure that nothing in it "
                 "is needed",
                 result->wal_aside);
    say_where_it_stops(request, result);
    say_what_next(request, directory, result);
    if (result->unarchived)
        warn_of_unarchived(config, directory, result);
    warn_of_state(config, result);
}

static json_t *target_json(const struct restore_request *request)
{
    char value[CLOCK_TEXT_SIZE + 32];
    json_t *target = json_out_object();

    json_out_put(target, "kind", json_out_text(describe(request, value)));
    json_out_put(target, "value", value[0] ? json_out_text(value) : json_null());
    json_out_put(target, "inclusive", json_boolean(request->bound == RESTORE_INCLUSIVE));
    return target;
}

void cmd_restore_json(const struct restore_request *request, const char *directory,
                      const struct restore_result *result, int64_t took)
{
    struct buffer text = BUFFER_INIT;
    char run[CLOCK_COMPACT_SIZE];
    json_t *json = json_out_object();

    json_out_put(json, "directory", json_out_text(directory));
    json_out_put(json, "backup", json_out_text(layout_run_text(result->backup, run)));
    json_out_put(json, "target", target_json(request));
    json_out_put(json, "action", json_out_text(cmd_restore_actions[request->action]));
    json_out_put(json, "timeline", json_integer(result->timeline));
    json_out_put(json, "bytes", json_integer((json_int_t)result->bytes));
    json_out_put(json, "kept", json_integer((json_int_t)result->kept));
    json_out_put(json, "wal_aside",
                 result->wal_aside ? json_out_text(result->wal_aside) : json_null());
    json_out_put(json, "unarchived",
                 result->unarchived ? json_out_text(result->unarchived) : json_null());
    json_out_put(json, "seconds", json_real((double)took / (double)CLOCK_SECOND));
    json_out_put(json, "configuration",
                 result->configuration ? json_out_text(result->configuration) : json_null());
    json_out_put(json, "archiving_off", json_boolean(result->archiving_off));
    json_out_write(json, &text);
    json_decref(json);
    fputs(buffer_text(&text), stdout);
    buffer_free(&text);
}
