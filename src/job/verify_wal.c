/* verify_wal.c - the WAL's part of a verification, and which moments damage costs */
#include "job/verify_wal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/layout.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"
#include "pgvigil/wal_scan.h"

#define OWED                                                                                       \
    "archive-push could not store it here, and noted that; the next pushes bring it, or `%s copy`"

static uint32_t segment_size(const struct verify_walk *walk)
{
    const struct survey *survey = walk->survey;

    if (survey->wal.segment_size != 0)
        return survey->wal.segment_size;
    return survey->catalog->count > 0 ? survey->catalog->backups[0]->wal_segment_size : 0;
}

bool verify_wal_segment(const struct verify_walk *walk, const struct verify_finding *finding,
                        uint32_t *timeline, uint64_t *number)
{
    char file[WAL_NAME_SIZE];
    struct wal_name name;

    if (finding->kind != TRAILER_WAL || !layout_parse_wal(finding->object, file, &name))
        return false;
    *timeline = name.timeline;
    *number = wal_segment_number(&name, segment_size(walk));
    return true;
}

static char *segment_object(const struct verify_walk *walk, uint32_t timeline, uint64_t number,
                            char object[LAYOUT_NAME_SIZE])
{
    char file[WAL_NAME_SIZE];

    return layout_wal_segment(wal_segment_name(timeline, number, segment_size(walk), file), object);
}

/* All of these segments are owed, or none is. */
static void blame_stretch(struct verify_walk *walk, uint32_t timeline, uint64_t first,
                          uint64_t last, bool owed, const char *reason)
{
    char object[LAYOUT_NAME_SIZE];
    struct verify_finding *finding;
    struct error why;

    if (owed)
        error_set(&why, ERROR_INTEGRITY, OWED, process_command());
    else
        error_set(&why, ERROR_INTEGRITY, "%s", reason);
    finding = verify_walk_blame(walk, owed ? VERIFY_OWED : VERIFY_MISSING, TRAILER_WAL,
                                segment_object(walk, timeline, first, object), &why);
    finding->count = last - first + 1;
    if (last > first)
        finding->last = mem_strdup(segment_object(walk, timeline, last, object));
}

/* Up to where all segments from `first` on are owed as that one is, or are not. */
static uint64_t find_stretch_end(const struct verify_walk *walk, uint32_t timeline, uint64_t first,
                                 uint64_t last, bool *owed)
{
    char object[LAYOUT_NAME_SIZE], file[WAL_NAME_SIZE];
    struct wal_name parsed;
    const char *next;
    uint64_t number;

    *owed = verify_owed_has(&walk->owed, segment_object(walk, timeline, first, object));
    if (*owed) {
        while (first < last &&
               verify_owed_has(&walk->owed, segment_object(walk, timeline, first + 1, object)))
            first++;
        return first;
    }
    next = verify_owed_after(&walk->owed, object);
    if (next == NULL || !layout_parse_wal(next, file, &parsed) || parsed.kind != WAL_SEGMENT ||
        parsed.timeline != timeline)
        return last;
    number = wal_segment_number(&parsed, segment_size(walk));
    return number > first && number <= last ? number - 1 : last;
}

static void blame_missing(struct verify_walk *walk, uint32_t timeline, uint64_t first,
                          uint64_t last, const char *reason)
{
    while (first <= last) {
        bool owed;
        const uint64_t end = find_stretch_end(walk, timeline, first, last, &owed);

        blame_stretch(walk, timeline, first, end, owed, reason);
        first = end + 1;
    }
}

/* Behind a backup that is kept, retention leaves nothing up to the start of the next one, or to where the
 * timeline was left. */
static bool is_expired(const struct verify_walk *walk, const struct survey_timeline *timeline,
                       const struct survey_gap *gap)
{
    const struct catalog *catalog = walk->survey->catalog;
    const uint64_t size = segment_size(walk);
    bool behind = false;
    bool before =
        timeline->range_count == 0 || gap->last > timeline->ranges[timeline->range_count - 1].last;

    for (size_t i = 0; i < catalog->count; i++) {
        const struct backup_info *info = catalog->backups[i];

        if (info->timeline != timeline->timeline)
            continue;
        behind = behind || (info->stop_lsn - 1) / size + 1 == gap->first;
        before = before || info->start_lsn / size == gap->last + 1;
    }
    return behind && before;
}

static bool in_gap(const struct verify_walk *walk, uint32_t timeline, uint64_t segment)
{
    const struct survey *survey = walk->survey;

    for (size_t i = 0; i < survey->timeline_count; i++)
        for (size_t j = 0;
             survey->timelines[i].timeline == timeline && j < survey->timelines[i].gap_count; j++)
            if (survey->timelines[i].gaps[j].first <= segment &&
                segment <= survey->timelines[i].gaps[j].last)
                return true;
    return false;
}

