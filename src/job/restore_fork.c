/*
 * restore_fork.c - telling of a timeline left behind that was current at the moment asked for
 */
#include "job/restore_fork.h"

#include <inttypes.h>

#include "job/restore_target.h"
#include "pgvigil/clock.h"
#include "pgvigil/log.h"

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

/* The scan of the ancestor itself goes on behind the switch point. */
static bool ancestor_was_written(struct repository *repository, const struct history_entry *left,
                                 int jobs, const struct restore_request *request, bool *written,
                                 struct error *err)
{
    /* It may have idled for long; the answer is worth a few segments. */
    const uint64_t few = 16;
    struct wal_scan *scan = NULL;
    bool ok =
        wal_scan_open(repository, left->timeline, jobs, &scan, err) &&
        was_written(scan, left->switch_lsn, left->switch_lsn + few * wal_scan_segment_size(scan),
                    request, written, err);

    wal_scan_close(scan);
    return ok;
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

void restore_fork_find(struct repository *repository, struct wal_scan *scan,
                       const struct backup_info *backup, const struct restore_request *request,
                       int jobs, struct restore_fork *fork)
{
    const struct history *history = wal_scan_history(scan);
    struct error ignored = ERROR_INIT;

    *fork = (struct restore_fork){.current = 0};
    if (request->target != RESTORE_TIME || request->timeline != 0 || request->time > clock_now())
        return;
    for (size_t i = history->count - 1; i > 0; i--) {
        const struct history_entry *left = &history->entries[i - 1];
        bool written;

        if (backup->stop_lsn > left->switch_lsn ||
            !was_written(scan, left->switch_lsn, UINT64_MAX, request, &written, &ignored) ||
            written || !ancestor_was_written(repository, left, jobs, request, &written, &ignored))
            return;
        if (!written)
            continue;
        fork->current = left->timeline;
        fork->next = history->entries[i].timeline;
        fork->lsn = left->switch_lsn;
        find_left(scan, backup, fork, &ignored);
        return;
    }
}

void restore_fork_warn(const struct restore_fork *fork, const struct restore_request *request)
{
    char target[RESTORE_TARGET_TEXT_SIZE], lsn[WAL_LSN_TEXT_SIZE], left[CLOCK_TEXT_SIZE];

    restore_target_text(request, target);
    wal_format_lsn(fork->lsn, lsn);
    if (fork->left_known)
        log_warning("at %s timeline %" PRIu32 " was current; timeline %" PRIu32
                    " left it at LSN %s, after a transaction that ended at %s, and had none of its "
                    "own yet: what is restored is the state of there",
                    target, fork->current, fork->next, lsn, clock_format_local(fork->left, left));
    else
        log_warning("at %s timeline %" PRIu32 " was current; timeline %" PRIu32
                    " left it at LSN %s and had no transaction of its own yet: what is restored is "
                    "the state of there",
                    target, fork->current, fork->next, lsn);
    log_hint("--target-timeline %" PRIu32 " restores what timeline %" PRIu32 " held at that moment",
             fork->current, fork->current);
}

bool restore_fork_hint(const struct restore_fork *fork, struct error *err)
{
    return error_hint(
        err,
        "%s%stimeline %" PRIu32 " was written at that moment, and of timeline %" PRIu32
        " no transaction by then is archived: --target-timeline %" PRIu32
        " restores what the former held",
        err->hint, err->hint[0] != '\0' ? "; " : "", fork->current, fork->next, fork->current);
}
