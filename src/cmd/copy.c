/*
 * copy.c - pgvigil copy
 */
#include "pgvigil/copy.h"

#include <inttypes.h>

#include "cmd/cmd.h"
#include "pgvigil/buffer.h"
#include "pgvigil/log.h"
#include "pgvigil/process.h"
#include "pgvigil/progress.h"
#include "pgvigil/units.h"

static void append_count(uint64_t count, const char *what, struct buffer *text)
{
    buffer_append_format(text, "%" PRIu64 " %s%s", count, what, count == 1 ? "" : "s");
}

static void append_got(const struct copy_result *result, struct buffer *text)
{
    char bytes[UNITS_TEXT_SIZE];

    if (result->objects == 0) {
        buffer_append_string(text, "nothing");
        return;
    }
    append_count(result->objects, "object", text);
    buffer_append_format(text, " (%s, ", units_format_size(result->bytes, bytes));
    append_count(result->backups, "backup", text);
    buffer_append_string(text, ")");
}

static void append_left(const struct copy_result *result, struct buffer *text)
{
    if (result->wal_left == 0 && result->backups_left == 0)
        return;
    buffer_append_string(text, "; ");
    if (result->wal_left > 0)
        append_count(result->wal_left, "WAL file", text);
    buffer_append_string(text, result->wal_left > 0 && result->backups_left > 0 ? " and " : "");
    if (result->backups_left > 0)
        append_count(result->backups_left, "backup", text);
    buffer_append_string(text, " could not be copied");
}

static void say_what_came(const struct copy_result *result, void *context)
{
    struct buffer got = BUFFER_INIT, left = BUFFER_INIT;

    (void)context;
    append_got(result, &got);
    append_left(result, &left);
    if (result->objects == 0 && left.length == 0)
        log_info("repository \"%s\" has all that \"%s\" has", result->to, result->from);
    else
        log_info("repository \"%s\" got %s from \"%s\"%s", result->to, buffer_text(&got),
                 result->from, buffer_text(&left));
    buffer_free(&got);
    buffer_free(&left);
}

int cmd_copy(const char *config_name, int argc, char **argv)
{
    struct copy_request request = {.from = NULL};
    bool quiet = false;
    long jobs = 0;
    const struct option table[] = {
        {"from", OPTION_STRING, &request.from, "NAME", "repository to copy from"},
        {"to", OPTION_STRING, &request.to, "NAME", "repository to copy to; without it: all others"},
        {"jobs", OPTION_COUNT, &jobs, "N", "objects under way at once"},
        {"quiet", OPTION_FLAG, &quiet, NULL, "say nothing unless something is wrong"},
        {0}};
    const struct options options = {
        .command = "copy",
        .synopsis = "copy [--from NAME] [--to NAME] [--jobs N] [--quiet]",
        .summary = "Brings repositories level: copies what one has and another lacks. May be\n"
                   "interrupted at any time and run again.",
        .table = table};
    struct config *config;
    struct error err = ERROR_INIT;
    int status;

    if (!cmd_begin(&options, argc, argv, NULL, NULL, &status))
        return status;
    process_catch_signals();
    if (quiet) {
        log_set_level(LOG_WARNING);
        progress_set_terminal(false);
    }
    request.jobs = (int)jobs;
    if (!cmd_load_config(config_name, &config, &err))
        return cmd_fail(&err);
    bool ok = copy_run(config, &request, say_what_came, NULL, &err);
    config_free(config);
    return ok ? 0 : cmd_fail(&err);
}
