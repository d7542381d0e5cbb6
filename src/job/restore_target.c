/*
 * restore_target.c - choosing timeline and backup
 */
#include "job/restore_target.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "job/restore_agreement.h"
#include "job/restore_cluster.h"
#include "job/restore_fork.h"
#include "job/restore_reach.h"
#include "pgvigil/clock.h"
#include "pgvigil/layout.h"
#include "pgvigil/log.h"
#include "pgvigil/process.h"
#include "pgvigil/repository_ask.h"
#include "pgvigil/wal_scan.h"
#include "pgvigil/wal_union.h"

char *restore_target_text(const struct restore_request *request,
                          char text[RESTORE_TARGET_TEXT_SIZE])
{
    char moment[CLOCK_TEXT_SIZE];

    switch (request->target) {
    case RESTORE_LATEST:
        snprintf(text, RESTORE_TARGET_TEXT_SIZE, "the end of the archived WAL");
        break;
    case RESTORE_IMMEDIATE:
        snprintf(text, RESTORE_TARGET_TEXT_SIZE, "the end of the backup");
        break;
    case RESTORE_TIME:
        snprintf(text, RESTORE_TARGET_TEXT_SIZE, "time %s",
                 clock_format_local(request->time, moment));
        break;
    case RESTORE_LSN:
        wal_format_lsn(request->lsn, moment);
        snprintf(text, RESTORE_TARGET_TEXT_SIZE, "LSN %s", moment);
        break;
    case RESTORE_XID:
        snprintf(text, RESTORE_TARGET_TEXT_SIZE, "transaction %" PRIu32, request->xid);
        break;
    case RESTORE_NAME:
        snprintf(text, RESTORE_TARGET_TEXT_SIZE, "restore point \"%s\"", request->name);
        break;
    }
    return text;
}

int64_t restore_target_beyond(const struct restore_request *request)
{
    return request->bound == RESTORE_INCLUSIVE ? request->time + 1 : request->time;
}

/* Whatever is found in it belongs to the catalog, the scan or the caller. */
struct choosing {
    struct repository *repository;
    const struct restore_request *request;
    int jobs;
    struct catalog *catalog;
    uint32_t newest_timeline;
    struct wal_scan *scan;
    const struct backup_info *backup;
    struct wal_scan_result stop; /* of a target by transaction or name */
};

/* Does recovery along this history pass through the backup? */
static bool lies_on(const struct history *history, const struct backup_info *backup)
{
    const uint64_t switch_lsn = history_switch_lsn(history, backup->timeline);

    return switch_lsn != 0 && backup->stop_lsn <= switch_lsn;
}

static bool any_lies_on(const struct choosing *choosing, const struct history *history)
{
    for (size_t i = 0; i < choosing->catalog->count; i++)
        if (restore_cluster_may_serve(choosing->request, choosing->catalog->backups[i]) &&
            lies_on(history, choosing->catalog->backups[i]))
            return true;
    return false;
}

/* The highest timeline below `below` that has WAL, a history or a backup; 0 when there is none. */
static uint32_t next_timeline(const struct choosing *choosing, const uint32_t *timelines,
                              size_t count, uint64_t below)
{
    uint32_t highest = 0;

    for (size_t i = 0; i < count; i++)
        if (timelines[i] < below && timelines[i] > highest)
            highest = timelines[i];
    for (size_t i = 0; i < choosing->catalog->count; i++)
        if (choosing->catalog->backups[i]->timeline < below &&
            choosing->catalog->backups[i]->timeline > highest)
            highest = choosing->catalog->backups[i]->timeline;
    return highest;
}

/* WAL of a timeline whose beginning is not known: its history file, which every promotion archives,
 * is not there. */
static bool refuse_unknown_history(const struct choosing *choosing, uint32_t timeline,
                                   struct error *err)
{
    char *where = repository_ask_names(choosing->repository);
    char file[WAL_NAME_SIZE];

