/* retention.c - what is to be kept */
#include "pgvigil/retention.h"

#include <stdlib.h>
#include <time.h>

#include "pgvigil/clock.h"
#include "pgvigil/mem.h"

#define DAY (24 * 60 * 60 * CLOCK_SECOND)

static bool is_sound(const struct retention_backup *backup)
{
    return backup->complete && !backup->damaged && backup->info->page_errors == 0;
}

/* Where nothing is sound, what there is has to do. */
static bool any_sound(const struct retention *retention)
{
    for (size_t i = 0; i < retention->count; i++)
        if (is_sound(&retention->backups[i]))
            return true;
    return false;
}

/* -- the window --------------------------------------------------------------------------------- */

static bool descends(const struct retention_timeline *timeline, const struct backup_info *info)
{
    if (!timeline->history)
        return info->timeline == timeline->timeline;
    return history_switch_lsn(timeline->history, info->timeline) >= info->stop_lsn;
}

/* The later of two moments, one of which may be unknown (0). */
static int64_t later(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t newest_backup(const struct retention *retention, uint32_t timeline)
{
    int64_t newest = 0;

    for (size_t i = 0; i < retention->count; i++)
        if (retention->backups[i].info->timeline == timeline)
            newest = later(newest, retention->backups[i].info->stop_time);
    return newest;
}

/*
 * Which timelines went through the window: those of which anything came within it. However long
 * nothing came at all, the highest one and those of the newest backup and WAL count as well; and those
 * below one whose history is not known, as it may have begun anywhere on them.
 */
static void find_living(struct retention *retention)
{
    int64_t begin = retention->now - retention->settings->window, backup = 0, wal = 0;
    bool obscure = false;

    for (size_t i = 0; i < retention->timeline_count; i++) {
        backup = later(backup, newest_backup(retention, retention->timelines[i].timeline));
        wal = later(wal, retention->timelines[i].newest_wal);
    }
    for (size_t i = retention->timeline_count; i-- > 0;) {
        struct retention_timeline *timeline = &retention->timelines[i];
        int64_t own = newest_backup(retention, timeline->timeline);

        timeline->lived = obscure || i + 1 == retention->timeline_count || own >= begin ||
                          timeline->newest_wal >= begin || (own != 0 && own == backup) ||
                          (timeline->newest_wal != 0 && timeline->newest_wal == wal);
        obscure = obscure || (!timeline->history && timeline->timeline > 1);
    }
}

/* Keeps what the moments of the window need that lie on one timeline and what came before it. */
static void keep_window(struct retention *retention, const struct retention_timeline *timeline)
{
    int64_t begin = retention->now - retention->settings->window, ended = INT64_MIN;
    size_t base = SIZE_MAX;

    for (size_t i = 0; i < retention->count; i++) {
        const struct retention_backup *backup = &retention->backups[i];

        if (!descends(timeline, backup->info))
            continue;
        ended = ended > backup->info->stop_time ? ended : backup->info->stop_time;
        if (ended <= begin &&
            (base == SIZE_MAX || is_sound(backup) || !is_sound(&retention->backups[base])))
            base = i;
    }
    for (size_t i = base == SIZE_MAX ? 0 : base; i < retention->count; i++)
        if (descends(timeline, retention->backups[i].info))
            retention->backups[i].reasons |= i == base ? RETENTION_BASE : RETENTION_WINDOW;
}

/* -- the rest ----------------------------------------------------------------------------------- */

static void keep_minimum(struct retention *retention, bool sound_only)
{
    int left = retention->settings->minimum;

    for (size_t i = retention->count; i-- > 0 && left > 0;) {
        if (sound_only && !is_sound(&retention->backups[i]))
            continue;
        retention->backups[i].reasons |= RETENTION_MINIMUM;
        left--;
    }
}

static int64_t day_of(int64_t moment)
{
    return moment / DAY - (moment % DAY < 0);
}

/* From Monday on: 1970-01-01 was a Thursday. */
static int64_t week_of(int64_t moment)
{
    int64_t day = day_of(moment) + 3;

    return day / 7 - (day % 7 < 0);
}

static struct tm calendar(int64_t moment)
{
    time_t seconds = (time_t)(moment / CLOCK_SECOND);
    struct tm parts = {.tm_mday = 1};

    gmtime_r(&seconds, &parts);
    return parts;
}

static int64_t month_of(int64_t moment)
{
    struct tm parts = calendar(moment);

    return (int64_t)parts.tm_year * 12 + parts.tm_mon;
}

static int64_t year_of(int64_t moment)
{
    return calendar(moment).tm_year;
}

struct dated {
    int64_t period;
    size_t backup;
};

/* Newest period first, and in it the backup that comes last. */
static int compare_dated(const void *a, const void *b)
{
    const struct dated *left = a, *right = b;

    if (left->period != right->period)
        return left->period > right->period ? -1 : 1;
    return (left->backup < right->backup) - (left->backup > right->backup);
}

/* The last backup of each of the last `most` periods that have one. */
static void keep_periods(struct retention *retention, bool sound_only, int most,
                         int64_t (*period_of)(int64_t), enum retention_reason reason)
{
    struct dated *dated = mem_calloc(retention->count + 1, sizeof(*dated));
    size_t count = 0;

    for (size_t i = 0; most > 0 && i < retention->count; i++)
        if (!sound_only || is_sound(&retention->backups[i]))
            dated[count++] = (struct dated){
                .period = period_of(retention->backups[i].info->stop_time), .backup = i};
    qsort(dated, count, sizeof(*dated), compare_dated);
    for (size_t i = 0; i < count && most > 0; i++) {
        if (i > 0 && dated[i].period == dated[i - 1].period)
            continue;
        retention->backups[dated[i].backup].reasons |= reason;
        most--;
    }
    free(dated);
}

void retention_judge(struct retention *retention)
{
    const struct config_retention *settings = retention->settings;
    bool sound_only = any_sound(retention);

    for (size_t i = 0; i < retention->count; i++)
        retention->backups[i].reasons = (retention->backups[i].kept ? RETENTION_KEPT : 0u) |
                                        (retention->backups[i].held ? RETENTION_HELD : 0u);
    find_living(retention);
    for (size_t i = 0; i < retention->timeline_count; i++)
        if (retention->timelines[i].lived)
            keep_window(retention, &retention->timelines[i]);
    keep_minimum(retention, sound_only);
    keep_periods(retention, sound_only, settings->daily, day_of, RETENTION_DAILY);
    keep_periods(retention, sound_only, settings->weekly, week_of, RETENTION_WEEKLY);
    keep_periods(retention, sound_only, settings->monthly, month_of, RETENTION_MONTHLY);
    keep_periods(retention, sound_only, settings->yearly, year_of, RETENTION_YEARLY);
}

static const struct retention_timeline *find_timeline(const struct retention *retention,
                                                      uint32_t timeline)
{
    for (size_t i = 0; i < retention->timeline_count; i++)
        if (retention->timelines[i].timeline == timeline)
            return &retention->timelines[i];
    return NULL;
}

/* May recovery from this backup come to the WAL of this timeline? */
static bool may_follow(const struct backup_info *info, const struct retention_timeline *timeline)
{
    if (!timeline->history && timeline->timeline > info->timeline)
        return true;
    return descends(timeline, info);
}

bool retention_needs_wal(const struct retention *retention, uint32_t timeline, uint64_t from,
                         uint64_t to)
{
    const struct retention_timeline *known = find_timeline(retention, timeline);

    if (!known)
        return true; /* nobody has judged it */
    for (size_t i = 0; i < retention->count; i++) {
        const struct retention_backup *backup = &retention->backups[i];
        const struct backup_info *info = backup->info;

        if ((backup->reasons == 0 && !backup->lingers) || to <= info->start_lsn)
            continue;
        if (info->timeline == timeline && from < info->stop_lsn)
            return true;
        if ((backup->reasons & RETENTION_ONWARD) != 0 && may_follow(info, known))
            return true;
    }
    return false;
}