static bool has_segment(const struct verify_walk *walk, uint32_t timeline, uint64_t segment)
{
    const struct wal_ranges *wal = &walk->survey->wal;

    for (size_t i = 0; i < wal->count; i++)
        if (wal->ranges[i].timeline == timeline && wal->ranges[i].first <= segment &&
            segment <= wal->ranges[i].last)
            return true;
    return false;
}

/* What a backup needs and lies in no gap, as nothing came behind it. */
static void check_backup(struct verify_walk *walk, const struct survey_backup *backup)
{
    const struct backup_info *info = backup->info;
    const uint64_t last = (info->stop_lsn - 1) / info->wal_segment_size;
    uint64_t segment = backup->missing;

    while (!backup->wal_complete && segment <= last) {
        uint64_t end = segment;

        if (in_gap(walk, info->timeline, segment) || has_segment(walk, info->timeline, segment)) {
            segment++;
            continue;
        }
        while (end < last && !has_segment(walk, info->timeline, end + 1) &&
               !in_gap(walk, info->timeline, end + 1))
            end++;
        blame_missing(walk, info->timeline, segment, end, "a backup needs it");
        segment = end + 1;
    }
}

static void check_history(struct verify_walk *walk, uint32_t timeline)
{
    char object[LAYOUT_NAME_SIZE];
    struct error why;

    layout_wal_history(timeline, object);
    if (timeline < 2 || verify_walk_find(walk, object) != NULL)
        return;
    error_set(&why, ERROR_INTEGRITY,
              "WAL of timeline %" PRIu32
              " is there: backups of earlier timelines cannot be restored along it",
              timeline);
    verify_walk_blame(walk, verify_owed_has(&walk->owed, object) ? VERIFY_OWED : VERIFY_MISSING,
                      TRAILER_HISTORY, object, &why);
}

void verify_wal_check(struct verify_walk *walk)
{
    const struct survey *survey = walk->survey;

    for (size_t i = 0; i < survey->timeline_count; i++) {
        const struct survey_timeline *timeline = &survey->timelines[i];

        if (survey->timeline_count > 1 && timeline->range_count > 0)
            check_history(walk, timeline->timeline);
        for (size_t j = 0; j < timeline->gap_count; j++)
            if (!is_expired(walk, timeline, &timeline->gaps[j]))
                blame_missing(walk, timeline->timeline, timeline->gaps[j].first,
                              timeline->gaps[j].last, "later WAL is there");
    }
    for (size_t i = 0; i < survey->catalog->count; i++)
        check_backup(walk, &survey->backups[i]);
}

/* Backups whose own WAL it is. */
static void count_backups(struct verify_walk *walk, struct verify_finding *finding)
{
    const struct catalog *catalog = walk->survey->catalog;
    uint32_t timeline;
    uint64_t first;

    if (!verify_is_open(finding) || !verify_wal_segment(walk, finding, &timeline, &first))
        return;
    for (size_t i = 0; i < catalog->count; i++) {
        const struct backup_info *info = catalog->backups[i];

        if (info->timeline == timeline &&
            info->start_lsn / info->wal_segment_size <= first + finding->count - 1 &&
            (info->stop_lsn - 1) / info->wal_segment_size >= first)
            verify_walk_cost(finding, info->run);
    }
}

static const struct survey_timeline *find_timeline(const struct survey *survey, uint32_t number)
{
    for (size_t i = 0; i < survey->timeline_count; i++)
        if (survey->timelines[i].timeline == number)
            return &survey->timelines[i];
    return NULL;
}

/* Of this backup retention has kept nothing behind its stop. */
static bool is_cut_off(const struct verify_walk *walk, const struct backup_info *info)
{
    const struct survey_timeline *timeline = find_timeline(walk->survey, info->timeline);
    const uint64_t behind = (info->stop_lsn - 1) / segment_size(walk) + 1;

    for (size_t i = 0; timeline != NULL && i < timeline->gap_count; i++)
        if (timeline->gaps[i].first == behind && is_expired(walk, timeline, &timeline->gaps[i]))
            return true;
    return false;
}

/* Would recovery from this backup, along any timeline and whatever else is missing, come to the segments
 * of this timeline up to `last`? */
static bool leads_to(const struct verify_walk *walk, const struct backup_info *info,
                     const struct survey_timeline *timeline, uint64_t last)
{
    if (info->start_lsn / segment_size(walk) > last)
        return false;
    return info->timeline == timeline->timeline ||
           history_switch_lsn(&timeline->history, info->timeline) >= info->stop_lsn;
}

