/* list_text.c - list for people */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/columns.h"
#include "cmd/list.h"
#include "pgvigil/clock.h"
#include "pgvigil/layout.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"
#include "pgvigil/units.h"

/* A start is rounded upwards and an end downwards, so that what is shown can be restored. */
static char *format_down(int64_t moment, char text[CLOCK_TEXT_SIZE])
{
    return clock_format_local(moment / CLOCK_SECOND * CLOCK_SECOND, text);
}

static void add_errors(struct cmd_columns *table, const struct survey_backup *backup,
                       const struct known_damage *known)
{
    const struct backup_info *info = backup->info;
    const uint64_t damaged = known_damage_of(known, info->run);
    char segment[WAL_NAME_SIZE];

    if (!backup->wal_complete)
        cmd_columns_add(
            table, "cannot be restored: no %s",
            wal_segment_name(info->timeline, backup->missing, info->wal_segment_size, segment));
    else if (damaged > 0)
        cmd_columns_add(table, "cannot be restored: %" PRIu64 " damaged", damaged);
    else if (info->page_errors > 0)
        cmd_columns_add(table, "%" PRIu64 " damaged page%s", info->page_errors,
                        info->page_errors == 1 ? "" : "s");
    else
        cmd_columns_add(table, "none");
}

static void add_backup(struct cmd_columns *table, const struct survey_backup *backup,
                       const struct known_damage *known)
{
    const struct backup_info *info = backup->info;
    char text[CLOCK_TEXT_SIZE], size[UNITS_TEXT_SIZE], lsn[WAL_LSN_TEXT_SIZE];
    int64_t took = info->stop_time - info->start_time;

    cmd_columns_add(table, "%s", layout_run_text(info->run, text));
    cmd_columns_add(table, "%s", clock_format_local_up(info->stop_time, text));
    cmd_columns_add(table, "%s", units_format_duration(took > 0 ? took : 0, size));
    cmd_columns_add(table, "%" PRIu32, info->timeline);
    cmd_columns_add(table, "%s", wal_format_lsn(info->start_lsn, lsn));
    cmd_columns_add(table, "%s", wal_format_lsn(info->stop_lsn, lsn));
    cmd_columns_add(table, "%s", units_format_size(info->database_bytes, size));
    cmd_columns_add(table, "%s", units_format_size(info->stored_bytes, size));
    add_errors(table, backup, known);
    cmd_columns_add(table, "%s", backup->kept ? "kept" : backup->expiring ? "expiring" : "");
}

/* When, and what else was found: what concerns a backup is beside it. */
static void print_verified(const struct known_damage *known, struct buffer *out)
{
    char when[CLOCK_TEXT_SIZE];
    uint64_t objects = 0;

    for (size_t i = 0; i < known->count; i++)
        objects += known->findings[i].count;
    if (known->looked == 0)
        buffer_append_format(out, "    never verified by this host: `%s verify` does\n",
                             process_command());
    else if (objects == 0)
        buffer_append_format(out, "    nothing was wrong when this host verified on %s\n",
                             format_down(known->looked, when));
    else
        buffer_append_format(out,
                             "    %" PRIu64 " object%s damaged or missing when this host verified "
                             "on %s\n",
                             objects, objects == 1 ? " was" : "s were",
                             format_down(known->looked, when));
}

static void print_backups(const struct survey *survey, const struct known_damage *known,
                          enum config_copy copy, struct buffer *out)
{
    static const char *const titles[] = {"ID",   "FINISHED", "TOOK",   "TIMELINE", "START",
                                         "STOP", "DATABASE", "STORED", "ERRORS",   ""};
    struct cmd_columns table = {.columns = sizeof(titles) / sizeof(titles[0]),
                                .right = "llrrllrrll"};

    buffer_append_string(out, "  Backups\n");
    if (survey->catalog->count == 0) {
        if (survey->catalog->damaged_count > 0)
            buffer_append_string(out, "    none that can be read\n");
        else
            buffer_append_format(out, "    none yet: `%s %s\n", process_command(),
                                 copy == CONFIG_COPY_ASYNC ? "copy` brings those of the others"
                                                           : "backup` takes one");
        return;
    }
    for (size_t i = 0; i < table.columns; i++)
        cmd_columns_add(&table, "%s", titles[i]);
    for (size_t i = 0; i < survey->catalog->count; i++)
        add_backup(&table, &survey->backups[i], known);
    cmd_columns_print(&table, out);
    print_verified(known, out);
}

