/* list_json.c - list for programs; the form is described in docs/FORMAT.md */
#include <inttypes.h>
#include <stdio.h>

#include "cmd/list.h"
#include "pgvigil/clock.h"
#include "pgvigil/json_out.h"
#include "pgvigil/layout.h"

#define FORMAT 1

static json_t *count(uint64_t number)
{
    return json_integer((json_int_t)number);
}

static json_t *run_of(const struct backup_info *info)
{
    char text[CLOCK_COMPACT_SIZE];

    return json_out_text(layout_run_text(info->run, text));
}

static json_t *moment_of(int64_t moment)
{
    char text[CLOCK_TEXT_SIZE];

    return json_out_text(clock_format(moment, text));
}

static json_t *lsn_of(uint64_t lsn)
{
    char text[WAL_LSN_TEXT_SIZE];

    return json_out_text(wal_format_lsn(lsn, text));
}

static json_t *segment_of(uint32_t timeline, uint64_t number, uint32_t segment_size)
{
    char text[WAL_NAME_SIZE];

    return json_out_text(wal_segment_name(timeline, number, segment_size, text));
}

static json_t *make_backup(const struct survey_backup *backup, const struct known_damage *known)
{
    const bool verified = cmd_list_is_verified(known, backup->info);
    const struct backup_info *info = backup->info;
    json_t *object = json_out_object();

    json_out_put(object, "id", run_of(info));
    json_out_put(object, "version_num", json_integer(info->version_num));
    json_out_put(object, "timeline", json_integer(info->timeline));
    json_out_put(object, "start_lsn", lsn_of(info->start_lsn));
    json_out_put(object, "stop_lsn", lsn_of(info->stop_lsn));
    json_out_put(object, "start_time", moment_of(info->start_time));
    json_out_put(object, "stop_time", moment_of(info->stop_time));
    json_out_put(object, "host", json_out_text(info->host));
    json_out_put(object, "data_directory", json_out_text(info->data_directory));
    json_out_put(object, "data_checksums", json_boolean(info->data_checksums));
    json_out_put(object, "file_count", count(info->file_count));
    json_out_put(object, "database_bytes", count(info->database_bytes));
    json_out_put(object, "stored_bytes", count(info->stored_bytes));
    json_out_put(object, "pack_bytes", count(info->pack_bytes));
    json_out_put(object, "page_errors", count(info->page_errors));
    json_out_put(object, "kept", json_boolean(backup->kept));
    json_out_put(object, "expiring", json_boolean(backup->expiring));
    json_out_put(object, "wal_complete", json_boolean(backup->wal_complete));
    json_out_put(object, "first_missing_segment",
                 backup->wal_complete
                     ? json_null()
                     : segment_of(info->timeline, backup->missing, info->wal_segment_size));
    json_out_put(object, "verified", verified ? moment_of(known->looked) : json_null());
    json_out_put(object, "damaged_objects",
                 verified ? count(known_damage_of(known, info->run)) : json_null());
    return object;
}

static json_t *make_stretch(const struct survey *survey, uint32_t timeline, uint64_t first,
                            uint64_t last)
{
    json_t *object = json_out_object();

    json_out_put(object, "first", segment_of(timeline, first, survey->wal.segment_size));
    json_out_put(object, "last", segment_of(timeline, last, survey->wal.segment_size));
    json_out_put(object, "segments", count(last - first + 1));
    return object;
}

static json_t *make_timeline(const struct survey *survey, const struct survey_timeline *timeline)
{
    const struct history_entry *parent = history_parent(&timeline->history);
    json_t *object = json_out_object(), *ranges = json_out_array(), *gaps = json_out_array();

    for (size_t i = 0; i < timeline->range_count; i++) {
        const struct wal_range *range = &timeline->ranges[i];
        json_t *stretch = make_stretch(survey, range->timeline, range->first, range->last);

        json_out_put(stretch, "stored_bytes", count(range->stored_bytes));
        json_out_add(ranges, stretch);
    }
    for (size_t i = 0; i < timeline->gap_count; i++)
        json_out_add(gaps, make_stretch(survey, timeline->timeline, timeline->gaps[i].first,
                                        timeline->gaps[i].last));
    json_out_put(object, "timeline", json_integer(timeline->timeline));
    json_out_put(object, "parent", parent ? json_integer(parent->timeline) : json_null());
    json_out_put(object, "parent_left_at", parent ? lsn_of(parent->switch_lsn) : json_null());
    json_out_put(object, "segments", count(timeline->segments));
    json_out_put(object, "stored_bytes", count(timeline->stored_bytes));
    json_out_put(object, "segments_before_backups", count(timeline->before_backups));
    json_out_put(object, "ranges", ranges);
    json_out_put(object, "gaps", gaps);
    return object;
}

