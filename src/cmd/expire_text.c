/* expire_text.c - what expire does, for people */
#include <inttypes.h>
#include <stdio.h>

#include "cmd/expire.h"
#include "pgvigil/clock.h"
#include "pgvigil/layout.h"
#include "pgvigil/units.h"

static void add_reason(struct buffer *text, const char *reason)
{
    buffer_append_format(text, "%s%s", text->length > 0 ? "; " : "", reason);
}

static void add_period(struct buffer *text, const char *period, const char *date, int length)
{
    buffer_append_format(text, "%slast of its %s (%.*s)", text->length > 0 ? "; " : "", period,
                         length, date);
}

void cmd_expire_reasons(const struct expire_backup *backup, struct buffer *text)
{
    char date[CLOCK_TEXT_SIZE], run[CLOCK_COMPACT_SIZE], until[CLOCK_TEXT_SIZE];

    clock_format(backup->stop_time, date);
    if (backup->reasons & RETENTION_BASE)
        add_reason(text, "the recovery window begins with it");
    if (backup->reasons & RETENTION_WINDOW)
        add_reason(text, "in the recovery window");
    if (backup->reasons & RETENTION_MINIMUM)
        add_reason(text, "among the newest");
    if (backup->reasons & RETENTION_DAILY)
        add_period(text, "day", date, 10);
    if (backup->reasons & RETENTION_WEEKLY)
        add_reason(text, "last of its week");
    if (backup->reasons & RETENTION_MONTHLY)
        add_period(text, "month", date, 7);
    if (backup->reasons & RETENTION_YEARLY)
        add_period(text, "year", date, 4);
    if (backup->reasons & RETENTION_KEPT)
        add_reason(text, "kept by \"pgvigil keep\"");
    if (backup->reasons & RETENTION_HELD)
        buffer_append_format(text,
                             "%sneeded by run %s%s%s, which is under way; if it was killed, it is "
                             "waited for until %s",
                             text->length > 0 ? "; " : "", layout_run_text(backup->holder, run),
                             backup->holder_host[0] != '\0' ? " on host " : "", backup->holder_host,
                             clock_format_local_up(backup->held_until, until));
}

static void add_verdict(const struct expire_backup *backup, struct buffer *out)
{
    struct buffer reasons = BUFFER_INIT;
    char moment[CLOCK_TEXT_SIZE];

    clock_format_local(backup->moment / CLOCK_SECOND * CLOCK_SECOND, moment);
    switch (backup->fate) {
    case EXPIRE_STAYS:
        cmd_expire_reasons(backup, &reasons);
        buffer_append_format(out, "stays: %s\n", buffer_text(&reasons));
        break;
    case EXPIRE_MARKED:
        buffer_append_string(out, "to be marked: no rule keeps it\n");
        break;
    case EXPIRE_WAITS:
        buffer_append_format(out, "marked: to be removed from %s on\n", moment);
        break;
    case EXPIRE_LOCKED:
        buffer_append_format(out, "marked: locked by the store until %s\n", moment);
        break;
    case EXPIRE_GOES:
        buffer_append_string(out, "to be removed\n");
        break;
    }
    buffer_free(&reasons);
}

static void add_count(const struct expire_count *count, const char *what, struct buffer *out)
{
    char bytes[UNITS_TEXT_SIZE];

    if (count->objects > 0)
        buffer_append_format(out, ", %" PRIu64 " (%s) %s", count->objects,
                             units_format_size(count->bytes, bytes), what);
}

static void add_sort(const struct expire_sort *sort, const char *title, struct buffer *out)
{
    char bytes[UNITS_TEXT_SIZE];

    buffer_append_format(out, "    %-10s %" PRIu64 " (%s) to be removed", title,
                         sort->removed.objects, units_format_size(sort->removed.bytes, bytes));
    add_count(&sort->needed, "needed by backups", out);
    add_count(&sort->young, "too new to be judged", out);
    add_count(&sort->underway, "of runs under way", out);
    add_count(&sort->left, "of runs that never came to their end", out);
    add_count(&sort->locked, "locked by the store", out);
    buffer_append_string(out, "\n");
}

static void add_cluster(const struct expire_cluster *cluster, struct buffer *out)
{
    buffer_append_format(out, "\nCluster %" PRIu64 "\n  Backups\n", cluster->system_identifier);
    for (size_t i = 0; i < cluster->count; i++) {
        const struct expire_backup *backup = &cluster->backups[i];
        char run[CLOCK_COMPACT_SIZE], stop[CLOCK_TEXT_SIZE], size[UNITS_TEXT_SIZE];

        buffer_append_format(out, "    %s  %s  timeline %-3" PRIu32 " %9s  ",
                             layout_run_text(backup->run, run),
                             clock_format_local_up(backup->stop_time, stop), backup->timeline,
                             units_format_size(backup->stored_bytes, size));
        add_verdict(backup, out);
    }
    if (cluster->count == 0)
        buffer_append_string(out, "    none\n");
    if (cluster->postponed) {
        buffer_append_format(out, "  Nothing would be removed now: %s\n", cluster->postponed);
        return;
    }
    buffer_append_string(out, "  Objects\n");
    add_sort(&cluster->packs, "packs", out);
    add_sort(&cluster->wal, "WAL files", out);
    add_sort(&cluster->notes, "others", out);
}

void cmd_expire_text(const struct expire_result *result, struct buffer *out)
{
    const struct config_retention *retention = &result->repository->retention;
    char window[UNITS_TEXT_SIZE];

    buffer_append_format(out, "%sRepository %s (%s)\n", out->length > 0 ? "\n" : "",
                         result->repository->name, result->repository->url);
    if (retention->window == 0) {
        buffer_append_string(out, "  no retention is configured: nothing ever expires\n");
        return;
    }
    buffer_append_format(
        out, "  window %s, minimum %d, daily %d, weekly %d, monthly %d, yearly %d\n",
        units_format_duration(retention->window, window), retention->minimum, retention->daily,
        retention->weekly, retention->monthly, retention->yearly);
    if (result->versioned)
        buffer_append_string(out,
                             "  the bucket keeps what is removed as older versions: a lifecycle "
                             "rule has to end them\n");
    for (size_t i = 0; i < result->count; i++)
        if (result->error.code == ERROR_NONE || i + 1 < result->count)
            add_cluster(&result->clusters[i], out);
    if (result->error.code != ERROR_NONE)
        buffer_append_string(out, "  nothing would be removed: see the messages\n");
}
