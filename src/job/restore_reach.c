/*
 * restore_reach.c - proving that recovery will get to its target
 */
#include "job/restore_reach.h"

#include <inttypes.h>
#include <stdio.h>

#include "job/restore_target.h"
#include "pgvigil/clock.h"
#include "pgvigil/layout.h"
#include "pgvigil/process.h"

struct question {
    struct wal_scan *scan;
    const char *where; /* the WAL is */
    const struct backup_info *backup;
    const struct restore_request *request;
    uint32_t newest_timeline;
    struct wal_scan_reach reach;
    uint64_t limit; /* the WAL is whole up to here */
};

/* The last whole record that can be replayed, and the last transaction in what can be. */
struct newest {
    struct wal_scan_result record, transaction;
};

static bool find_newest(const struct question *question, struct newest *newest, struct error *err)
{
    struct wal_scan_query query = {
        .kind = WAL_SCAN_ANY, .from = question->backup->stop_lsn, .before = question->limit};

    if (!wal_scan_last(question->scan, &query, &newest->record, err))
        return false;
    query.kind = WAL_SCAN_TIME;
    query.time = INT64_MIN;
    return wal_scan_last(question->scan, &query, &newest->transaction, err);
}

static void tell_newest(const struct question *question, const struct newest *newest,
                        struct error *err)
{
    char run[CLOCK_COMPACT_SIZE], lsn[WAL_LSN_TEXT_SIZE], time[CLOCK_TEXT_SIZE];

    layout_run_text(question->backup->run, run);
    if (!newest->record.found)
        error_detail(err, "the WAL archived behind backup %s holds nothing that can be replayed",
                     run);
    else if (!newest->transaction.found)
        error_detail(err, "from backup %s recovery can get to LSN %s, without any transaction", run,
                     wal_format_lsn(newest->record.record.lsn, lsn));
    else
        error_detail(err,
                     "from backup %s recovery can get to LSN %s; the last transaction up to there"
                     " ended at %s",
                     run, wal_format_lsn(newest->record.record.lsn, lsn),
                     clock_format_local(newest->transaction.record.time, time));
}

static void hint_gap(const struct newest *newest, struct error *err)
{
    char lsn[WAL_LSN_TEXT_SIZE];

    if (newest->record.found)
        error_hint(err, "--target-lsn %s restores everything before the gap",
                   wal_format_lsn(newest->record.record.lsn, lsn));
    else
        error_hint(err, "--target immediate restores the backup as it is");
}

static char *missing_name(const struct question *question, char text[WAL_NAME_SIZE])
{
    return wal_segment_name(question->reach.timeline, question->reach.missing,
                            wal_scan_segment_size(question->scan), text);
}

/* The WAL stops before the target although it goes on behind it. */
static bool refuse_gap(const struct question *question, struct error *err)
{
    char target[RESTORE_TARGET_TEXT_SIZE], name[WAL_NAME_SIZE];
    struct newest newest;

    if (!find_newest(question, &newest, err))
        return false;
    error_set(err, ERROR_NEGATIVE,
              "cannot restore to %s: WAL segment %s is missing from %s, where later"
              " ones are",
              restore_target_text(question->request, target), missing_name(question, name),
              question->where);
    tell_newest(question, &newest, err);
    hint_gap(&newest, err);
    return false;
}

/* Does the WAL go on behind the last transaction? Then it may well reach the moment. */
static bool goes_on(const struct newest *newest)
{
    return newest->record.found && (!newest->transaction.found ||
                                    newest->record.record.lsn > newest->transaction.record.lsn);
}

