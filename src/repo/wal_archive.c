/* wal_archive.c - the WAL of a cluster in a repository */
#include "pgvigil/wal_archive.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/layout.h"
#include "pgvigil/mem.h"
#include "pgvigil/object.h"
#include "repo/wal_push.h"
#include "repo/wal_source.h"

#define SEGMENT_LENGTH 24  /* digits of a segment's name */
#define DAMAGED_MAXIMUM 16 /* segments of a timeline that are asked for their size in vain */

static uint64_t archive_maximum(enum wal_file_kind kind)
{
    switch (kind) {
    case WAL_BACKUP_HISTORY:
        return WAL_SOURCE_BACKUP_HISTORY_MAXIMUM;
    case WAL_HISTORY:
        return WAL_SOURCE_HISTORY_MAXIMUM;
    case WAL_SEGMENT:
    case WAL_PARTIAL:
    case WAL_NOT_A_WAL_FILE:
        break;
    }
    return WAL_SEGMENT_SIZE_MAXIMUM;
}

bool wal_archive_store(struct repository_set *set, const struct wal_source *source, int level,
                       enum wal_outcome *outcome, char object[LAYOUT_NAME_SIZE], struct error *err)
{
    return wal_push(set, source, level, outcome, object, err);
}

/* A WAL file on its way back; its first page is kept to be checked when the rest is proven. */
struct archive_fetch {
    store_sink sink;
    void *context;
    size_t length; /* of page */
    unsigned char page[WAL_PAGE_SIZE];
};

static bool archive_pass_on(const void *data, size_t length, void *context, struct error *err)
{
    struct archive_fetch *fetch = context;
    size_t room = sizeof(fetch->page) - fetch->length;
    size_t kept = length < room ? length : room;

    memcpy(fetch->page + fetch->length, data, kept);
    fetch->length += kept;
    return fetch->sink(data, length, fetch->context, err);
}

static bool archive_check_fetched(const struct repository *repository, const struct wal_name *name,
                                  const char *object, const struct archive_fetch *fetch,
                                  uint64_t length, struct error *err)
{
    if (name->kind != WAL_SEGMENT && name->kind != WAL_PARTIAL)
        return true;
    if (fetch->length < sizeof(fetch->page))
        error_set(err, ERROR_INTEGRITY, "it has only %" PRIu64 " bytes", length);
    else if (wal_check_segment(name, length, fetch->page, repository->system_identifier, err))
        return true;
    return error_context(err, "object \"%s\" in repository \"%s\" does not hold that WAL segment",
                         object, repository->name);
}

/* All objects of one partial segment. */
struct archive_partials {
    const char *file;
    char object[LAYOUT_NAME_SIZE];
    size_t count;
    struct buffer listed;
};

static bool archive_collect_partial(const char *name, const struct store_info *info, void *context,
                                    struct error *err)
{
    struct archive_partials *partials = context;
    char file[WAL_NAME_SIZE];
    struct wal_name parsed;

    (void)info;
    (void)err;
    if (!layout_parse_wal(name, file, &parsed) || strcmp(file, partials->file) != 0)
        return true;
    if (partials->count++ > 0)
        buffer_append_string(&partials->listed, ", ");
    buffer_append_string(&partials->listed, name);
    snprintf(partials->object, sizeof(partials->object), "%s", name);
    return true;
}

/* The digest in its name is not known to whoever asks for it. */
static bool archive_find_partial(struct repository *repository, const char *file,
                                 char object[LAYOUT_NAME_SIZE], struct error *err)
{
    const unsigned char none[DIGEST_SHA256_SIZE] = {0};
    struct archive_partials partials = {.file = file};
    char segment[SEGMENT_LENGTH + 1], *end;

    snprintf(segment, sizeof(segment), "%.*s", SEGMENT_LENGTH, file);
    layout_wal_partial(segment, none, object);
    end = strstr(object, ".partial.");
    end[strlen(".partial.")] = '\0';

    bool ok = repository_list(repository, object, NULL, archive_collect_partial, &partials, err);
    if (ok && partials.count == 0)
        ok = error_set(err, ERROR_NOT_FOUND, "there is no \"%s\" in repository \"%s\"", file,
                       repository->name);
    if (ok && partials.count > 1) {
        ok = error_set(err, ERROR_USAGE, "there are %zu different \"%s\" in repository \"%s\"",
                       partials.count, file, repository->name);
        error_detail(err, "%s", buffer_text(&partials.listed));
        error_hint(err, "take the one you want with zstd -d");
    }
    if (ok)
        memcpy(object, partials.object, LAYOUT_NAME_SIZE);
    buffer_free(&partials.listed);
    return ok;
}