static void add_range(struct cmd_columns *table, const struct survey *survey,
                      const struct wal_range *range)
{
    char name[WAL_NAME_SIZE], size[UNITS_TEXT_SIZE];

    cmd_columns_add(table, "%" PRIu32, range->timeline);
    cmd_columns_add(table, "%s", cmd_list_segment(survey, range->timeline, range->first, name));
    cmd_columns_add(table, "%s", cmd_list_segment(survey, range->timeline, range->last, name));
    cmd_columns_add(table, "%" PRIu64, range->last - range->first + 1);
    cmd_columns_add(table, "%s", units_format_size(range->stored_bytes, size));
    cmd_columns_add(table, "%s", "");
}

static void add_gap(struct cmd_columns *table, const struct survey *survey, uint32_t timeline,
                    const struct survey_gap *gap)
{
    char name[WAL_NAME_SIZE];

    cmd_columns_add(table, "%" PRIu32, timeline);
    cmd_columns_add(table, "%s", cmd_list_segment(survey, timeline, gap->first, name));
    cmd_columns_add(table, "%s", cmd_list_segment(survey, timeline, gap->last, name));
    cmd_columns_add(table, "%" PRIu64, gap->last - gap->first + 1);
    cmd_columns_add(table, "%s", "-");
    cmd_columns_add(table, "MISSING");
}

/* Ranges and gaps in the order of their segments. */
static void add_timeline(struct cmd_columns *table, const struct survey *survey,
                         const struct survey_timeline *timeline)
{
    size_t gap = 0;

    for (size_t i = 0; i < timeline->range_count; i++) {
        for (; gap < timeline->gap_count && timeline->gaps[gap].first < timeline->ranges[i].first;
             gap++)
            add_gap(table, survey, timeline->timeline, &timeline->gaps[gap]);
        add_range(table, survey, &timeline->ranges[i]);
    }
    for (; gap < timeline->gap_count; gap++)
        add_gap(table, survey, timeline->timeline, &timeline->gaps[gap]);
}

/* Where each timeline left the one before. */
static void print_forks(const struct survey *survey, struct buffer *out)
{
    char lsn[WAL_LSN_TEXT_SIZE];

    for (size_t i = 0; i < survey->timeline_count; i++) {
        const struct survey_timeline *timeline = &survey->timelines[i];
        const struct history_entry *parent = history_parent(&timeline->history);

        if (parent != NULL)
            buffer_append_format(out, "    timeline %" PRIu32 " left timeline %" PRIu32 " at %s\n",
                                 timeline->timeline, parent->timeline,
                                 wal_format_lsn(parent->switch_lsn, lsn));
    }
}

static void print_wal(const struct survey *survey, struct buffer *out)
{
    static const char *const titles[] = {"TIMELINE", "FIRST", "LAST", "SEGMENTS", "STORED", ""};
    struct cmd_columns table = {.columns = sizeof(titles) / sizeof(titles[0]), .right = "rllrrl"};
    uint64_t before = 0;

    buffer_append_string(out, "  WAL\n");
    if (survey->wal.count == 0) {
        buffer_append_format(out, "    none yet: is archive_command set? `%s check` tells\n",
                             process_command());
        return;
    }
    for (size_t i = 0; i < table.columns; i++)
        cmd_columns_add(&table, "%s", titles[i]);
    for (size_t i = 0; i < survey->timeline_count; i++) {
        add_timeline(&table, survey, &survey->timelines[i]);
        before += survey->timelines[i].before_backups;
    }
    cmd_columns_print(&table, out);
    print_forks(survey, out);
    if (before > 0 && survey->catalog->count > 0)
        buffer_append_format(out, "    %" PRIu64 " of these segments %s older than every backup\n",
                             before, before == 1 ? "is" : "are");
}