/* The last segment of a timeline is in the archive only when it is full, or its server was told to. */
static bool hint_more(const struct question *question, struct error *err)
{
    const uint32_t wanted = question->request->timeline;
    char name[WAL_NAME_SIZE];

    missing_name(question, name);
    if (wanted != 0 && wanted < question->newest_timeline)
        return error_hint(
            err,
            "timeline %" PRIu32
            " is not the newest: what more was written on it, from %s on, is in pg_wal"
            " of the server that was on it (after restore --delta in"
            " pg_wal/before-*): `%s archive-push` it, then run the restore again; if"
            " there is no more, --target-timeline %" PRIu32
            " without a target restores everything archived",
            wanted, name, process_command(), wanted);
    return error_hint(err,
                      "`SELECT pg_switch_wal()` on the server archives what it has written since,"
                      " from %s on: then run the restore again; if that server is gone, `%s"
                      " archive-push` its last segments out of its pg_wal; if there is no more, a"
                      " restore without a target restores everything archived",
                      name, process_command());
}

/* Recovery to a time stops at a transaction only. */
static void tell_quiet(const struct question *question, struct error *err)
{
    char target[RESTORE_TARGET_TEXT_SIZE];
    const bool inclusive = question->request->bound == RESTORE_INCLUSIVE;

    error_set(err, ERROR_NEGATIVE,
              "cannot restore to %s: the WAL in %s has no transaction that ended %s that moment, at"
              " which recovery could stop",
              restore_target_text(question->request, target), question->where,
              inclusive ? "after" : "at or after");
}

/* The archive ends before the target. */
static bool refuse_end(const struct question *question, struct error *err)
{
    const int64_t now = clock_now();
    const bool time = question->request->target == RESTORE_TIME;
    const bool future = time && question->request->time > now;
    char target[RESTORE_TARGET_TEXT_SIZE], text[CLOCK_TEXT_SIZE];
    struct newest newest;

    if (!find_newest(question, &newest, err))
        return false;
    if (time && !future && goes_on(&newest))
        tell_quiet(question, err);
    else
        error_set(err, ERROR_NEGATIVE, "cannot restore to %s: the WAL in %s ends before it",
                  restore_target_text(question->request, target), question->where);
    tell_newest(question, &newest, err);
    if (future)
        return error_hint(err, "it is now %s; without a target everything archived is restored",
                          clock_format_local(now / CLOCK_SECOND * CLOCK_SECOND, text));
    return hint_more(question, err);
}

static bool refuse_beyond(const struct question *question, struct error *err)
{
    return question->reach.gap ? refuse_gap(question, err) : refuse_end(question, err);
}

/* Recovery would go on with WAL that the ancestor wrote after the timeline had left it. */
static bool refuse_stale(const struct question *question, struct error *err)
{
    char name[WAL_NAME_SIZE];
    const uint32_t stale = question->reach.stale_timeline;

    error_set(err, ERROR_NEGATIVE,
              "cannot restore to the end of timeline %" PRIu32
              ": WAL segment %s is missing from %s",
              question->reach.timeline, missing_name(question, name), question->where);
    error_detail(err,
                 "timeline %" PRIu32 " has a segment of that number, which recovery would take"
                 " instead, though it went its own way from there",
                 stale);
    return error_hint(err,
                      "have the server of timeline %" PRIu32
                      " archive it (pg_switch_wal()), or give --target-timeline %" PRIu32,
                      question->reach.timeline, stale);
}

static bool check_backup(const struct question *question, struct error *err)
{
    char run[CLOCK_COMPACT_SIZE], name[WAL_NAME_SIZE];
    const struct backup_info *backup = question->backup;
    const uint32_t segment_size = wal_scan_segment_size(question->scan);

    layout_run_text(backup->run, run);
    if (segment_size == 0) {
        error_set(err, ERROR_NEGATIVE, "cannot restore backup %s: %s holds no WAL", run,
                  question->where);
        return error_hint(
            err, "does archive_command store into this repository? `%s list` shows what there is",
            process_command());
    }
    if (segment_size != backup->wal_segment_size) {
        error_set(err, ERROR_NEGATIVE,
                  "cannot restore backup %s: its WAL segments have %" PRIu32
                  " bytes, those in %s %" PRIu32,
                  run, backup->wal_segment_size, question->where, segment_size);
        return error_hint(err, "choose a backup taken since the size was changed");
    }
    if (question->limit < backup->stop_lsn) {
        error_set(err, ERROR_INTEGRITY,
                  "cannot restore backup %s: WAL segment %s, which it needs to become consistent,"
                  " is missing from %s",
                  run, missing_name(question, name), question->where);
        return error_hint(err, "--backup chooses another one; `%s list` shows them",
                          process_command());
    }
    return true;
}

