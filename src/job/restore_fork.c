/*
 * restore_fork.c - telling of a timeline left behind that was current at the moment asked for
 */
#include "job/restore_fork.h"

#include <inttypes.h>
#include <stdlib.h>

#include "job/restore_target.h"
#include "pgvigil/clock.h"
#include "pgvigil/log.h"
#include "pgvigil/wal_union.h"

static const struct wal_scan_query any_transaction = {.kind = WAL_SCAN_TIME,
                                                      .time = INT64_MIN,
                                                      .before = UINT64_MAX};

/* Had a transaction ended by the target behind the LSN? Times nearly rise, so the first one tells. */
static bool was_written(struct wal_scan *scan, uint64_t from, uint64_t before,
                        const struct restore_request *request, bool *written, struct error *err)
{
    struct wal_scan_query query = any_transaction;
    struct wal_scan_result first;

    query.from = from;
    query.before = before;
    if (!wal_scan_first(scan, &query, &first, err))
        return false;
    *written = first.found && first.record.time < restore_target_beyond(request);
    return true;
}

/* Of a timeline beside the path. */
struct life {
    bool written; /* by the target */
    bool went_on; /* after it */
};

/* The scan of a timeline that was left goes on behind the switch point. */
static bool look_at_life(struct repository *repository, const struct history_entry *from, int jobs,
                         const struct restore_request *request, struct life *life,
                         struct error *err)
{
    /* It may have idled for long; the answer is worth a few segments. */
    const uint64_t few = 16;
    const struct wal_scan_query later = {.kind = WAL_SCAN_TIME,
                                         .time = restore_target_beyond(request),
                                         .from = from->switch_lsn,
                                         .before = UINT64_MAX};
    struct wal_scan_result last = {.found = false};
    struct wal_scan *scan = NULL;
    bool ok =
        wal_scan_open(repository, from->timeline, jobs, &scan, err) &&
        was_written(scan, from->switch_lsn, from->switch_lsn + few * wal_scan_segment_size(scan),
                    request, &life->written, err) &&
        (!life->written || wal_scan_last(scan, &later, &last, err));

    life->went_on = last.found;
    wal_scan_close(scan);
    return ok;
}

/* The first entry of the path from which on none was written by the target, as far down as the backup
 * reaches; their number when the last one was. */
static size_t first_unwritten(struct wal_scan *scan, const struct backup_info *backup,
                              const struct restore_request *request)
{
    const struct history *path = wal_scan_history(scan);
    struct error ignored = ERROR_INIT;
    size_t first = path->count;
    bool written = false;

    while (first > 1 && backup->stop_lsn <= path->entries[first - 2].switch_lsn &&
           was_written(scan, path->entries[first - 2].switch_lsn, UINT64_MAX, request, &written,
                       &ignored) &&
           !written)
        first--;
    return first;
}

/* The entry of the path that the other timeline does not go through, though it goes to the end of the entry
 * before it; 0 if there is none. */
static size_t parting(const struct history *path, const struct history *other)
{
    size_t i = 0;

    while (i < path->count &&
           history_switch_lsn(other, path->entries[i].timeline) >= path->entries[i].switch_lsn)
        i++;
    return i < path->count && history_switch_lsn(other, path->entries[i].timeline) == 0 ? i : 0;
}

static int compare_timelines(const void *a, const void *b)
{
    const uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

    return (left < right) - (left > right);
}

static void find_left(struct wal_scan *scan, const struct backup_info *backup,
                      struct restore_fork *fork, struct error *err)
{
    struct wal_scan_query query = any_transaction;
    struct wal_scan_result last;

    query.from = backup->stop_lsn;
    query.before = fork->lsn;
    fork->left_known = wal_scan_last(scan, &query, &last, err) && last.found;
    if (fork->left_known)
        fork->left = last.record.time;
}

/* Where it parted from the path, and from where on its WAL is its own. False if that is not behind all that
 * was written of the path, or cannot be told. */