    error_set(err, ERROR_INTEGRITY,
              "\"%s\" is missing in %s, although WAL of timeline %" PRIu32 " is there",
              wal_history_name(timeline, file), where, timeline);
    free(where);
    error_detail(
        err, "without it, it cannot be told from which backups timeline %" PRIu32 " can be reached",
        timeline);
    return error_hint(err, "if a server still has the file in pg_wal, push it; --target-timeline "
                           "with a lower number does without this timeline");
}

/* To do without the newest timeline, for want of its history file, would be to end too early. */
static bool check_history_known(const struct choosing *choosing, uint32_t timeline, bool known,
                                struct error *err)
{
    bool any;

    if (known || timeline == 1 || choosing->request->target == RESTORE_IMMEDIATE)
        return true;
    if (!wal_union_has_any(choosing->repository, timeline, &any, err))
        return false;
    return !any || refuse_unknown_history(choosing, timeline, err);
}

static bool latest_timeline(const struct choosing *choosing, const uint32_t *timelines,
                            size_t count, uint32_t *timeline, struct error *err)
{
    uint64_t below = UINT64_MAX;

    for (;;) {
        const uint32_t candidate = next_timeline(choosing, timelines, count, below);
        struct history history;
        bool known, fits;

        if (candidate == 0) /* not reached: a backup lies on its own timeline */
            return error_set(err, ERROR_NEGATIVE, "no backup lies on any timeline in the archive");
        if (!wal_union_history(choosing->repository, candidate, &history, &known, err))
            return false;
        fits = any_lies_on(choosing, &history);
        history_free(&history);
        if (fits) {
            *timeline = candidate;
            return true;
        }
        if (!check_history_known(choosing, candidate, known, err))
            return false;
        below = candidate;
    }
}

static bool choose_timeline(struct choosing *choosing, uint32_t *timeline, struct error *err)
{
    const uint32_t wanted = choosing->request->timeline;
    uint32_t *timelines;
    size_t count;
    bool ok = true;

    if (!wal_union_timelines(choosing->repository, &timelines, &count, err))
        return false;
    choosing->newest_timeline = next_timeline(choosing, timelines, count, UINT64_MAX);
    if (wanted == 0) {
        ok = latest_timeline(choosing, timelines, count, timeline, err);
    } else if (next_timeline(choosing, timelines, count, (uint64_t)wanted + 1) == wanted) {
        *timeline = wanted;
    } else {
        char *where = repository_ask_names(choosing->repository);

        ok =
            error_set(err, ERROR_NEGATIVE, "there is no timeline %" PRIu32 " in %s", wanted, where);
        free(where);
        error_hint(err, "`%s list` shows the timelines that there are", process_command());
    }
    free(timelines);
    return ok;
}

static bool open_timeline(struct choosing *choosing, uint32_t timeline, struct error *err)
{
    wal_scan_close(choosing->scan);
    choosing->scan = NULL;
    return wal_scan_open(choosing->repository, timeline, choosing->jobs, &choosing->scan, err);
}

/* The newest backup on the path that may serve and ended before `below`; NULL if there is none. */
static const struct backup_info *newest_on_path(const struct choosing *choosing, uint64_t below)
{
    const struct history *history = wal_scan_history(choosing->scan);
    const struct backup_info *newest = NULL;

    for (size_t i = 0; i < choosing->catalog->count; i++) {
        const struct backup_info *backup = choosing->catalog->backups[i];

        if (restore_cluster_may_serve(choosing->request, backup) && lies_on(history, backup) &&
            backup->stop_lsn < below && (newest == NULL || backup->stop_lsn > newest->stop_lsn))
            newest = backup;
    }
    return newest;
}

