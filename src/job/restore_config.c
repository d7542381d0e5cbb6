/*
 * restore_config.c - labels, settings and configuration files
 */
#include "job/restore_config.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "pgvigil/clock.h"
#include "pgvigil/control.h"
#include "pgvigil/crc32c.h"
#include "pgvigil/hook.h"
#include "pgvigil/layout.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"

#define AUTO_CONF "postgresql.auto.conf"
#define TEXT_MAXIMUM ((size_t)1024 * 1024)

static void append_setting(struct buffer *text, const char *name, const char *value)
{
    char *quoted = hook_setting_value(value);

    buffer_append_format(text, "%s = %s\n", name, quoted);
    free(quoted);
}

static void append_restore_command(const struct restore_config *restore, const char *program,
                                   struct buffer *text)
{
    char *command = hook_restore_command(program, restore->config, restore->request->repository,
                                         restore->request->without);

    append_setting(text, "restore_command", command);
    free(command);
}

static char *time_text(int64_t moment)
{
    int64_t seconds = moment / CLOCK_SECOND, fraction = moment % CLOCK_SECOND;
    char text[64] = "";
    struct tm tm;
    time_t time;

    if (fraction < 0) {
        fraction += CLOCK_SECOND;
        seconds--;
    }
    time = (time_t)seconds;
    if (gmtime_r(&time, &tm) != NULL)
        strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
    return mem_printf("%s.%06d+00", text, (int)fraction);
}

static char *target_value(const struct restore_request *request)
{
    char lsn[WAL_LSN_TEXT_SIZE];

    switch (request->target) {
    case RESTORE_LATEST:
        break;
    case RESTORE_IMMEDIATE:
        return mem_strdup("immediate");
    case RESTORE_TIME:
        return time_text(request->time);
    case RESTORE_LSN:
        return mem_strdup(wal_format_lsn(request->lsn, lsn));
    case RESTORE_XID:
        return mem_printf("%" PRIu32, request->xid);
    case RESTORE_NAME:
        return mem_strdup(request->name);
    }
    return mem_strdup("");
}

/*
 * All five, as a postgresql.conf may set another one, and the server takes one only. It goes through
 * them in the order of the file, and an empty one behind the one that counts would be an error too.
 */
static void append_target(const struct restore_request *request, struct buffer *text)
{
    static const char *const names[] = {
        [RESTORE_IMMEDIATE] = "recovery_target", [RESTORE_TIME] = "recovery_target_time",
        [RESTORE_LSN] = "recovery_target_lsn",   [RESTORE_XID] = "recovery_target_xid",
        [RESTORE_NAME] = "recovery_target_name",
    };
    char *value = target_value(request);

    for (size_t i = RESTORE_IMMEDIATE; i <= RESTORE_NAME; i++)
        if (i != (size_t)request->target)
            append_setting(text, names[i], "");
    if (request->target != RESTORE_LATEST)
        append_setting(text, names[request->target], value);
    free(value);
}

bool restore_config_archiving_off(const struct restore_config *restore)
{
    return restore->request->archiving != RESTORE_TAKE_OVER && !restore->place->configured;
}

static void append_settings(const struct restore_config *restore, const char *program,
                            struct buffer *text)
{
    static const char *const actions[] = {
        [RESTORE_PROMOTE] = "promote", [RESTORE_PAUSE] = "pause", [RESTORE_SHUTDOWN] = "shutdown"};
    const struct restore_request *request = restore->request;
    char run[CLOCK_COMPACT_SIZE], now[CLOCK_TEXT_SIZE], timeline[16] = "current";

    if (restore->choice->follow == RESTORE_TARGET_NUMBER)
        snprintf(timeline, sizeof timeline, "%" PRIu32, restore->choice->timeline);
    buffer_append_format(text, "\n# Written by pgvigil restore at %s, from backup %s:\n",
                         clock_format(clock_now(), now),
                         layout_run_text(restore->choice->backup->run, run));
    append_restore_command(restore, program, text);
    append_target(request, text);
    append_setting(text, "recovery_target_inclusive",
                   request->bound == RESTORE_INCLUSIVE ? "on" : "off");
    buffer_append_string(text,
                         "# Of a standby: 'latest', so that it follows the next promotion:\n");
    append_setting(text, "recovery_target_timeline", timeline);
    append_setting(text, "recovery_target_action", actions[request->action]);
    if (restore->choice->gap) {
        buffer_append_string(text,
                             "# Reading ahead would meet a gap in the WAL behind the target:\n");
        append_setting(text, "recovery_prefetch", "off");
    }
    if (restore->plan->in_place) {
        buffer_append_string(text,
                             "# Recovery refuses tablespaces in the data directory without:\n");
        append_setting(text, "allow_in_place_tablespaces", "on");
    }
    buffer_append_string(text, "# Commands of the original cluster, which might reach it:\n");
    append_setting(text, "recovery_end_command", "");
    append_setting(text, "archive_cleanup_command", "");
    buffer_append_string(text, "# A delayed standby's; recovery is to get there now:\n");
    append_setting(text, "recovery_min_apply_delay", "0");
    if (!restore_config_archiving_off(restore))
        return;
    buffer_append_string(text,
                         "# Off, so that this copy does not write into the archive of the original."
                         " Once it takes\n# its place: ALTER SYSTEM SET archive_mode = 'on', and"
                         " restart.\n");
    append_setting(text, "archive_mode", "off");
}

