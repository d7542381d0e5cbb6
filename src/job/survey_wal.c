/* survey_wal.c - the WAL's part of a survey: timelines and gaps */
#include "job/survey_wal.h"

#include <inttypes.h>
#include <stdlib.h>

#include "pgvigil/mem.h"

/* A timeline above another one began with a promotion, which archives its history file. */
static void note_missing_history(const struct repository *repository, struct survey *survey,
                                 const struct survey_timeline *timeline)
{
    char file[WAL_NAME_SIZE];
    struct error missing;

    if (survey->timeline_count < 2 || timeline->range_count == 0)
        return;
    error_set(&missing, ERROR_INTEGRITY,
              "\"%s\" is missing in repository \"%s\", although WAL of timeline %" PRIu32
              " is there: backups of earlier timelines cannot be restored along it",
              wal_history_name(timeline->timeline, file), repository->name, timeline->timeline);
    survey_note_damage(survey, &missing);
}

/* A history that is damaged counts as none: the timeline's own WAL is still to be seen. */
static bool read_history(struct repository *repository, struct survey *survey,
                         struct survey_timeline *timeline, struct error *err)
{
    bool known;

    if (wal_archive_history(repository, timeline->timeline, &timeline->history, &known, err)) {
        if (!known)
            note_missing_history(repository, survey, timeline);
        return true;
    }
    if (err->code != ERROR_INTEGRITY)
        return false;
    survey_note_damage(survey, err);
    error_clear(err);
    timeline->history.timeline = timeline->timeline;
    timeline->history.entries = mem_calloc(1, sizeof(*timeline->history.entries));
    timeline->history.entries[0].timeline = timeline->timeline;
    timeline->history.entries[0].switch_lsn = UINT64_MAX;
    timeline->history.count = 1;
    return true;
}

/* The lowest start of all backups; UINT64_MAX without any, as then no WAL is of use. */
static uint64_t first_start(const struct catalog *catalog)
{
    uint64_t first = UINT64_MAX;

    for (size_t i = 0; i < catalog->count; i++)
        if (catalog->backups[i]->start_lsn < first)
            first = catalog->backups[i]->start_lsn;
    return first;
}

static uint64_t count_before(const struct wal_range *range, uint64_t segment)
{
    if (segment <= range->first)
        return 0;
    return (segment > range->last ? range->last + 1 : segment) - range->first;
}

static void take_ranges(struct survey_timeline *timeline, const struct survey *survey)
{
    const struct wal_ranges *wal = &survey->wal;
    uint64_t needed = wal->segment_size ? first_start(survey->catalog) / wal->segment_size : 0;

    for (size_t i = 0; i < wal->count; i++) {
        const struct wal_range *range = &wal->ranges[i];

        if (range->timeline != timeline->timeline)
            continue;
        if (timeline->range_count++ == 0)
            timeline->ranges = range;
        timeline->segments += range->last - range->first + 1;
        timeline->stored_bytes += range->stored_bytes;
        timeline->before_backups += count_before(range, needed);
    }
}

static const struct survey_timeline *find_timeline(const struct survey *survey, uint32_t number)
{
    for (size_t i = 0; i < survey->timeline_count; i++)
        if (survey->timelines[i].timeline == number)
            return &survey->timelines[i];
    return NULL;
}

static bool has_segment(const struct survey_timeline *timeline, uint64_t segment)
{
    for (size_t i = 0; i < timeline->range_count; i++)
        if (timeline->ranges[i].first <= segment && segment <= timeline->ranges[i].last)
            return true;
    return false;
}

/* A timeline's WAL begins with the segment in which it leaves its parent. What comes before may have
 * been deleted for its age; but not as long as the parent's last segment is there. */
static uint64_t expected_first(const struct survey *survey, const struct survey_timeline *timeline)
{
    const struct history_entry *left = history_parent(&timeline->history);
    const struct survey_timeline *parent = left ? find_timeline(survey, left->timeline) : NULL;
    uint64_t first = timeline->ranges[0].first;
    uint64_t join = left ? left->switch_lsn / survey->wal.segment_size : 0;

    if (!parent || join == 0 || join >= first)
        return first;
    return has_segment(parent, join - 1) || has_segment(parent, join) ? join : first;
}

/* And ends, at least, before the segment in which the last of its children leaves it. */
static uint64_t expected_last(const struct survey *survey, const struct survey_timeline *timeline)
{
    uint64_t last = timeline->ranges[timeline->range_count - 1].last;

    for (size_t i = 0; i < survey->timeline_count; i++) {
        const struct survey_timeline *child = &survey->timelines[i];
        const struct history_entry *left = history_parent(&child->history);

        if (!left || left->timeline != timeline->timeline)
            continue;
        uint64_t join = left->switch_lsn / survey->wal.segment_size;
        if (join > 0 && join - 1 > last)
            last = join - 1;
    }
    return last;
}

static void find_gaps(const struct survey *survey, struct survey_timeline *timeline)
{
    if (timeline->range_count == 0)
        return;
    uint64_t next = expected_first(survey, timeline);
    uint64_t last = expected_last(survey, timeline);

    timeline->gaps = mem_calloc(timeline->range_count + 1, sizeof(*timeline->gaps));
    for (size_t i = 0; i < timeline->range_count; i++) {
        const struct wal_range *range = &timeline->ranges[i];

        if (range->first > next)
            timeline->gaps[timeline->gap_count++] =
                (struct survey_gap){.first = next, .last = range->first - 1};
        next = range->last + 1;
    }
    if (next <= last)
        timeline->gaps[timeline->gap_count++] = (struct survey_gap){.first = next, .last = last};
}

bool survey_wal_read(struct repository *repository, struct survey *survey, struct error *err)
{
    uint32_t *numbers;
    size_t count;
    bool ok = true;

    if (!wal_archive_timelines(repository, &numbers, &count, err))
        return false;
    survey->timelines = mem_calloc(count, sizeof(*survey->timelines));
    for (size_t i = 0; ok && i < count; i++) {
        struct survey_timeline *timeline = &survey->timelines[survey->timeline_count++];

        timeline->timeline = numbers[i];
        take_ranges(timeline, survey);
        ok = read_history(repository, survey, timeline, err);
    }
    free(numbers);
    for (size_t i = 0; ok && i < survey->timeline_count; i++)
        find_gaps(survey, &survey->timelines[i]);
    return ok;
}