static const struct backup_info *oldest_on_path(const struct choosing *choosing)
{
    const struct backup_info *oldest = NULL, *backup;
    uint64_t below = UINT64_MAX;

    while ((backup = newest_on_path(choosing, below)) != NULL) {
        oldest = backup;
        below = backup->stop_lsn;
    }
    return oldest;
}

/* No backup of those on the path ended before the target. */
static bool refuse_early(const struct choosing *choosing, struct error *err)
{
    const struct backup_info *oldest = oldest_on_path(choosing);
    char target[RESTORE_TARGET_TEXT_SIZE], run[CLOCK_COMPACT_SIZE], lsn[WAL_LSN_TEXT_SIZE];
    char time[CLOCK_TEXT_SIZE];
    const uint32_t timeline = wal_scan_history(choosing->scan)->timeline;

    restore_target_text(choosing->request, target);
    if (oldest == NULL &&
        !check_history_known(choosing, timeline, wal_scan_history_known(choosing->scan), err))
        return false;
    if (oldest == NULL) {
        error_set(err, ERROR_NEGATIVE,
                  "cannot restore to %s on timeline %" PRIu32 ": no fitting backup lies on it or "
                  "its ancestors",
                  target, timeline);
        return error_hint(err, "`%s list` shows the backups and their timelines",
                          process_command());
    }
    layout_run_text(oldest->run, run);
    error_set(err, ERROR_NEGATIVE, "cannot restore to %s: it lies before the end of backup %s",
              target, run);
    error_detail(err, "backup %s is consistent from LSN %s on, of %s", run,
                 wal_format_lsn(oldest->stop_lsn, lsn),
                 clock_format_local(oldest->stop_time, time));
    if (choosing->request->backup != 0)
        return error_hint(err, "without --backup the one that serves the target is chosen");
    return error_hint(err, "that is the earliest moment that can be restored");
}

/*
 * Backups that ended before the time, newest first. One that ended shortly before it is looked at
 * closely: where clocks differ (a backup taken from a standby) or were set back, a transaction before
 * its end may bear a later time, and recovery would stop there, before it is consistent.
 */
static bool choose_by_time(struct choosing *choosing, struct error *err)
{
    struct wal_scan_query query = {.kind = WAL_SCAN_TIME,
                                   .time = restore_target_beyond(choosing->request)};
    uint64_t below = UINT64_MAX;

    for (;;) {
        const struct backup_info *backup = newest_on_path(choosing, below);
        struct wal_scan_result early = {.found = false};

        if (backup == NULL || backup->stop_time >= query.time) {
            choosing->backup = NULL;
            return refuse_early(choosing, err);
        }
        query.from = backup->start_lsn;
        query.before = backup->stop_lsn;
        if (query.time - backup->stop_time <= WAL_SCAN_CLOCK_TOLERANCE &&
            !wal_scan_first(choosing->scan, &query, &early, err))
            return false;
        if (!early.found) {
            choosing->backup = backup;
            return true;
        }
        below = backup->stop_lsn;
    }
}

static bool choose_below(struct choosing *choosing, uint64_t below, struct error *err)
{
    choosing->backup = newest_on_path(choosing, below);
    return choosing->backup != NULL || refuse_early(choosing, err);
}

static bool refuse_unknown(const struct choosing *choosing, uint64_t from, struct error *err)
{
    char target[RESTORE_TARGET_TEXT_SIZE], lsn[WAL_LSN_TEXT_SIZE];
    char *where = repository_ask_names(choosing->repository);

    error_set(err, ERROR_NEGATIVE, "there is no %s in the WAL of %s",
              restore_target_text(choosing->request, target), where);
    free(where);
    error_detail(err,
                 "searched from LSN %s, the end of %s backup, along timeline %" PRIu32
                 " to the end of the archive",
                 wal_format_lsn(from, lsn), choosing->request->backup ? "the" : "the oldest",
                 wal_scan_history(choosing->scan)->timeline);
    return error_hint(err, "if it is recent, pg_switch_wal() on the server brings its WAL into the"
                           " archive; if it is on another timeline, give --target-timeline");
}