static json_t *make_wal(const struct survey *survey)
{
    json_t *object = json_out_object(), *timelines = json_out_array();

    for (size_t i = 0; i < survey->timeline_count; i++)
        json_out_add(timelines, make_timeline(survey, &survey->timelines[i]));
    json_out_put(object, "segment_size",
                 survey->wal.segment_size ? json_integer(survey->wal.segment_size) : json_null());
    json_out_put(object, "timelines", timelines);
    return object;
}

static json_t *make_window(const struct survey_window *window)
{
    json_t *object = json_out_object();

    json_out_put(object, "from", moment_of(window->oldest->stop_time));
    json_out_put(object, "from_lsn", lsn_of(window->oldest->stop_lsn));
    json_out_put(object, "oldest_backup", run_of(window->oldest));
    json_out_put(object, "newest_backup", run_of(window->newest));
    json_out_put(object, "timeline", json_integer(window->timeline));
    json_out_put(object, "to_lsn", lsn_of(window->end_lsn));
    json_out_put(object, "to_timeline", json_integer(window->end_timeline));
    json_out_put(object, "last_transaction",
                 window->any_transaction ? moment_of(window->last_transaction) : json_null());
    return object;
}

static json_t *make_cluster(const struct survey *survey, const struct known_damage *known)
{
    json_t *object = json_out_object(), *backups = json_out_array(), *windows = json_out_array();
    json_t *damage = json_out_array();
    char identifier[24];

    snprintf(identifier, sizeof(identifier), "%" PRIu64, survey->system_identifier);
    for (size_t i = 0; i < survey->catalog->count; i++)
        json_out_add(backups, make_backup(&survey->backups[i], known));
    for (size_t i = 0; i < survey->window_count; i++)
        json_out_add(windows, make_window(&survey->windows[i]));
    for (size_t i = 0; i < survey->damage_count; i++)
        json_out_add(damage, json_out_text(survey->damage[i].message));
    json_out_put(object, "system_identifier", json_out_text(identifier));
    json_out_put(object, "backups", backups);
    json_out_put(object, "wal", make_wal(survey));
    json_out_put(object, "restorable", windows);
    json_out_put(object, "damage", damage);
    return object;
}

static json_t *make_lag(const struct lag *lag)
{
    json_t *object = json_out_object();

    json_out_put(object, "ahead", lag->ahead ? json_out_text(lag->ahead) : json_null());
    json_out_put(object, "objects", count(lag->objects));
    json_out_put(object, "bytes", count(lag->bytes));
    json_out_put(object, "backups", count(lag->backups));
    json_out_put(object, "wal_files", count(lag->wal_files));
    json_out_put(object, "seconds",
                 lag->time < 0 ? json_null() : json_integer(lag->time / CLOCK_SECOND));
    return object;
}

static json_t *make_repository(const struct list_repository *entry)
{
    json_t *object = json_out_object(), *clusters = json_out_array();
    bool failed = entry->error.code != ERROR_NONE;

    for (size_t i = 0; i < entry->count; i++)
        json_out_add(clusters, make_cluster(entry->surveys[i], &entry->known[i]));
    json_out_put(object, "name", json_out_text(entry->config->name));
    json_out_put(object, "url", json_out_text(entry->config->url));
    json_out_put(object, "id", entry->id[0] ? json_out_text(entry->id) : json_null());
    json_out_put(object, "owed_wal_files", json_integer((json_int_t)entry->owed));
    json_out_put(object, "behind", entry->compared ? make_lag(&entry->lag) : json_null());
    json_out_put(object, "error", failed ? json_out_text(entry->error.message) : json_null());
    json_out_put(object, "clusters", clusters);
    return object;
}

void cmd_list_json(const struct list *list, struct buffer *out)
{
    json_t *object = json_out_object(), *repositories = json_out_array();

    for (size_t i = 0; i < list->count; i++)
        json_out_add(repositories, make_repository(&list->repositories[i]));
    json_out_put(object, "format", json_integer(FORMAT));
    json_out_put(object, "cluster", json_out_text(list->config->cluster_name));
    json_out_put(object, "repositories", repositories);
    json_out_write(object, out);
    json_decref(object);
}