/* No backup that is to stay leads to a stretch that is missing, and there is one that begins behind it. */
static bool is_harmless(const struct verify_walk *walk, const struct verify_finding *finding)
{
    const struct survey *survey = walk->survey;
    const struct survey_timeline *timeline;
    bool behind = false;
    uint32_t number;
    uint64_t first;

    if (!verify_is_open(finding) || finding->fault != VERIFY_MISSING || finding->backup_count > 0 ||
        survey->catalog->damaged_count > 0 || !verify_wal_segment(walk, finding, &number, &first) ||
        (timeline = find_timeline(survey, number)) == NULL)
        return false;
    for (size_t i = 0; i < survey->catalog->count; i++) {
        const struct survey_backup *backup = &survey->backups[i];
        const uint64_t last = first + finding->count - 1;

        if (backup->expiring)
            continue;
        if (leads_to(walk, backup->info, timeline, last) && !is_cut_off(walk, backup->info))
            return false;
        behind =
            behind || (backup->wal_complete && backup->info->start_lsn / segment_size(walk) > last);
    }
    return behind;
}

/* The backups that recover along one timeline, ascending by stop LSN, and its WAL without what is damaged. */
struct path {
    struct verify_walk *walk;
    uint32_t timeline;
    struct wal_scan *scan;
    uint64_t size; /* of a segment */
    struct path_backup {
        const struct backup_info *info;
        bool lost;
        uint64_t reach; /* LSN that recovery from it gets to */
    } * backups;
    size_t count;
};

static int compare_backups(const void *a, const void *b)
{
    const struct path_backup *left = a, *right = b;

    return (left->info->stop_lsn > right->info->stop_lsn) -
           (left->info->stop_lsn < right->info->stop_lsn);
}

static bool is_lost(const struct verify_walk *walk, int64_t run)
{
    const struct verify_cluster *result = walk->result;

    for (size_t i = 0; i < result->finding_count; i++)
        for (size_t j = 0; j < result->findings[i].backup_count; j++)
            if (result->findings[i].backups[j] == run)
                return true;
    return false;
}

static int compare_segments(const void *a, const void *b)
{
    const struct wal_segment *left = a, *right = b;

    if (left->timeline != right->timeline)
        return left->timeline < right->timeline ? -1 : 1;
    return (left->number > right->number) - (left->number < right->number);
}

static void drop_damaged(const struct path *path)
{
    const struct verify_cluster *result = path->walk->result;
    struct wal_segment *segments = mem_calloc(result->finding_count, sizeof *segments);
    size_t count = 0;

    for (size_t i = 0; i < result->finding_count; i++)
        if (verify_is_open(&result->findings[i]) && result->findings[i].fault == VERIFY_DAMAGED &&
            verify_wal_segment(path->walk, &result->findings[i], &segments[count].timeline,
                               &segments[count].number))
            count++;
    if (count > 0)
        qsort(segments, count, sizeof *segments, compare_segments);
    wal_scan_leave_out(path->scan, segments, count);
    free(segments);
}

static bool open_path(struct path *path, struct error *err)
{
    const struct survey *survey = path->walk->survey;

    if (!wal_scan_open(path->walk->repository, path->timeline, path->walk->jobs, &path->scan, err))
        return false;
    path->size = segment_size(path->walk);
    drop_damaged(path);
    path->backups = mem_calloc(survey->catalog->count, sizeof *path->backups);
    for (size_t i = 0; i < survey->catalog->count; i++) {
        const struct backup_info *info = survey->catalog->backups[i];
        struct path_backup *backup = &path->backups[path->count];
        struct wal_scan_reach reach;

        if (survey_target_timeline(survey, info) != path->timeline)
            continue;
        wal_scan_reach(path->scan, info->stop_lsn - 1, &reach);
        *backup = (struct path_backup){.info = info,
                                       .lost = is_lost(path->walk, info->run),
                                       .reach = reach.missing * path->size};
        path->count++;
    }
    if (path->count > 0)
        qsort(path->backups, path->count, sizeof *path->backups, compare_backups);
    return true;
}

static void close_path(struct path *path)
{
    wal_scan_close(path->scan);
    free(path->backups);
}

/* The newest whole backup that stopped at `lsn` or before and reaches it; NULL if there is none. */
static const struct path_backup *find_before(const struct path *path, uint64_t lsn)
{
    const struct path_backup *found = NULL;

    for (size_t i = 0; i < path->count; i++)
        if (!path->backups[i].lost && path->backups[i].info->stop_lsn <= lsn &&
            path->backups[i].reach >= lsn)
            found = &path->backups[i];
    return found;
}

