/* restore_newer.c - does another timeline go on for longer than the one that is restored to its end? */
#include "job/restore_newer.h"

#include <inttypes.h>
#include <stdlib.h>

#include "pgvigil/clock.h"
#include "pgvigil/log.h"
#include "pgvigil/process.h"
#include "pgvigil/wal_scan.h"
#include "pgvigil/wal_union.h"

#define SEARCHED 16 /* segments at the end of a timeline, which may have idled for long */
#define LOOKED_AT 8 /* timelines, the highest: each costs a listing */

/* The end of a timeline. */
struct end {
    uint32_t timeline;
    int64_t time; /* when its last transaction ended */
};

/* Of the timeline's WAL behind an LSN. False if there is no transaction, or it cannot be told. */
static bool find_end(struct repository *repository, uint32_t timeline, uint64_t from, int jobs,
                     struct end *end)
{
    struct wal_scan_query query = {
        .kind = WAL_SCAN_TIME, .time = INT64_MIN, .from = from, .before = UINT64_MAX};
    struct wal_scan_result last = {.found = false};
    struct error ignored = ERROR_INIT;
    struct wal_scan_reach reach;
    struct wal_scan *scan = NULL;
    bool ok = wal_scan_open(repository, timeline, jobs, &scan, &ignored);

    if (ok) {
        const uint64_t size = wal_scan_segment_size(scan);

        wal_scan_reach(scan, from, &reach);
        if (reach.missing > SEARCHED && (reach.missing - SEARCHED) * size > from)
            query.from = (reach.missing - SEARCHED) * size;
        query.before = reach.missing * size;
        ok = wal_scan_last(scan, &query, &last, &ignored) && last.found;
    }
    wal_scan_close(scan);
    *end = (struct end){.timeline = timeline, .time = ok ? last.record.time : 0};
    return ok;
}

/* Where the WAL of the timeline begins that the path does not go through: behind where it was left, if it is
 * an ancestor, else behind where it left its own. */
static bool find_own(struct repository *repository, const struct history *path, uint32_t timeline,
                     uint64_t *from)
{
    struct error ignored = ERROR_INIT;
    struct history history;
    bool known;

    *from = history_switch_lsn(path, timeline);
    if (*from != 0)
        return true;
    if (!wal_union_history(repository, timeline, &history, &known, &ignored))
        return false;
    if (history_parent(&history) != NULL)
        *from = history_parent(&history)->switch_lsn;
    history_free(&history);
    return *from != 0;
}

static int compare_timelines(const void *a, const void *b)
{
    const uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

    return (left < right) - (left > right);
}

static void find_longest(struct repository *repository, const struct history *path,
                         const struct end *ours, int jobs, struct end *longest)
{
    struct error ignored = ERROR_INIT;
    uint32_t *timelines;
    size_t count, looked = 0;

    *longest = *ours;
    if (!wal_union_timelines(repository, &timelines, &count, &ignored))
        return;
    qsort(timelines, count, sizeof *timelines, compare_timelines);
    for (size_t i = 0; i < count && looked < LOOKED_AT; i++) {
        struct end end;
        uint64_t from;

        if (timelines[i] == ours->timeline || (i > 0 && timelines[i] == timelines[i - 1]))
            continue;
        looked++;
        if (find_own(repository, path, timelines[i], &from) &&
            find_end(repository, timelines[i], from, jobs, &end) && end.time > longest->time)
            *longest = end;
    }
    free(timelines);
}

void restore_newer_warn(struct repository *repository, const struct restore_request *request,
                        const struct restore_target_choice *choice, int jobs)
{
    char theirs[CLOCK_TEXT_SIZE], here[CLOCK_TEXT_SIZE];
    struct error ignored = ERROR_INIT;
    struct end ours, longest;
    struct history path;
    bool known;

    if (request->target != RESTORE_LATEST || request->timeline != 0 ||
        !wal_union_history(repository, choice->timeline, &path, &known, &ignored))
        return;
    if (!find_end(repository, choice->timeline, choice->backup->start_lsn, jobs, &ours))
        ours = (struct end){.timeline = choice->timeline, .time = choice->backup->stop_time};
    find_longest(repository, &path, &ours, jobs, &longest);
    history_free(&path);
    if (longest.timeline == ours.timeline)
        return;
    log_warning("timeline %" PRIu32 " was written until %s, timeline %" PRIu32
                ", which is restored as the newest one, only until %s",
                longest.timeline, clock_format_local(longest.time, theirs), ours.timeline,
                clock_format_local(ours.time, here));
    log_hint("if the cluster went on on timeline %" PRIu32 ", --target-timeline %" PRIu32
             " restores that; `%s list` shows where they parted",
             longest.timeline, longest.timeline, process_command());
}