static bool check_latest(const struct question *question, struct error *err)
{
    if (question->reach.gap)
        return refuse_gap(question, err);
    if (question->reach.stale_timeline != 0)
        return refuse_stale(question, err);
    return true;
}

/* Recovery stops at the first record that starts at the target or behind it. */
static bool check_lsn(const struct question *question, struct error *err)
{
    const struct wal_scan_query query = {
        .kind = WAL_SCAN_ANY, .from = question->request->lsn, .before = question->limit};
    struct wal_scan_result result;

    if (!wal_scan_first(question->scan, &query, &result, err))
        return false;
    return result.found || refuse_beyond(question, err);
}

/* Recovery stops before the first transaction that ended later; without one it fails at the end. */
static bool check_time(const struct question *question, struct error *err)
{
    const struct wal_scan_query query = {.kind = WAL_SCAN_TIME,
                                         .time = restore_target_beyond(question->request),
                                         .from = question->backup->stop_lsn,
                                         .before = question->limit};
    struct wal_scan_result result;

    if (!wal_scan_last(question->scan, &query, &result, err))
        return false;
    return result.found || refuse_beyond(question, err);
}

static bool check_stop(const struct question *question, const struct wal_record *stop,
                       struct error *err)
{
    return stop->end_lsn <= question->limit || refuse_beyond(question, err);
}

/* Recovery stops at the first restore point of the name; it has to be the one meant. */
static bool check_name(const struct question *question, const struct wal_record *stop,
                       struct error *err)
{
    const struct wal_scan_query query = {.kind = WAL_SCAN_POINT,
                                         .name = question->request->name,
                                         .from = question->backup->start_lsn,
                                         .before = stop->lsn};
    char first[WAL_LSN_TEXT_SIZE], second[WAL_LSN_TEXT_SIZE];
    char first_time[CLOCK_TEXT_SIZE], second_time[CLOCK_TEXT_SIZE], run[CLOCK_COMPACT_SIZE];
    struct wal_scan_result result;

    if (!check_stop(question, stop, err) || !wal_scan_first(question->scan, &query, &result, err))
        return false;
    if (!result.found)
        return true;
    wal_format_lsn(result.record.lsn, first);
    wal_format_lsn(stop->lsn, second);
    error_set(err, ERROR_NEGATIVE,
              "there is more than one restore point \"%s\" behind the start of backup %s",
              question->request->name, layout_run_text(question->backup->run, run));
    error_detail(err, "the first is at LSN %s, of %s; the last at LSN %s, of %s", first,
                 clock_format_local(result.record.time, first_time), second,
                 clock_format_local(stop->time, second_time));
    return error_hint(err, "--target-lsn %s means the last one", second);
}

bool restore_reach_check(struct wal_scan *scan, const char *where, uint32_t newest_timeline,
                         const struct backup_info *backup, const struct restore_request *request,
                         const struct wal_record *stop, struct error *err)
{
    struct question question = {.scan = scan,
                                .where = where,
                                .backup = backup,
                                .request = request,
                                .newest_timeline = newest_timeline};

    wal_scan_reach(scan, backup->start_lsn, &question.reach);
    question.limit = question.reach.missing * wal_scan_segment_size(scan);
    if (!check_backup(&question, err))
        return false;
    switch (request->target) {
    case RESTORE_LATEST:
        return check_latest(&question, err);
    case RESTORE_IMMEDIATE:
        return true;
    case RESTORE_LSN:
        return check_lsn(&question, err);
    case RESTORE_TIME:
        return check_time(&question, err);
    case RESTORE_XID:
        return check_stop(&question, stop, err);
    case RESTORE_NAME:
        return check_name(&question, stop, err);
    }
    return false;
}
