/*
 * backup.c - pgvigil backup
 */
#include "pgvigil/backup.h"

#include <inttypes.h>

#include "cmd/cmd.h"
#include "pgvigil/buffer.h"
#include "pgvigil/clock.h"
#include "pgvigil/layout.h"
#include "pgvigil/log.h"
#include "pgvigil/process.h"
#include "pgvigil/progress.h"
#include "pgvigil/units.h"

/* "181.9 MB in 975 files", or "12.3 MB of 4.2 GB in 975 files changed since 20261120T114210Z". */
static void describe_contents(const struct backup_result *result, struct buffer *text)
{
    const struct backup_info *info = result->info;
    char database[UNITS_TEXT_SIZE], changed[UNITS_TEXT_SIZE], base[CLOCK_COMPACT_SIZE];

    units_format_size(info->database_bytes, database);
    if (result->base == 0)
        buffer_append_format(text, "%s in %" PRIu64 " files", database, info->file_count);
    else
        buffer_append_format(text, "%s of %s in %" PRIu64 " files changed since %s",
                             units_format_size(result->changed_bytes, changed), database,
                             info->file_count, layout_run_text(result->base, base));
}

static void say_what_came(const struct backup_result *result, int64_t took)
{
    const struct backup_info *info = result->info;
    char run[CLOCK_COMPACT_SIZE], duration[UNITS_TEXT_SIZE], stored[UNITS_TEXT_SIZE];
    char start[WAL_LSN_TEXT_SIZE], stop[WAL_LSN_TEXT_SIZE];
    struct buffer contents = BUFFER_INIT;

    describe_contents(result, &contents);
    log_info("backup %s is complete: %s, %s stored, WAL %s to %s, took %s",
             layout_run_text(info->run, run), buffer_text(&contents),
             units_format_size(info->stored_bytes, stored), wal_format_lsn(info->start_lsn, start),
             wal_format_lsn(info->stop_lsn, stop), units_format_duration(took, duration));
    buffer_free(&contents);
}

/* A backup with damaged pages is kept, as it may be the only one; but nobody may overlook it. */
static int judge_pages(const struct backup_info *info)
{
    struct error err = ERROR_INIT;

    if (info->page_errors == 0)
        return 0;
    for (size_t i = 0; i < info->page_error_list_count; i++)
        log_warning("page with a wrong checksum: %s", info->page_error_list[i]);
    error_set(&err, ERROR_INTEGRITY,
              "the database has %" PRIu64
              " page%s with a wrong checksum, in the backup just as in the data directory",
              info->page_errors, info->page_errors == 1 ? "" : "s");
    error_hint(&err, "the damage is in the data directory: restore an older backup elsewhere and "
                     "compare, before older backups expire");
    return cmd_fail(&err);
}

/* It is safe where it is, but whoever runs it from cron must hear that it is not everywhere. */
static int judge_places(const struct backup_result *result)
{
    struct error err = ERROR_INIT;
    char run[CLOCK_COMPACT_SIZE];

    if (result->left_out == 0)
        return 0;
    error_set(&err, ERROR_STORE, "backup %s is in %zu of %zu repositories only",
              layout_run_text(result->info->run, run), result->repositories - result->left_out,
              result->repositories);
    error_hint(&err, "`%s copy` brings it to the others", process_command());
    return cmd_fail(&err);
}

int cmd_backup(const char *config_name, int argc, char **argv)
{
    struct backup_request request = {.jobs = 0};
    bool quiet = false;
    long jobs = 0;
    const struct option table[] = {
        {"full", OPTION_FLAG, &request.full, NULL, "read and store everything anew"},
        {"jobs", OPTION_COUNT, &jobs, "N", "threads that read and compress"},
        {"quiet", OPTION_FLAG, &quiet, NULL, "say nothing unless something is wrong"},
        {0}};
    const struct options options = {.command = "backup",
                                    .synopsis = "backup [--full] [--jobs N] [--quiet]",
                                    .summary = "Takes a base backup.",
                                    .table = table,
                                    .notes =
                                        "Exit status: 3 if it is in fewer repositories than are "
                                        "written at once, or failed\nfor want of network, disk or "
                                        "database; 4 if pages of the database are damaged."};
    int64_t started = clock_monotonic();
    struct config *config;
    struct backup_result result;
    struct error err = ERROR_INIT;
    int status;
    bool ok;

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
    ok = backup_run(config, &request, &result, &err);
    if (ok) {
        say_what_came(&result, clock_monotonic() - started);
        cmd_expire_after_backup(config);
        const int places = judge_places(&result), pages = judge_pages(result.info);
        status = pages > places ? pages : places;
        backup_info_free(result.info);
    }
    config_free(config);
    return ok ? status : cmd_fail(&err);
}