static bool find_beside(struct repository *repository, const struct history *path, size_t unwritten,
                        uint32_t timeline, struct restore_fork *fork, struct history_entry *from)
{
    struct error ignored = ERROR_INIT;
    struct history history;
    size_t next;
    bool known;

    if (!wal_union_history(repository, timeline, &history, &known, &ignored))
        return false;
    next = parting(path, &history);
    if (next >= unwritten && next > 0) {
        const struct history_entry *left = &path->entries[next - 1];

        *fork = (struct restore_fork){
            .current = timeline, .next = path->entries[next].timeline, .lsn = left->switch_lsn};
        *from = timeline == left->timeline ? *left : *history_parent(&history);
        from->timeline = timeline;
    }
    history_free(&history);
    return next >= unwritten && next > 0;
}

/*
 * A timeline is made when those with lower numbers are there: so the highest that was written by then was
 * current last, unless it was given up before and a lower one went on.
 */
static void find_current(struct repository *repository, const struct history *path,
                         size_t unwritten, const struct restore_request *request, int jobs,
                         struct restore_fork *fork)
{
    struct life life = {.went_on = false};
    struct error ignored = ERROR_INIT;
    uint32_t *timelines;
    size_t count;

    if (!wal_union_timelines(repository, &timelines, &count, &ignored))
        return;
    qsort(timelines, count, sizeof *timelines, compare_timelines);
    for (size_t i = 0; i < count && !life.went_on; i++) {
        struct restore_fork one;
        struct history_entry from;

        if ((i > 0 && timelines[i] == timelines[i - 1]) ||
            !find_beside(repository, path, unwritten, timelines[i], &one, &from) ||
            !look_at_life(repository, &from, jobs, request, &life, &ignored) || !life.written)
            continue;
        if (fork->current == 0 || life.went_on)
            *fork = one;
    }
    free(timelines);
}

void restore_fork_find(struct repository *repository, struct wal_scan *scan,
                       const struct backup_info *backup, const struct restore_request *request,
                       int jobs, struct restore_fork *fork)
{
    const struct history *path = wal_scan_history(scan);
    struct error ignored = ERROR_INIT;
    size_t unwritten;

    *fork = (struct restore_fork){.current = 0};
    if (request->target != RESTORE_TIME || request->timeline != 0 || request->time > clock_now())
        return;
    unwritten = first_unwritten(scan, backup, request);
    if (unwritten == path->count)
        return;
    find_current(repository, path, unwritten, request, jobs, fork);
    if (fork->current != 0)
        find_left(scan, backup, fork, &ignored);
}

void restore_fork_warn(const struct restore_fork *fork, const struct restore_request *request)
{
    char target[RESTORE_TARGET_TEXT_SIZE], lsn[WAL_LSN_TEXT_SIZE], left[CLOCK_TEXT_SIZE];

    restore_target_text(request, target);
    wal_format_lsn(fork->lsn, lsn);
    if (fork->left_known)
        log_warning(
            "at %s timeline %" PRIu32 " was current; timeline %" PRIu32
            " parted from it at LSN %s, after a transaction that ended at %s, and had none of its "
            "own yet: what is restored is the state of there",
            target, fork->current, fork->next, lsn, clock_format_local(fork->left, left));
    else
        log_warning(
            "at %s timeline %" PRIu32 " was current; timeline %" PRIu32
            " parted from it at LSN %s and had no transaction of its own yet: what is restored is "
            "the state of there",
            target, fork->current, fork->next, lsn);
    log_hint("--target-timeline %" PRIu32 " restores what timeline %" PRIu32 " held at that moment",
             fork->current, fork->current);
}

bool restore_fork_hint(const struct restore_fork *fork, struct error *err)
{
    return error_hint(err,
                      "timeline %" PRIu32 " was written at that moment, and of timeline %" PRIu32
                      " no transaction by then is archived: --target-timeline %" PRIu32
                      " restores what the former held%s%s",
                      fork->current, fork->next, fork->current,
                      err->hint[0] != '\0' ? "; else " : "", err->hint);
}