bool wal_archive_fetch(struct repository *repository, const struct wal_name *name, const char *file,
                       store_sink sink, void *context, uint64_t *length, struct error *err)
{
    struct archive_fetch fetch = {.sink = sink, .context = context};
    char object[LAYOUT_NAME_SIZE];
    struct trailer trailer;

    if (name->kind == WAL_PARTIAL) {
        if (!archive_find_partial(repository, file, object, err))
            return false;
    } else {
        layout_wal_file(name, file, NULL, object);
    }
    if (!object_get(repository, object, wal_source_kind(name->kind), OBJECT_ZSTD,
                    archive_maximum(name->kind), archive_pass_on, &fetch, &trailer, err) ||
        !archive_check_fetched(repository, name, object, &fetch, trailer.raw_length, err))
        return false;
    if (length)
        *length = trailer.raw_length;
    return true;
}

bool wal_archive_exists(struct repository *repository, const char *segment, bool *exists,
                        struct error *err)
{
    char object[LAYOUT_NAME_SIZE];
    struct store_info info;
    char *full = repository_object_name(repository, layout_wal_segment(segment, object));

    *exists = store_stat(repository->store, full, &info, err);
    free(full);
    if (*exists)
        return true;
    if (err->code != ERROR_NOT_FOUND)
        return false;
    error_clear(err);
    return true;
}

bool wal_archive_history(struct repository *repository, uint32_t timeline, struct history *history,
                         bool *known, struct error *err)
{
    char object[LAYOUT_NAME_SIZE];
    struct buffer text = BUFFER_INIT;
    bool ok = true;

    *known = timeline > 1 &&
             object_get_buffer(repository, layout_wal_history(timeline, object), TRAILER_HISTORY,
                               OBJECT_ZSTD, WAL_SOURCE_HISTORY_MAXIMUM, &text, NULL, err);
    if (timeline > 1 && !*known) {
        ok = err->code == ERROR_NOT_FOUND;
        if (ok)
            error_clear(err);
    }
    if (ok && !history_parse(timeline, (const char *)text.data, text.length, history, err))
        ok = error_context(err, "object \"%s\" in repository \"%s\"", object, repository->name);
    buffer_free(&text);
    return ok;
}

/* Is this the object of a whole segment? */
static bool archive_parse_segment(const char *object, struct wal_name *name)
{
    char file[WAL_NAME_SIZE];

    return layout_parse_wal(object, file, name) && name->kind == WAL_SEGMENT;
}

/* The first whole segment that a listing meets; the error it stops the listing with stays here. */
struct archive_search {
    char object[LAYOUT_NAME_SIZE];
    bool found;
};

static bool archive_take_segment(const char *name, const struct store_info *info, void *context,
                                 struct error *err)
{
    struct archive_search *search = context;
    struct wal_name parsed;

    (void)info;
    if (!archive_parse_segment(name, &parsed))
        return true;
    snprintf(search->object, sizeof(search->object), "%s", name);
    search->found = true;
    return error_set(err, ERROR_CANCELLED, "a segment was found");
}

static bool archive_first_segment(struct repository *repository, uint32_t timeline,
                                  const char *after, struct archive_search *search,
                                  struct error *err)
{
    char prefix[LAYOUT_NAME_SIZE];

    search->found = false;
    if (repository_list(repository, layout_wal_timeline(timeline, prefix), after,
                        archive_take_segment, search, err))
        return true;
    if (search->found)
        error_clear(err);
    return search->found;
}

bool wal_archive_has_later(struct repository *repository, uint32_t timeline, const char *segment,
                           bool *has, struct error *err)
{
    char after[LAYOUT_NAME_SIZE];
    struct archive_search search;

    if (!archive_first_segment(repository, timeline,
                               segment ? layout_wal_segment(segment, after) : NULL, &search, err))
        return false;
    *has = search.found;
    return true;
}

/* From one timeline's folder to the next without looking at what is in it: '0' is the character
 * behind '/'. */
bool wal_archive_timelines(struct repository *repository, uint32_t **timelines, size_t *count,
                           struct error *err)
{
    char name[STORE_NAME_MAXIMUM + 1], after[STORE_NAME_MAXIMUM + 1] = LAYOUT_WAL_PREFIX;
    char file[WAL_NAME_SIZE];
    struct wal_name parsed;
    size_t capacity = 0;
    bool found, ok;

