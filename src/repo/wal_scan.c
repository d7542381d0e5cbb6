/*
 * wal_scan.c - searching the archived WAL, a few segments at a time
 */
#include "pgvigil/wal_scan.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/layout.h"
#include "pgvigil/mem.h"
#include "pgvigil/repository_ask.h"
#include "pgvigil/wal_agreement.h"
#include "pgvigil/wal_union.h"
#include "pgvigil/workers.h"

#define BATCH_MAXIMUM 64

/* Consecutive segments that are in the archive and on the path. */
struct part {
    uint32_t timeline;
    uint64_t first, last;
};

struct wal_scan {
    struct repository *repository;
    int jobs;
    struct history history;
    bool history_known;
    struct wal_union wal;
    struct part *parts; /* ascending, without overlaps */
    size_t part_count;
    size_t part_capacity;
};

static uint64_t segment_of(const struct wal_scan *scan, uint64_t lsn)
{
    return lsn / scan->wal.ranges.segment_size;
}

/* The first segment that recovery takes from the history's entry `i`. */
static uint64_t entry_begin(const struct wal_scan *scan, size_t i)
{
    return i == 0 ? 0 : segment_of(scan, scan->history.entries[i - 1].switch_lsn);
}

/* And the first one that it takes from the next entry. */
static uint64_t entry_end(const struct wal_scan *scan, size_t i)
{
    return i + 1 < scan->history.count ? entry_begin(scan, i + 1) : UINT64_MAX;
}

static uint32_t timeline_of(const struct wal_scan *scan, uint64_t segment)
{
    size_t i = scan->history.count - 1;

    while (i > 0 && entry_begin(scan, i) > segment)
        i--;
    return scan->history.entries[i].timeline;
}

static void find_parts(struct wal_scan *scan)
{
    for (size_t i = 0; i < scan->history.count; i++) {
        const uint64_t begin = entry_begin(scan, i), end = entry_end(scan, i);

        for (size_t j = 0; j < scan->wal.ranges.count; j++) {
            const struct wal_range *range = &scan->wal.ranges.ranges[j];
            struct part part = {.timeline = range->timeline};

            if (range->timeline != scan->history.entries[i].timeline || range->last < begin ||
                range->first >= end)
                continue;
            part.first = range->first > begin ? range->first : begin;
            part.last = range->last < end ? range->last : end - 1;
            scan->parts =
                mem_grow(scan->parts, scan->part_count, &scan->part_capacity, sizeof *scan->parts);
            scan->parts[scan->part_count++] = part;
        }
    }
}

bool wal_scan_open(struct repository *repository, uint32_t timeline, int jobs,
                   struct wal_scan **scan, struct error *err)
{
    struct wal_scan *made = mem_calloc(1, sizeof *made);

    made->repository = repository;
    made->jobs = jobs < 1 ? 1 : jobs > BATCH_MAXIMUM ? BATCH_MAXIMUM : jobs;
    if (!wal_union_history(repository, timeline, &made->history, &made->history_known, err) ||
        !wal_union_list(repository, &made->wal, err)) {
        wal_scan_close(made);
        return false;
    }
    if (made->wal.ranges.segment_size != 0)
        find_parts(made);
    *scan = made;
    return true;
}

void wal_scan_close(struct wal_scan *scan)
{
    if (scan == NULL)
        return;
    history_free(&scan->history);
    wal_union_free(&scan->wal);
    free(scan->parts);
    free(scan);
}

void wal_scan_leave_out(struct wal_scan *scan, const struct wal_segment *segments, size_t count)
{
    wal_archive_leave_out(&scan->wal.ranges, segments, count);
    scan->part_count = 0;
    if (scan->wal.ranges.segment_size != 0)
        find_parts(scan);
}

bool wal_scan_check_agreement(const struct wal_scan *scan, uint64_t from_lsn, uint64_t to_lsn,
                              struct error *err)
{
    return wal_agreement_check(&scan->wal, &scan->history, from_lsn, to_lsn, err);
}

const struct history *wal_scan_history(const struct wal_scan *scan)
{
    return &scan->history;
}