/* A transaction or a restore point is wherever it was last. */
static bool choose_by_search(struct choosing *choosing, struct error *err)
{
    const struct restore_request *request = choosing->request;
    const struct backup_info *oldest = oldest_on_path(choosing);
    struct wal_scan_query query = {.kind = request->target == RESTORE_XID ? WAL_SCAN_TRANSACTION
                                                                          : WAL_SCAN_POINT,
                                   .xid = request->xid,
                                   .name = request->name,
                                   .before = UINT64_MAX};
    char target[RESTORE_TARGET_TEXT_SIZE];

    if (oldest == NULL)
        return refuse_early(choosing, err);
    query.from = oldest->stop_lsn;
    log_info("looking for %s in the archived WAL", restore_target_text(request, target));
    if (!wal_scan_last(choosing->scan, &query, &choosing->stop, err))
        return false;
    if (!choosing->stop.found)
        return refuse_unknown(choosing, query.from, err);
    return choose_below(choosing, choosing->stop.record.lsn + 1, err);
}

static bool choose_backup(struct choosing *choosing, struct error *err)
{
    const uint64_t lsn = choosing->request->lsn;

    switch (choosing->request->target) {
    case RESTORE_TIME:
        return choose_by_time(choosing, err);
    case RESTORE_LSN:
        return choose_below(choosing, lsn < UINT64_MAX ? lsn + 1 : lsn, err);
    case RESTORE_XID:
    case RESTORE_NAME:
        return choose_by_search(choosing, err);
    case RESTORE_LATEST:
    case RESTORE_IMMEDIATE:
        break;
    }
    return choose_below(choosing, UINT64_MAX, err);
}

/* From the first that has it: it may be another one's alone. */
static bool take_chosen(const struct choosing *choosing, struct restore_target_choice *choice,
                        struct error *err)
{
    const int64_t run = choosing->backup->run;
    char id[CLOCK_COMPACT_SIZE];
    struct error why = ERROR_INIT;

    choice->repository = choosing->repository;
    if (backup_info_fetch(choice->repository, run, &choice->backup, err))
        return true;
    while (err->code != ERROR_CANCELLED &&
           (choice->repository = repository_ask_next(choice->repository)) != NULL) {
        if (!backup_info_fetch(choice->repository, run, &choice->backup, &why))
            continue;
        error_clear(err);
        log_info("backup %s is taken from repository \"%s\": \"%s\" does not have it",
                 layout_run_text(run, id), choice->repository->name, choosing->repository->name);
        return true;
    }
    return false;
}

/* A backup that the first repository does not have may be that of another server, and begin where that
 * one's WAL ends: then what they share before it must be the same, too. */
static bool check_agreement(const struct choosing *choosing,
                            const struct restore_target_choice *choice, struct error *err)
{
    const bool own = choice->repository == choosing->repository;

    return restore_agreement_check(choosing->scan, choosing->backup,
                                   own ? choosing->backup->start_lsn : 0, choosing->request,
                                   &choosing->stop.record, err);
}

/* One that is missing is known to be so from the start, when the search begins and when recovery
 * reads ahead: with it out of the way, what lies before it can be reached. */
static bool hint_damaged_wal(const struct choosing *choosing, struct error *err)
{
    char target[RESTORE_TARGET_TEXT_SIZE];

    if (err->code != ERROR_INTEGRITY || err->hint[0] != '\0')
        return false;
    if (err->detail[0] == '\0')
        error_detail(err, "it was met in the search for %s",
                     restore_target_text(choosing->request, target));
    return error_hint(
        err,
        "%slook for the segment in pg_wal of the old primary: once the damaged object is moved"
        " away, `%s archive-push` stores it anew; if it is lost, run the restore again then: it"
        " says what can be reached",
        choosing->repository->sibling != NULL
            ? "verify --repair mends it where another repository has it; else "
            : "",
        process_command());
}

