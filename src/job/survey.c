/* survey.c - what a repository holds of a cluster, and what can be restored from that */
#include "pgvigil/survey.h"

#include <stdlib.h>

#include "job/survey_wal.h"
#include "pgvigil/marks.h"
#include "pgvigil/mem.h"
#include "pgvigil/wal_scan.h"

void survey_note_damage(struct survey *survey, const struct error *err)
{
    survey->damage = mem_grow(survey->damage, survey->damage_count, &survey->damage_capacity,
                              sizeof(*survey->damage));
    survey->damage[survey->damage_count++] = *err;
}

/* The first segment from `first` on that none of the timeline's ranges has. */
static uint64_t first_missing(const struct wal_ranges *wal, uint32_t timeline, uint64_t first)
{
    for (size_t i = 0; i < wal->count; i++) {
        const struct wal_range *range = &wal->ranges[i];

        if (range->timeline == timeline && range->first <= first && first <= range->last)
            first = range->last + 1;
    }
    return first;
}

static void check_backup(const struct survey *survey, struct survey_backup *backup)
{
    const struct backup_info *info = backup->info;
    uint64_t size = info->wal_segment_size;

    backup->missing = info->start_lsn / size;
    if (survey->wal.segment_size == size)
        backup->missing = first_missing(&survey->wal, info->timeline, backup->missing);
    backup->wal_complete = backup->missing * size >= info->stop_lsn;
}

uint32_t survey_target_timeline(const struct survey *survey, const struct backup_info *info)
{
    uint32_t target = info->timeline;

    for (size_t i = 0; i < survey->timeline_count; i++) {
        const struct survey_timeline *timeline = &survey->timelines[i];

        if (timeline->timeline > target &&
            history_switch_lsn(&timeline->history, info->timeline) >= info->stop_lsn)
            target = timeline->timeline;
    }
    return target;
}

static void join_window(struct survey *survey, const struct backup_info *info,
                        const struct history *history, uint64_t end_lsn)
{
    for (size_t i = 0; i < survey->window_count; i++) {
        struct survey_window *window = &survey->windows[i];

        if (window->timeline != history->timeline || window->end_lsn != end_lsn)
            continue;
        if (info->stop_lsn < window->oldest->stop_lsn)
            window->oldest = info;
        if (info->stop_lsn > window->newest->stop_lsn)
            window->newest = info;
        return;
    }
    survey->windows[survey->window_count++] =
        (struct survey_window){.oldest = info,
                               .newest = info,
                               .timeline = history->timeline,
                               .end_lsn = end_lsn,
                               .end_timeline = history_timeline_at(history, end_lsn - 1)};
}

static bool find_last_transaction(struct survey *survey, struct wal_scan *scan,
                                  struct survey_window *window, struct error *err)
{
    struct wal_scan_query query = {.kind = WAL_SCAN_TIME,
                                   .time = 0,
                                   .from = window->newest->stop_lsn,
                                   .before = window->end_lsn};
    struct wal_scan_result result;

    if (wal_scan_last(scan, &query, &result, err)) {
        window->any_transaction = result.found;
        window->last_transaction = result.found ? result.record.time : 0;
        return true;
    }
    window->sealed = err->code == ERROR_CONFIG;
    if (err->code != ERROR_INTEGRITY && !window->sealed)
        return false;
    if (!window->sealed)
        survey_note_damage(survey, err);
    error_clear(err);
    return true;
}

/* Windows of the backups that recover along this timeline. A timeline whose history cannot be read
 * is noted as damage by then, and nothing can be restored along it. */
static bool find_windows(struct repository *repository, struct survey *survey,
                         const struct survey_timeline *timeline, struct error *err)
{
    size_t first = survey->window_count;
    struct wal_scan *scan;

    if (!wal_scan_open(repository, timeline->timeline, 1, &scan, err)) {
        if (err->code != ERROR_INTEGRITY)
            return false;
        error_clear(err);
        return true;
    }
    for (size_t i = 0; i < survey->catalog->count; i++) {
        const struct survey_backup *backup = &survey->backups[i];
        struct wal_scan_reach reach;

        if (!backup->wal_complete ||
            survey_target_timeline(survey, backup->info) != timeline->timeline)
            continue;
        wal_scan_reach(scan, backup->info->stop_lsn - 1, &reach);
        join_window(survey, backup->info, wal_scan_history(scan),
                    reach.missing * survey->wal.segment_size);
    }
    bool ok = true;
    for (size_t i = first; ok && i < survey->window_count; i++)
        ok = find_last_transaction(survey, scan, &survey->windows[i], err);
    wal_scan_close(scan);
    return ok;
}

static bool is_target(const struct survey *survey, uint32_t timeline)
{
    for (size_t i = 0; i < survey->catalog->count; i++)
        if (survey->backups[i].wal_complete &&
            survey_target_timeline(survey, survey->backups[i].info) == timeline)
            return true;
    return false;
}

static void take_backups(struct survey *survey, const struct marks *marks)
{
    const struct catalog *catalog = survey->catalog;

    survey->backups = mem_calloc(catalog->count, sizeof(*survey->backups));
    survey->windows = mem_calloc(catalog->count, sizeof(*survey->windows));
    for (size_t i = 0; i < catalog->count; i++) {
        survey->backups[i].info = catalog->backups[i];
        survey->backups[i].kept = marks_kept(marks, catalog->backups[i]->run);
        survey->backups[i].expiring = marks_expired(marks, catalog->backups[i]->run);
        check_backup(survey, &survey->backups[i]);
    }
    for (size_t i = 0; i < catalog->damaged_count; i++)
        survey_note_damage(survey, &catalog->damaged[i].error);
}

static bool read_all(struct repository *repository, struct survey *survey, struct error *err)
{
    struct marks *marks;

    if (!catalog_read(repository, &survey->catalog, err) ||
        !wal_archive_ranges(repository, 0, &survey->wal, err) ||
        !marks_read(repository, &marks, err))
        return false;
    take_backups(survey, marks);
    marks_free(marks);
    if (!survey_wal_read(repository, survey, err))
        return false;
    for (size_t i = 0; i < survey->timeline_count; i++) {
        const struct survey_timeline *timeline = &survey->timelines[i];

        if (is_target(survey, timeline->timeline) &&
            !find_windows(repository, survey, timeline, err))
            return false;
    }
    return true;
}

bool survey_read(struct repository *repository, struct survey **survey, struct error *err)
{
    struct survey *read = mem_calloc(1, sizeof(*read));

    read->system_identifier = repository->system_identifier;
    if (!read_all(repository, read, err)) {
        survey_free(read);
        return false;
    }
    *survey = read;
    return true;
}

void survey_free(struct survey *survey)
{
    if (!survey)
        return;
    for (size_t i = 0; i < survey->timeline_count; i++) {
        history_free(&survey->timelines[i].history);
        free(survey->timelines[i].gaps);
    }
    catalog_free(survey->catalog);
    wal_archive_free_ranges(&survey->wal);
    free(survey->timelines);
    free(survey->backups);
    free(survey->windows);
    free(survey->damage);
    free(survey);
}