bool wal_scan_history_known(const struct wal_scan *scan)
{
    return scan->history_known;
}

uint32_t wal_scan_segment_size(const struct wal_scan *scan)
{
    return scan->wal.ranges.segment_size;
}

/*
 * An ancestor that has segment `missing`, where recovery would fall back to it unnoticed: only where
 * it has not read anything of the newer timeline yet. Later on, it takes pages of an older timeline
 * for the end of the WAL (xlogreader.c, "out-of-sequence timeline ID").
 */
static uint32_t stale_timeline(const struct wal_scan *scan, uint64_t missing)
{
    size_t i = scan->history.count - 1;

    while (i > 0 && entry_begin(scan, i) > missing)
        i--;
    if (entry_begin(scan, i) < missing)
        return 0;
    while (i-- > 0)
        if (wal_archive_in_ranges(&scan->wal.ranges, scan->history.entries[i].timeline, missing))
            return scan->history.entries[i].timeline;
    return 0;
}

void wal_scan_reach(const struct wal_scan *scan, uint64_t lsn, struct wal_scan_reach *reach)
{
    uint64_t at;

    *reach = (struct wal_scan_reach){.missing = 0};
    if (scan->wal.ranges.segment_size == 0) {
        reach->timeline = scan->history.timeline;
        return;
    }
    at = segment_of(scan, lsn);
    for (size_t i = 0; i < scan->part_count; i++) {
        if (scan->parts[i].first <= at && at <= scan->parts[i].last)
            at = scan->parts[i].last + 1;
        else if (scan->parts[i].first > at)
            reach->gap = true;
    }
    /* The history proves WAL up to its last switch, even where nothing of it was archived. */
    if (scan->history.count > 1 && at < entry_begin(scan, scan->history.count - 1))
        reach->gap = true;
    reach->missing = at;
    reach->timeline = timeline_of(scan, at);
    reach->stale_timeline = stale_timeline(scan, at);
}

/* What the search of one segment found. */
struct sighting {
    bool found;
    struct wal_record first, last;
    bool any_time;
    int64_t newest_time;
};

/* A search in one segment. */
struct search {
    const struct wal_scan_query *query;
    struct repository *repository; /* asked for what it has, others for the rest */
    struct wal_reader *reader;
    uint64_t at;  /* LSN of the next byte */
    uint64_t end; /* of the segment */
    bool ended;   /* of its valid WAL */
    bool done;    /* nothing further can start in this segment */
    struct sighting *sighting;
};

static bool is_transaction(const struct wal_record *record)
{
    return record->kind == WAL_RECORD_COMMIT || record->kind == WAL_RECORD_ABORT;
}

static bool fits(const struct wal_scan_query *query, const struct wal_record *record)
{
    if (record->lsn < query->from || record->lsn >= query->before)
        return false;
    switch (query->kind) {
    case WAL_SCAN_ANY:
        return true;
    case WAL_SCAN_TRANSACTION:
        return is_transaction(record) && record->xid == query->xid;
    case WAL_SCAN_POINT:
        return record->kind == WAL_RECORD_RESTORE_POINT && strcmp(record->name, query->name) == 0;
    case WAL_SCAN_TIME:
        return is_transaction(record) && record->time >= query->time;
    }
    return false;
}

static void note_time(struct sighting *sighting, int64_t time)
{
    if (!sighting->any_time || time > sighting->newest_time)
        sighting->newest_time = time;
    sighting->any_time = true;
}

static bool see_record(const struct wal_record *record, void *context, struct error *err)
{
    struct search *search = context;
    struct sighting *sighting = search->sighting;

    if (record->lsn >= search->end) {
        search->done = true;
        return error_set(err, ERROR_CANCELLED, "end of the segment");
    }
    if (is_transaction(record) && record->lsn >= search->query->from &&
        record->lsn < search->query->before)
        note_time(sighting, record->time);
    if (fits(search->query, record)) {
        if (!sighting->found)
            sighting->first = *record;
        sighting->last = *record;
        sighting->found = true;
    }
    if (record->end_lsn > search->end) {
        search->done = true;
        return error_set(err, ERROR_CANCELLED, "end of the segment");
    }
    return true;
}