    *timelines = NULL;
    *count = 0;
    while ((ok = repository_first(repository, LAYOUT_WAL_PREFIX, after, name, &found, err)) &&
           found) {
        if (!layout_parse_wal(name, file, &parsed)) {
            memcpy(after, name, sizeof(after));
            continue;
        }
        *timelines = mem_grow(*timelines, *count, &capacity, sizeof(**timelines));
        (*timelines)[(*count)++] = parsed.timeline;
        layout_wal_timeline(parsed.timeline, after);
        after[strlen(after) - 1] = '0';
    }
    if (!ok) {
        free(*timelines);
        *timelines = NULL;
        *count = 0;
    }
    return ok;
}

/* Builds the ranges of one timeline after the other. */
struct archive_ranging {
    struct wal_ranges *ranges;
    size_t capacity;
};

static bool archive_add_segment(const char *object, const struct store_info *info, void *context,
                                struct error *err)
{
    struct archive_ranging *ranging = context;
    struct wal_ranges *ranges = ranging->ranges;
    struct wal_range *last = ranges->count > 0 ? &ranges->ranges[ranges->count - 1] : NULL;
    char file[WAL_NAME_SIZE], again[WAL_NAME_SIZE];
    struct wal_name name;

    (void)err;
    if (!layout_parse_wal(object, file, &name) || name.kind != WAL_SEGMENT)
        return true;
    /* A name that segments of this size do not have would stand for another one's number. */
    uint64_t number = wal_segment_number(&name, ranges->segment_size);
    if (strcmp(wal_segment_name(name.timeline, number, ranges->segment_size, again), file) != 0)
        return true;
    if (!last || last->timeline != name.timeline || last->last + 1 != number) {
        ranges->ranges =
            mem_grow(ranges->ranges, ranges->count, &ranging->capacity, sizeof(*ranges->ranges));
        last = &ranges->ranges[ranges->count++];
        *last = (struct wal_range){.timeline = name.timeline, .first = number};
    }
    last->last = number;
    last->stored_bytes += info->size;
    if (info->modified > last->newest)
        last->newest = info->modified;
    return true;
}

/* The size of a segment, as its trailer says. */
static bool archive_size_of(struct repository *repository, const char *object, uint32_t *size,
                            struct error *err)
{
    struct trailer trailer;

    if (!object_trailer(repository, object, TRAILER_WAL, &trailer, err))
        return false;
    if (!wal_segment_size_valid(trailer.raw_length))
        return error_set(err, ERROR_INTEGRITY,
                         "object \"%s\" in repository \"%s\" holds %" PRIu64
                         " bytes, which is no size of a segment",
                         object, repository->name, trailer.raw_length);
    *size = (uint32_t)trailer.raw_length;
    return true;
}

/* The size of a timeline's segments, from the first one whose trailer is sound: a damaged segment
 * says nothing of the others. 0 if the timeline has none. */
static bool archive_segment_size(struct repository *repository, uint32_t timeline, uint32_t *size,
                                 struct error *err)
{
    struct archive_search search = {.found = false};
    char after[LAYOUT_NAME_SIZE] = "";
    struct error first;

    *size = 0;
    for (int damaged = 0;; damaged++) {
        if (!archive_first_segment(repository, timeline, damaged ? after : NULL, &search, err))
            return false;
        if (!search.found || damaged == DAMAGED_MAXIMUM) {
            if (damaged > 0)
                *err = first;
            return damaged == 0;
        }
        if (archive_size_of(repository, search.object, size, err))
            return true;
        if (err->code != ERROR_INTEGRITY)
            return false;
        if (damaged == 0)
            first = *err;
        error_clear(err);
        memcpy(after, search.object, sizeof(after));
    }
}

static bool archive_range_timeline(struct repository *repository, uint32_t timeline,
                                   struct archive_ranging *ranging, struct error *err)
{
    struct wal_ranges *ranges = ranging->ranges;
    char prefix[LAYOUT_NAME_SIZE];
    uint32_t size;

    if (!archive_segment_size(repository, timeline, &size, err))
        return false;
    if (size == 0)
        return true;
    if (ranges->segment_size != 0 && ranges->segment_size != size)
        return error_set(err, ERROR_INTEGRITY,
                         "timeline %" PRIu32 " in repository \"%s\" has WAL segments of %" PRIu32
                         " bytes, earlier ones have %" PRIu32,
                         timeline, repository->name, size, ranges->segment_size);
    ranges->segment_size = size;
    return repository_list(repository, layout_wal_timeline(timeline, prefix), NULL,
                           archive_add_segment, ranging, err);
}