/* Settings that ours replace. */
static bool is_replaced(const char *name, size_t length)
{
    static const char *const names[] = {"restore_command", "recovery_end_command",
                                        "archive_cleanup_command", "archive_mode",
                                        "recovery_min_apply_delay"};
    static const char prefix[] = "recovery_target";

    if (length >= strlen(prefix) && strncasecmp(name, prefix, strlen(prefix)) == 0)
        return true;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (length == strlen(names[i]) && strncasecmp(name, names[i], length) == 0)
            return true;
    return false;
}

void restore_config_settings(const struct restore_config *restore, const char *program,
                             const char *old, struct buffer *text)
{
    const bool off = restore_config_archiving_off(restore);

    while (*old != '\0') {
        const size_t length = strcspn(old, "\n"), blanks = strspn(old, " \t\r");
        const char *name = old + blanks;
        size_t name_length = 0;

        while (isalnum((unsigned char)name[name_length]) || name[name_length] == '_')
            name_length++;
        if (is_replaced(name, name_length) && (off || name_length != strlen("archive_mode") ||
                                               strncasecmp(name, "archive_mode", name_length) != 0))
            buffer_append_string(text, "# before the restore: ");
        buffer_append(text, old, length);
        buffer_append_string(text, "\n");
        old += length + (old[length] == '\n');
    }
    append_settings(restore, program, text);
}

/* Writes a file of ours and notes it for backup_manifest. */
static bool put(const struct restore_config *restore, const char *path, const struct buffer *text,
                struct restore_manifest_files *written, struct error *err)
{
    written->files[written->count++] = (struct restore_manifest_file){
        .path = path, .size = text->length, .crc32c = crc32c(0, text->data, text->length)};
    return restore_tree_write(restore->tree, path, text->data, text->length, err);
}

static bool put_text(const struct restore_config *restore, const char *path, const char *string,
                     struct restore_manifest_files *written, struct error *err)
{
    struct buffer text = BUFFER_INIT;
    bool ok;

    buffer_append_string(&text, string);
    ok = put(restore, path, &text, written, err);
    buffer_free(&text);
    return ok;
}

static bool write_settings(const struct restore_config *restore, struct error *err)
{
    struct buffer old = BUFFER_INIT, text = BUFFER_INIT;
    char *program = NULL;
    bool ok = process_executable(&program, err);

    if (ok && restore_plan_find(restore->plan, AUTO_CONF) != NULL)
        ok = restore_tree_read(restore->tree, AUTO_CONF, TEXT_MAXIMUM, &old, err);
    if (ok) {
        restore_config_settings(restore, program, buffer_text(&old), &text);
        ok = restore_tree_write(restore->tree, AUTO_CONF, text.data, text.length, err) &&
             restore_tree_write(restore->tree, "recovery.signal", "", 0, err);
    }
    free(program);
    buffer_free(&old);
    buffer_free(&text);
    return ok;
}

/* As do_pg_backup_start does it (src/backend/access/transam/xlog.c). */
static void append_location(struct buffer *text, const char *location)
{
    for (const char *at = location; *at; at++) {
        if (*at == '\n' || *at == '\r' || *at == '\\')
            buffer_append_string(text, "\\");
        buffer_append(text, at, 1);
    }
}

/* Bytes of a line up to its unescaped newline. */
static size_t line_length(const char *line)
{
    size_t length = 0;

    while (line[length] != '\0' && line[length] != '\n')
        length += line[length] == '\\' && line[length + 1] != '\0' ? 2 : 1;
    return length;
}

/* A line is the OID, a blank and the location; a relative one is that of a tablespace in place. */
static bool map_line(const struct restore_place *place, const char *line, size_t length,
                     struct buffer *text, struct error *err)
{
    char *end;
    const unsigned long oid = strtoul(line, &end, 10);

    if (!isdigit((unsigned char)*line) || *end != ' ' || oid == 0 || oid > UINT32_MAX)
        return error_set(err, ERROR_INTEGRITY, "the backup's tablespace_map is malformed");
    for (size_t i = 0; i < place->count; i++) {
        if (place->tablespaces[i].oid == oid) {
            buffer_append_format(text, "%lu ", oid);
            append_location(text, place->tablespaces[i].to);
            buffer_append_string(text, "\n");
            return true;
        }
    }
    if (end[1] == '/')
        return error_set(err, ERROR_INTEGRITY,
                         "the backup's tablespace_map names tablespace %lu, which it does not have",
                         oid);
    buffer_append(text, line, length);
    buffer_append_string(text, "\n");
    return true;
}

bool restore_config_map(const struct restore_place *place, const char *old, struct buffer *text,
                        struct error *err)
{
    while (*old != '\0') {
        const size_t length = line_length(old);

        if (!map_line(place, old, length, text, err))
            return false;
        old += length + (old[length] == '\n');
    }
    return true;
}