static bool feed(const void *data, size_t length, void *context, struct error *err)
{
    struct search *search = context;

    if (search->ended) {
        if (search->at < search->end)
            return true; /* the rest is still read, as only a whole segment is proven */
        search->done = true;
        return error_set(err, ERROR_CANCELLED, "end of the WAL");
    }
    if (!wal_reader_feed(search->reader, search->at, data, length, &search->ended, err))
        return false;
    search->at += length;
    return true;
}

static bool fetch_segment(const struct wal_scan *scan, uint64_t segment, struct search *search,
                          struct error *err)
{
    const uint32_t timeline = timeline_of(scan, segment);
    struct repository *holder = wal_union_holder(&scan->wal, search->repository, timeline, segment);
    char file[WAL_NAME_SIZE];
    struct wal_name name;
    uint64_t length;

    wal_segment_name(timeline, segment, scan->wal.ranges.segment_size, file);
    wal_parse_name(file, &name);
    return wal_archive_fetch(holder, &name, file, feed, search, &length, err);
}

/* Completes a record that crosses the segment's end; the next segment is read only so far. */
static bool read_on(const struct wal_scan *scan, uint64_t segment, struct search *search,
                    struct error *err)
{
    while (!search->done && !search->ended) {
        segment++;
        if (!wal_archive_in_ranges(&scan->wal.ranges, timeline_of(scan, segment), segment))
            return true;
        if (!fetch_segment(scan, segment, search, err) && !search->done)
            return false;
    }
    return true;
}

/* Only a segment that goes on behind its end ends the search before itself. */
static bool refuse_excess(const struct wal_scan *scan, const struct repository *repository,
                          uint64_t segment, struct error *err)
{
    char file[WAL_NAME_SIZE], object[LAYOUT_NAME_SIZE];

    wal_segment_name(timeline_of(scan, segment), segment, scan->wal.ranges.segment_size, file);
    return error_set(err, ERROR_INTEGRITY,
                     "object \"%s\" in repository \"%s\" is damaged: it holds more than a WAL "
                     "segment's %" PRIu32 " bytes",
                     layout_wal_segment(file, object), repository->name,
                     scan->wal.ranges.segment_size);
}

/* Where a segment is to be searched, and for what. */
struct spot {
    const struct wal_scan *scan;
    const struct wal_scan_query *query;
    uint64_t segment;
    struct sighting *sighting;
};

/* What was seen in bytes that turned out to be damaged does not count. */
static bool search_in(struct repository *repository, void *context, struct error *err)
{
    const struct spot *spot = context;
    const struct wal_scan *scan = spot->scan;
    struct search search = {
        .query = spot->query, .repository = repository, .sighting = spot->sighting};
    bool ok;

    *spot->sighting = (struct sighting){.found = false};
    search.at = spot->segment * scan->wal.ranges.segment_size;
    search.end = search.at + scan->wal.ranges.segment_size;
    search.reader = wal_reader_new(see_record, &search);
    ok = fetch_segment(scan, spot->segment, &search, err);
    if (!ok && search.done)
        ok = refuse_excess(scan, repository, spot->segment, err);
    if (ok && !search.ended && wal_reader_end(search.reader) != search.end)
        ok = read_on(scan, spot->segment, &search, err);
    wal_reader_free(search.reader);
    return ok;
}

/* Some segments searched at the same time. */
struct batch {
    const struct wal_scan *scan;
    const struct wal_scan_query *query;
    uint64_t segments[BATCH_MAXIMUM];
    struct sighting sightings[BATCH_MAXIMUM];
    int count;
    atomic_int next;
};

static bool work(struct workers *workers, int number, void *context, struct error *err)
{
    struct batch *batch = context;

    (void)number;
    for (;;) {
        const int i = atomic_fetch_add(&batch->next, 1);

        if (i >= batch->count)
            return true;
        struct spot spot = {.scan = batch->scan,
                            .query = batch->query,
                            .segment = batch->segments[i],
                            .sighting = &batch->sightings[i]};
        if (!workers_check(workers, err) ||
            !repository_ask(batch->scan->repository, search_in, &spot, err))
            return false;
    }
}