/* Will recovery get there, and is it where the cluster was? */
static bool check_target(const struct choosing *choosing, struct error *err)
{
    char *where = repository_ask_names(choosing->repository);
    bool ok = restore_reach_check(choosing->scan, where, choosing->newest_timeline,
                                  choosing->backup, choosing->request, &choosing->stop.record, err);
    struct restore_fork fork = {.current = 0};

    free(where);
    if (ok || err->code == ERROR_NEGATIVE)
        restore_fork_find(choosing->repository, choosing->scan, choosing->backup, choosing->request,
                          choosing->jobs, &fork);
    if (fork.current == 0)
        return ok || hint_damaged_wal(choosing, err);
    if (!ok)
        return restore_fork_hint(&fork, err);
    restore_fork_warn(&fork, choosing->request);
    return true;
}

static bool choose_all(struct choosing *choosing, struct restore_target_choice *choice,
                       struct error *err)
{
    const struct restore_request *request = choosing->request;
    uint32_t timeline = 0;

    if (!restore_cluster_choose(choosing->repository, request, &choosing->catalog, err) ||
        !choose_timeline(choosing, &timeline, err) || !open_timeline(choosing, timeline, err))
        return false;
    if (!choose_backup(choosing, err))
        return hint_damaged_wal(choosing, err);
    /* The backup's end lies on its own timeline; what came later does not matter. */
    if (request->target == RESTORE_IMMEDIATE && request->timeline == 0 &&
        choosing->backup->timeline != timeline &&
        !open_timeline(choosing, choosing->backup->timeline, err))
        return false;
    return take_chosen(choosing, choice, err) && check_agreement(choosing, choice, err) &&
           check_target(choosing, err);
}

/* Recovery reads the WAL at least up to here. */
static uint64_t read_to(const struct choosing *choosing)
{
    switch (choosing->request->target) {
    case RESTORE_LATEST:
        return UINT64_MAX;
    case RESTORE_LSN:
        return choosing->request->lsn;
    case RESTORE_XID:
    case RESTORE_NAME:
        return choosing->stop.record.end_lsn;
    case RESTORE_TIME:
    case RESTORE_IMMEDIATE:
        break;
    }
    return choosing->backup->stop_lsn;
}

bool restore_target_choose(struct repository *repository, const struct restore_request *request,
                           int jobs, struct restore_target_choice *choice, struct error *err)
{
    struct choosing choosing = {.repository = repository, .request = request, .jobs = jobs};
    bool ok = choose_all(&choosing, choice, err);

    if (ok) {
        struct wal_scan_reach reach;

        wal_scan_reach(choosing.scan, choosing.backup->start_lsn, &reach);
        choice->timeline = wal_scan_history(choosing.scan)->timeline;
        /* An older timeline may lack WAL that only its descendants know of, as archive-get does. */
        choice->gap = reach.gap || choice->timeline < choosing.newest_timeline;
        wal_segment_name(reach.timeline, reach.missing, wal_scan_segment_size(choosing.scan),
                         choice->missing);
        restore_seams_find(choosing.scan, choosing.backup->start_lsn, reach.missing,
                           &choice->seams);
        choice->seams.read_to = read_to(&choosing);
        /* Recovery asks for the history file of a numbered timeline other than 1. */
        choice->follow = choice->timeline > 1 && !wal_scan_history_known(choosing.scan)
                             ? RESTORE_TARGET_CURRENT
                             : RESTORE_TARGET_NUMBER;
    }
    wal_scan_close(choosing.scan);
    catalog_free(choosing.catalog);
    return ok;
}

void restore_target_free(struct restore_target_choice *choice)
{
    backup_info_free(choice->backup);
    restore_seams_free(&choice->seams);
    *choice = (struct restore_target_choice){.backup = NULL};
}