static void print_window(const struct survey_window *window, struct buffer *out)
{
    char from[CLOCK_TEXT_SIZE], to[CLOCK_TEXT_SIZE], run[CLOCK_COMPACT_SIZE];
    char lsn[WAL_LSN_TEXT_SIZE];

    clock_format_local_up(window->oldest->stop_time, from);
    format_down(window->last_transaction, to);
    if (window->last_transaction - window->oldest->stop_time < 2 * CLOCK_SECOND) {
        /* Rounding would leave nothing between the two. */
        clock_format_local(window->oldest->stop_time, from);
        clock_format_local(window->last_transaction, to);
    }
    buffer_append_format(out, "    from %s (end of backup %s)\n", from,
                         layout_run_text(window->oldest->run, run));
    if (window->any_transaction)
        buffer_append_format(out, "      to %s (last transaction)\n", to);
    else if (window->sealed)
        buffer_append_string(out, "      to a moment that only a private key can tell\n");
    else
        buffer_append_format(out, "      to the end of backup %s (no transaction since)\n",
                             layout_run_text(window->newest->run, run));
    buffer_append_format(out, "    with WAL up to %s on timeline %" PRIu32 "\n",
                         wal_format_lsn(window->end_lsn, lsn), window->end_timeline);
}

static void print_windows(const struct survey *survey, struct buffer *out)
{
    buffer_append_string(out, "  Restorable\n");
    for (size_t i = 0; i < survey->window_count; i++)
        print_window(&survey->windows[i], out);
    if (survey->window_count == 0)
        buffer_append_string(out, "    nothing\n");
}

static void print_survey(const struct survey *survey, const struct known_damage *known,
                         enum config_copy copy, struct buffer *out)
{
    const struct catalog *catalog = survey->catalog;

    buffer_append_format(out, "\nCluster %" PRIu64, survey->system_identifier);
    if (catalog->count > 0)
        buffer_append_format(out, ", PostgreSQL %d",
                             catalog->backups[catalog->count - 1]->version_num / 10000);
    buffer_append_string(out, "\n");
    print_backups(survey, known, copy, out);
    print_wal(survey, out);
    print_windows(survey, out);
    if (survey->damage_count > 0)
        buffer_append_string(out, "  Damaged: see the messages\n");
}

static void print_lag(const struct lag *lag, struct buffer *out)
{
    char size[UNITS_TEXT_SIZE], time[UNITS_TEXT_SIZE];

    if (lag->objects == 0) {
        buffer_append_string(out, "\n  Level with the others\n");
        return;
    }
    buffer_append_format(
        out,
        "\n  Behind \"%s\" by %" PRIu64 " object%s (%s; %" PRIu64 " backup%s and %" PRIu64
        " WAL file%s among them)",
        lag->ahead, lag->objects, lag->objects == 1 ? "" : "s", units_format_size(lag->bytes, size),
        lag->backups, lag->backups == 1 ? "" : "s", lag->wal_files, lag->wal_files == 1 ? "" : "s");
    if (lag->time == LAG_TIME_NOTHING)
        buffer_append_string(out, ", and nothing can be restored from here\n");
    else if (lag->time == LAG_TIME_SEALED)
        buffer_append_string(out, "; in time by what only a private key can tell\n");
    else
        buffer_append_format(out, ", in time by %s\n", units_format_duration(lag->time, time));
}

static void print_repository(const struct list *list, const struct list_repository *entry,
                             struct buffer *out)
{
    buffer_append_format(out, "Repository %s (%s)\n", entry->config->name, entry->config->url);
    for (size_t i = 0; i < entry->count; i++)
        print_survey(entry->surveys[i], &entry->known[i], entry->config->copy, out);
    if (entry->compared)
        print_lag(&entry->lag, out);
    if (entry->owed > 0)
        buffer_append_format(out,
                             "  Is owed %zu WAL file%s that %s pushed while it could not be "
                             "reached\n",
                             entry->owed, entry->owed == 1 ? "" : "s",
                             entry->owed == 1 ? "was" : "were");
    if (entry->error.code != ERROR_NONE)
        buffer_append_string(out, "\ncould not be read: see the messages\n");
    else if (entry->count == 0 && entry->config->copy == CONFIG_COPY_ASYNC)
        buffer_append_format(out,
                             "\nNothing of cluster \"%s\" yet: `%s copy` brings what the other "
                             "repositories have.\n",
                             list->config->cluster_name, process_command());
    else if (entry->count == 0)
        buffer_append_format(out,
                             "\nNothing of cluster \"%s\" yet: `%s check` tells whether WAL "
                             "arrives, `%s backup` takes a backup.\n",
                             list->config->cluster_name, process_command(), process_command());
}

void cmd_list_text(const struct list *list, struct buffer *out)
{
    for (size_t i = 0; i < list->count; i++) {
        if (i > 0)
            buffer_append_string(out, "\n");
        print_repository(list, &list->repositories[i], out);
    }
}