static bool run_batch(struct batch *batch, struct error *err)
{
    atomic_init(&batch->next, 0);
    return workers_run(batch->count, work, batch, err);
}

enum direction { FORWARDS, BACKWARDS };

/* Takes over what a batch saw, nearest first; true when the search is over. */
static bool settle(const struct batch *batch, enum direction direction,
                   struct wal_scan_result *result)
{
    for (int i = 0; i < batch->count; i++) {
        const struct sighting *sighting = &batch->sightings[i];

        if (sighting->any_time) {
            if (!result->any_time || sighting->newest_time > result->newest_time)
                result->newest_time = sighting->newest_time;
            result->any_time = true;
        }
        if (sighting->found) {
            result->found = true;
            result->record = direction == FORWARDS ? sighting->first : sighting->last;
            return true;
        }
        if (batch->query->kind == WAL_SCAN_TIME && direction == BACKWARDS && sighting->any_time &&
            sighting->newest_time < batch->query->time - WAL_SCAN_CLOCK_TOLERANCE)
            return true;
    }
    return false;
}

/* The segments of the path from `first` to `last`, one after the other. */
struct walk {
    const struct wal_scan *scan;
    enum direction direction;
    uint64_t first, last;
    size_t part; /* of the next segment */
    uint64_t at;
    bool over;
};

static void enter_part(struct walk *walk)
{
    const struct wal_scan *scan = walk->scan;

    const size_t step = walk->direction == FORWARDS ? 1 : SIZE_MAX; /* from 0 down is beyond */

    for (; walk->part < scan->part_count; walk->part += step) {
        const struct part *part = &scan->parts[walk->part];

        if (part->last < walk->first || part->first > walk->last)
            continue;
        if (walk->direction == FORWARDS)
            walk->at = part->first > walk->first ? part->first : walk->first;
        else
            walk->at = part->last < walk->last ? part->last : walk->last;
        return;
    }
    walk->over = true;
}

static void advance(struct walk *walk)
{
    const struct part *part = &walk->scan->parts[walk->part];

    if (walk->direction == FORWARDS) {
        if (walk->at < part->last && walk->at < walk->last) {
            walk->at++;
            return;
        }
        walk->part++;
    } else {
        if (walk->at > part->first && walk->at > walk->first) {
            walk->at--;
            return;
        }
        walk->part--;
    }
    enter_part(walk);
}

static bool search_path(struct wal_scan *scan, const struct wal_scan_query *query,
                        enum direction direction, struct wal_scan_result *result, struct error *err)
{
    struct walk walk = {.scan = scan, .direction = direction};
    struct batch batch = {.scan = scan, .query = query};
    bool over = false;

    *result = (struct wal_scan_result){.found = false};
    if (scan->part_count == 0 || query->before <= query->from)
        return true;
    walk.first = segment_of(scan, query->from);
    walk.last = segment_of(scan, query->before - 1);
    walk.part = direction == FORWARDS ? 0 : scan->part_count - 1;
    enter_part(&walk);
    /* The nearest segment alone at first: most searches end there. */
    for (int room = 1; !walk.over && !over; room = scan->jobs) {
        for (batch.count = 0; batch.count < room && !walk.over; advance(&walk))
            batch.segments[batch.count++] = walk.at;
        if (!run_batch(&batch, err))
            return false;
        over = settle(&batch, direction, result);
    }
    return true;
}

bool wal_scan_last(struct wal_scan *scan, const struct wal_scan_query *query,
                   struct wal_scan_result *result, struct error *err)
{
    return search_path(scan, query, BACKWARDS, result, err);
}

bool wal_scan_first(struct wal_scan *scan, const struct wal_scan_query *query,
                    struct wal_scan_result *result, struct error *err)
{
    return search_path(scan, query, FORWARDS, result, err);
}
