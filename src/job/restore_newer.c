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
    int64_t time; /* when its last transaction ended, 0 if there is none */
};

/* Of the timeline's WAL behind an LSN. */
static bool find_end(struct repository *repository, uint32_t timeline, uint64_t from, int jobs,
                     struct end *end, struct error *err)
{
    struct wal_scan_query query = {
        .kind = WAL_SCAN_TIME, .time = INT64_MIN, .from = from, .before = UINT64_MAX};
    struct wal_scan_result last = {.found = false};
    struct wal_scan_reach reach;
    struct wal_scan *scan = NULL;
    bool ok = wal_scan_open(repository, timeline, jobs, &scan, err);

    if (ok) {
        const uint64_t size = wal_scan_segment_size(scan);

        wal_scan_reach(scan, from, &reach);
        if (reach.missing > SEARCHED && (reach.missing - SEARCHED) * size > from)
            query.from = (reach.missing - SEARCHED) * size;
        query.before = reach.missing * size;
        ok = wal_scan_last(scan, &query, &last, err);
    }
    wal_scan_close(scan);
    *end = (struct end){.timeline = timeline, .time = last.found ? last.record.time : 0};
    return ok;
}

/* Where the WAL of the timeline begins that the path does not go through: behind where it was left, if it is
 * an ancestor, else behind where it left its own; 0 if that is not known. */
static bool find_own(struct repository *repository, const struct history *path, uint32_t timeline,
                     uint64_t *from, struct error *err)
{
    struct history history;
    bool known;

    *from = history_switch_lsn(path, timeline);
    if (*from != 0)
        return true;
    if (!wal_union_history(repository, timeline, &history, &known, err))
        return false;
    if (history_parent(&history) != NULL)
        *from = history_parent(&history)->switch_lsn;
    history_free(&history);
    return true;
}

static int compare_timelines(const void *a, const void *b)
{
    const uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

    return (left < right) - (left > right);
}

/* When another timeline was last written to, 0 if it never was since it went its own way. */
static bool ask_other(struct repository *repository, const struct history *path, uint32_t timeline,
                      int jobs, struct end *end, struct error *err)
{
    uint64_t from;

    *end = (struct end){.timeline = timeline};
    return find_own(repository, path, timeline, &from, err) &&
           (from == 0 || find_end(repository, timeline, from, jobs, end, err));
}

static void warn_untold(uint32_t timeline, struct error *err)
{
    if (err->code != ERROR_CANCELLED) {
        error_context(err, "could not tell until when timeline %" PRIu32 " was written", timeline);
        log_error(LOG_WARNING, err);
    }
    error_clear(err);
}

/* The longest of the others, if that goes on for longer than ours. */
static void find_longest(struct repository *repository, const struct history *path,
                         const uint32_t *others, size_t count, const struct end *ours, int jobs,
                         struct end *longest)
{
    struct error err = ERROR_INIT;

    *longest = *ours;
    for (size_t i = 0; i < count && i < LOOKED_AT; i++) {
        struct end end;

        if (!ask_other(repository, path, others[i], jobs, &end, &err))
            warn_untold(others[i], &err);
        else if (end.time > longest->time)
            *longest = end;
    }
}

/* The timelines but for ours, the highest first, each once. */
static bool find_others(struct repository *repository, uint32_t ours, uint32_t **others,
                        size_t *count, struct error *err)
{
    size_t all;

    *count = 0;
    if (!wal_union_timelines(repository, others, &all, err))
        return false;
    qsort(*others, all, sizeof **others, compare_timelines);
    for (size_t i = 0; i < all; i++)
        if ((*others)[i] != ours && (*count == 0 || (*others)[i] != (*others)[*count - 1]))
            (*others)[(*count)++] = (*others)[i];
    return true;
}

static void warn_of_longer(const struct end *longest, const struct end *ours)
{
    char theirs[CLOCK_TEXT_SIZE], here[CLOCK_TEXT_SIZE];

    log_warning("timeline %" PRIu32 " was written until %s, timeline %" PRIu32
                ", which is restored as the newest one, only until %s",
                longest->timeline, clock_format_local(longest->time, theirs), ours->timeline,
                clock_format_local(ours->time, here));
    log_hint("if the cluster went on on timeline %" PRIu32 ", --target-timeline %" PRIu32
             " restores that; `%s list` shows where they parted",
             longest->timeline, longest->timeline, process_command());
}

/* Both ends, the same where no other timeline is longer. */
static bool compare_ends(struct repository *repository, const struct restore_target_choice *choice,
                         const uint32_t *others, size_t count, int jobs, struct end *ours,
                         struct end *longest, struct error *err)
{
    struct history path;
    bool known, ok;

    if (!wal_union_history(repository, choice->timeline, &path, &known, err))
        return false;
    ok = find_end(repository, choice->timeline, choice->backup->start_lsn, jobs, ours, err);
    if (ok && ours->time == 0)
        ours->time = choice->backup->stop_time;
    if (ok)
        find_longest(repository, &path, others, count, ours, jobs, longest);
    history_free(&path);
    return ok;
}

void restore_newer_warn(struct repository *repository, const struct restore_request *request,
                        const struct restore_target_choice *choice, int jobs)
{
    struct error err = ERROR_INIT;
    struct end ours = {.timeline = choice->timeline}, longest = ours;
    uint32_t *others;
    size_t count;

    if (request->target != RESTORE_LATEST || request->timeline != 0)
        return;
    if (!find_others(repository, choice->timeline, &others, &count, &err) ||
        (count > 0 &&
         !compare_ends(repository, choice, others, count, jobs, &ours, &longest, &err)))
        warn_untold(choice->timeline, &err);
    else if (longest.timeline != ours.timeline)
        warn_of_longer(&longest, &ours);
    free(others);
}