bool wal_archive_ranges(struct repository *repository, uint32_t timeline, struct wal_ranges *ranges,
                        struct error *err)
{
    struct archive_ranging ranging = {.ranges = ranges};
    uint32_t *timelines = NULL;
    size_t count = 0;
    bool ok = true;

    *ranges = (struct wal_ranges){.segment_size = 0};
    if (timeline != 0)
        ok = archive_range_timeline(repository, timeline, &ranging, err);
    else
        ok = wal_archive_timelines(repository, &timelines, &count, err);
    for (size_t i = 0; ok && i < count; i++)
        ok = archive_range_timeline(repository, timelines[i], &ranging, err);
    free(timelines);
    if (!ok)
        wal_archive_free_ranges(ranges);
    return ok;
}

void wal_archive_free_ranges(struct wal_ranges *ranges)
{
    if (!ranges)
        return;
    free(ranges->ranges);
    *ranges = (struct wal_ranges){.segment_size = 0};
}

bool wal_archive_in_ranges(const struct wal_ranges *ranges, uint32_t timeline, uint64_t number)
{
    for (size_t i = 0; i < ranges->count; i++) {
        const struct wal_range *range = &ranges->ranges[i];

        if (range->timeline == timeline && range->first <= number && number <= range->last)
            return true;
    }
    return false;
}

static bool archive_is_before(const struct wal_segment *segment, const struct wal_range *range)
{
    return segment->timeline != range->timeline ? segment->timeline < range->timeline
                                                : segment->number < range->first;
}

void wal_archive_leave_out(struct wal_ranges *ranges, const struct wal_segment *segments,
                           size_t count)
{
    struct wal_range *left = mem_calloc(ranges->count + count, sizeof(*left));
    size_t kept = 0, next = 0;

    for (size_t i = 0; i < ranges->count; i++) {
        struct wal_range range = ranges->ranges[i];

        while (next < count && archive_is_before(&segments[next], &range))
            next++;
        for (; next < count && segments[next].timeline == range.timeline &&
               segments[next].number <= range.last;
             next++) {
            if (segments[next].number > range.first) {
                left[kept] = range;
                left[kept++].last = segments[next].number - 1;
            }
            range.first = segments[next].number + 1;
        }
        if (range.first <= range.last)
            left[kept++] = range;
    }
    free(ranges->ranges);
    ranges->ranges = left;
    ranges->count = kept;
}

/* Walks over consecutive segments until one is missing or all were met. */
struct archive_walk {
    uint32_t segment_size;
    uint64_t next; /* the one to be met next */
    uint64_t last;
    bool stopped; /* the listing needs to go no further; its error stays here */
};

static bool archive_step(const char *object, const struct store_info *info, void *context,
                         struct error *err)
{
    struct archive_walk *walk = context;
    char file[WAL_NAME_SIZE], expected[WAL_NAME_SIZE];
    struct wal_name name;

    (void)info;
    if (!layout_parse_wal(object, file, &name) || name.kind != WAL_SEGMENT)
        return true;
    wal_segment_name(name.timeline, walk->next, walk->segment_size, expected);
    int order = strcmp(file, expected);
    if (order < 0)
        return true;
    if (order == 0)
        walk->next++;
    walk->stopped = order > 0 || walk->next > walk->last;
    return walk->stopped ? error_set(err, ERROR_CANCELLED, "the walk has ended") : true;
}

bool wal_archive_complete(struct repository *repository, uint32_t timeline, uint64_t first,
                          uint64_t last, uint32_t segment_size, bool *complete, uint64_t *missing,
                          struct error *err)
{
    struct archive_walk walk = {.segment_size = segment_size, .next = first, .last = last};
    char prefix[LAYOUT_NAME_SIZE], after[LAYOUT_NAME_SIZE], segment[WAL_NAME_SIZE];

    layout_wal_timeline(timeline, prefix);
    if (first > 0)
        layout_wal_segment(wal_segment_name(timeline, first - 1, segment_size, segment), after);
    if (first <= last &&
        !repository_list(repository, prefix, first > 0 ? after : NULL, archive_step, &walk, err)) {
        if (!walk.stopped)
            return false;
        error_clear(err);
    }
    *complete = walk.next > last;
    *missing = walk.next;
    return true;
}