/* When the first whole backup behind `lsn` stopped. */
static int64_t find_after(const struct path *path, uint64_t lsn)
{
    for (size_t i = 0; i < path->count; i++)
        if (!path->backups[i].lost && path->backups[i].info->stop_lsn > lsn)
            return path->backups[i].info->stop_time;
    return INT64_MAX;
}

/* Of stretches that lie in each other the widest is told. */
static void add_lost(struct verify_finding *finding, int64_t from, int64_t to)
{
    size_t left = 0;

    for (size_t i = 0; i < finding->lost_count; i++)
        if (finding->lost[i].from <= from && finding->lost[i].to >= to)
            return;
    for (size_t i = 0; i < finding->lost_count; i++)
        if (finding->lost[i].from < from || finding->lost[i].to > to)
            finding->lost[left++] = finding->lost[i];
    finding->lost_count = left;
    finding->lost = mem_grow(finding->lost, finding->lost_count, &finding->lost_capacity,
                             sizeof *finding->lost);
    finding->lost[finding->lost_count++] = (struct verify_lost_time){.from = from, .to = to};
}

/* WAL that breaks off: what can be restored before it ends with the last transaction before it. */
static bool count_break(const struct path *path, struct verify_finding *finding, uint64_t lsn,
                        struct error *err)
{
    const struct path_backup *before = find_before(path, lsn);
    struct wal_scan_query query = {.kind = WAL_SCAN_TIME, .before = lsn};
    struct wal_scan_result result;
    int64_t from;

    if (before == NULL || before->reach != lsn)
        return true;
    from = before->info->stop_time;
    query.from = before->info->stop_lsn;
    if (wal_scan_last(path->scan, &query, &result, err)) {
        if (result.found && result.record.time > from)
            from = result.record.time;
    } else if (err->code == ERROR_INTEGRITY || err->code == ERROR_CONFIG) {
        error_clear(err); /* damage there has a finding of its own; what is sealed cannot tell */
    } else {
        return false;
    }
    add_lost(finding, from, find_after(path, lsn));
    return true;
}

/* Moments behind a backup that is lost, unless an earlier one leads there, too. */
static void count_lost_backups(const struct path *path, struct verify_finding *finding)
{
    for (size_t i = 0; i < path->count; i++) {
        const struct backup_info *info = path->backups[i].info;
        bool mine = false;

        for (size_t j = 0; j < finding->backup_count; j++)
            mine = mine || finding->backups[j] == info->run;
        if (mine && find_before(path, info->stop_lsn) == NULL &&
            path->backups[i].reach >= info->stop_lsn)
            add_lost(finding, info->stop_time, find_after(path, info->stop_lsn));
    }
}

static bool count_path(const struct path *path, struct error *err)
{
    struct verify_cluster *result = path->walk->result;
    const struct history *history = wal_scan_history(path->scan);

    for (size_t i = 0; i < result->finding_count; i++) {
        struct verify_finding *finding = &result->findings[i];
        uint32_t timeline;
        uint64_t first;

        if (!verify_is_open(finding))
            continue;
        count_lost_backups(path, finding);
        if (verify_wal_segment(path->walk, finding, &timeline, &first) &&
            history_switch_lsn(history, timeline) != 0 &&
            !count_break(path, finding, first * path->size, err))
            return false;
    }
    return true;
}

static bool is_target(const struct survey *survey, uint32_t timeline)
{
    for (size_t i = 0; i < survey->catalog->count; i++)
        if (survey_target_timeline(survey, survey->catalog->backups[i]) == timeline)
            return true;
    return false;
}

bool verify_wal_count_costs(struct verify_walk *walk, struct error *err)
{
    const struct survey *survey = walk->survey;
    bool ok = true, any = false;

    for (size_t i = 0; i < walk->result->finding_count; i++) {
        count_backups(walk, &walk->result->findings[i]);
        walk->result->findings[i].harmless = is_harmless(walk, &walk->result->findings[i]);
        any = any || verify_is_open(&walk->result->findings[i]);
    }
    for (size_t i = 0; any && ok && i < survey->timeline_count; i++) {
        struct path path = {.walk = walk, .timeline = survey->timelines[i].timeline};

        if (!is_target(survey, path.timeline))
            continue;
        ok = open_path(&path, err) && count_path(&path, err);
        close_path(&path);
        if (!ok && err->code == ERROR_INTEGRITY) {
            error_clear(err); /* a damaged history, which has a finding of its own */
            ok = true;
        }
    }
    return ok;
}