static bool write_labels(const struct restore_config *restore,
                         struct restore_manifest_files *written, struct error *err)
{
    struct buffer map = BUFFER_INIT;
    bool ok = restore_config_map(restore->place, restore->meta->tablespace_map, &map, err) &&
              (map.length == 0 || put(restore, "tablespace_map", &map, written, err)) &&
              put_text(restore, "backup_label", restore->meta->backup_label, written, err);

    buffer_free(&map);
    return ok;
}

/* pg_control must be that of the backup's cluster. */
static bool read_control(const struct restore_config *restore, struct control *control,
                         struct error *err)
{
    const struct backup_info *backup = restore->choice->backup;
    struct buffer bytes = BUFFER_INIT;
    bool ok =
        restore_tree_read(restore->tree, RESTORE_TREE_CONTROL, CONTROL_FILE_SIZE, &bytes, err) &&
        control_parse(bytes.data, bytes.length, control, err);

    if (ok && control->system_identifier != backup->system_identifier)
        ok = error_set(err, ERROR_INTEGRITY,
                       "the backup's pg_control is that of system identifier %" PRIu64
                       ", its backup.json says %" PRIu64,
                       control->system_identifier, backup->system_identifier);
    buffer_free(&bytes);
    return ok;
}

/* A server in recovery needs at least what the primary had of these. */
static bool write_main(const struct restore_config *restore, const struct control *control,
                       struct restore_manifest_files *written, struct error *err)
{
    char *text = mem_printf(
        "# Written by pgvigil restore: this cluster's configuration lay outside its data directory."
        "\n# Its files are in " RESTORE_PLAN_CONFIGURATION
        "; here is the least that it needs to start.\n"
        "max_connections = %d\n"
        "max_worker_processes = %d\n"
        "max_wal_senders = %d\n"
        "max_prepared_transactions = %d\n"
        "max_locks_per_transaction = %d\n"
        "# Left out on purpose. An extension whose WAL only its own library can replay needs it:\n"
        "#shared_preload_libraries = ''\n",
        control->max_connections, control->max_worker_processes, control->max_wal_senders,
        control->max_prepared_xacts, control->max_locks_per_xact);
    const bool ok = put_text(restore, "postgresql.conf", text, written, err);

    free(text);
    return ok;
}

/* A file that lay outside goes to where a server looks for it that is not told otherwise. */
static bool copy_outside(const struct restore_config *restore, const char *name,
                         const char *otherwise, struct restore_manifest_files *written,
                         struct error *err)
{
    struct buffer text = BUFFER_INIT;
    bool ok = true;

    if (restore_plan_find(restore->plan, name) != NULL)
        return true;
    for (size_t i = 0; ok && i < restore->plan->file_count && text.length == 0; i++) {
        const char *path = restore->plan->files[i].path;
        const char *base = strrchr(path, '/');

        if (strncmp(path, RESTORE_PLAN_CONFIGURATION "/", strlen(RESTORE_PLAN_CONFIGURATION "/")) ==
                0 &&
            strcmp(base + 1, name) == 0)
            ok = restore_tree_read(restore->tree, path, TEXT_MAXIMUM, &text, err);
    }
    if (text.length == 0)
        buffer_append_string(&text, otherwise);
    ok = ok && put(restore, name, &text, written, err);
    buffer_free(&text);
    return ok;
}

/* A postgresql.conf that names the original as data_directory would make a start of the copy start
 * the original instead. */
static bool names_directory(const char *text)
{
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += strspn(line, " \t\r\n");
        if (strncasecmp(line, "data_directory", strlen("data_directory")) == 0)
            return true;
    }
    return false;
}

static bool settle_directory(const struct restore_config *restore,
                             struct restore_manifest_files *written, struct error *err)
{
    struct buffer text = BUFFER_INIT;
    bool ok = restore_tree_read(restore->tree, "postgresql.conf", TEXT_MAXIMUM, &text, err);

    if (ok && names_directory(buffer_text(&text))) {
        buffer_append_string(&text, "\n# Written by pgvigil restore: this is another directory.\n");
        append_setting(&text, "data_directory", restore->place->path);
        ok = put_text(restore, "postgresql.conf", buffer_text(&text), written, err);
    }
    buffer_free(&text);
    return ok;
}

static bool write_configuration(const struct restore_config *restore, const struct control *control,
                                struct restore_manifest_files *written, struct error *err)
{
    if (restore_plan_find(restore->plan, "postgresql.conf") == NULL
            ? !write_main(restore, control, written, err)
            : !settle_directory(restore, written, err))
        return false;
    return copy_outside(restore, "pg_hba.conf",
                        "# Written by pgvigil restore: the backup has none.\nlocal all all peer\n",
                        written, err) &&
           copy_outside(restore, "pg_ident.conf",
                        "# Written by pgvigil restore: the backup has none.\n", written, err);
}

bool restore_config_write(const struct restore_config *restore,
                          struct restore_manifest_files *written, struct error *err)
{
    struct control control;

    return read_control(restore, &control, err) && write_labels(restore, written, err) &&
           write_configuration(restore, &control, written, err) && write_settings(restore, err);
}
