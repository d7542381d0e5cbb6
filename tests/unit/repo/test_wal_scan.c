#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/layout.h"
#include "pgvigil/wal_scan.h"
#include "pgvigil/wal_union.h"
#include "suites.h"
#include "support/archive.h"
#include "support/memory_store.h"
#include "support/wal_builder.h"

#define SEGMENT ((uint64_t)ARCHIVE_SEGMENT_SIZE)
#define NOON (INT64_C(1800000000) * 1000000)
#define MINUTE (INT64_C(60) * 1000000)

static struct repository *repository;
static struct wal_builder wal;
static struct wal_scan *scan;
static struct error err;

static void start_at(uint32_t timeline, uint64_t segment)
{
    wal_builder_start(&wal, 15, ARCHIVE_SEGMENT_SIZE, segment * SEGMENT);
    wal.system_identifier = ARCHIVE_SYSTEM;
    wal.timeline = timeline;
}

static void set_up(void)
{
    repository = archive_repository();
    error_clear(&err);
}

static void tear_down(void)
{
    wal_scan_close(scan);
    scan = NULL;
    buffer_free(&wal.bytes);
    archive_free_repository(repository);
}

static void store_bytes(uint32_t timeline, uint64_t number, const unsigned char *bytes)
{
    char file[WAL_NAME_SIZE];
    enum wal_outcome outcome;

    wal_segment_name(timeline, number, ARCHIVE_SEGMENT_SIZE, file);
    ck_assert_msg(archive_store(repository, file, bytes, ARCHIVE_SEGMENT_SIZE, &outcome, &err),
                  "%s", err.message);
}

/* Stores what was built as segments of its timeline, without the number given (0: all). */
static void store_built(uint64_t without)
{
    wal_builder_pad(&wal);
    ck_assert_uint_eq(wal.bytes.length % SEGMENT, 0);
    for (size_t at = 0; at < wal.bytes.length; at += SEGMENT)
        if ((wal.start + at) / SEGMENT != without)
            store_bytes(wal.timeline, (wal.start + at) / SEGMENT, wal.bytes.data + at);
}

/* Fills the segment so that a record of 100 bytes, appended next, crosses into the next one. */
static void fill_segment(void)
{
    for (;;) {
        const uint64_t left = SEGMENT - wal_builder_position(&wal) % SEGMENT;

        if (left <= 64)
            return;
        wal_builder_filler(&wal, left > 9000 ? 8000 : left > 200 ? 104 : 32);
    }
}

static void open_scan(uint32_t timeline)
{
    wal_scan_close(scan);
    scan = NULL;
    ck_assert_msg(wal_scan_open(repository, timeline, 3, &scan, &err), "%s", err.message);
}

static struct wal_scan_query query(enum wal_scan_kind kind)
{
    return (struct wal_scan_query){.kind = kind, .before = UINT64_MAX};
}

static struct wal_scan_result last(const struct wal_scan_query *wanted)
{
    struct wal_scan_result result;

    ck_assert_msg(wal_scan_last(scan, wanted, &result, &err), "%s", err.message);
    return result;
}

static struct wal_scan_result first(const struct wal_scan_query *wanted)
{
    struct wal_scan_result result;

    ck_assert_msg(wal_scan_first(scan, wanted, &result, &err), "%s", err.message);
    return result;
}

START_TEST(an_empty_archive)
{
    struct wal_scan_query any = query(WAL_SCAN_ANY);
    struct wal_scan_reach reach;

    open_scan(1);
    ck_assert_uint_eq(wal_scan_segment_size(scan), 0);
    ck_assert(!last(&any).found);
    ck_assert(!first(&any).found);
    wal_scan_reach(scan, 5 * SEGMENT, &reach);
    ck_assert_uint_eq(reach.missing, 0);
    ck_assert(!reach.gap);
}
END_TEST

START_TEST(first_and_last_of_several)
{
    struct wal_scan_query wanted = query(WAL_SCAN_TRANSACTION);
    uint64_t lsn[3];

    wanted.xid = 700;
    start_at(1, 2);
    for (int i = 0; i < 3; i++) {
        lsn[i] = wal_builder_commit(&wal, 700, NOON + i);
        wal_builder_abort(&wal, 701, NOON);
        fill_segment();
        wal_builder_filler(&wal, 100);
    }
    store_built(0);
    open_scan(1);
    ck_assert_uint_eq(first(&wanted).record.lsn, lsn[0]);
    ck_assert_uint_eq(last(&wanted).record.lsn, lsn[2]);
    wanted.from = lsn[0] + 1;
    ck_assert_uint_eq(first(&wanted).record.lsn, lsn[1]);
    wanted.before = lsn[2];
    ck_assert_uint_eq(last(&wanted).record.lsn, lsn[1]);
    wanted.from = lsn[1] + 1;
    ck_assert(!last(&wanted).found);
    wanted.xid = 7;
    wanted.from = 0;
    wanted.before = UINT64_MAX;
    ck_assert(!last(&wanted).found);
    ck_assert(last(&wanted).any_time);
}
END_TEST

/* A restore point in which one segment ends and the next begins is found, unless its end is missing. */
START_TEST(a_record_over_the_border)
{
    struct wal_scan_query wanted = query(WAL_SCAN_POINT);
    struct wal_scan_result result;
    uint64_t lsn;

    wanted.name = "here";
    start_at(1, 2);
    fill_segment();
    lsn = wal_builder_restore_point(&wal, "here", NOON);
    ck_assert_uint_eq(lsn / SEGMENT, 2);
    ck_assert_uint_eq(wal_builder_position(&wal) / SEGMENT, 3);
    store_built(3);
    open_scan(1);
    ck_assert(!last(&wanted).found);
    store_bytes(1, 3, wal.bytes.data + SEGMENT);
    open_scan(1);
    result = last(&wanted);
    ck_assert(result.found);
    ck_assert_uint_eq(result.record.lsn, lsn);
    ck_assert_uint_gt(result.record.end_lsn, 3 * SEGMENT);
    ck_assert_uint_eq(first(&wanted).record.lsn, lsn);
    wanted.name = "her";
    ck_assert(!last(&wanted).found);
}
END_TEST

/* A record longer than a segment. */
START_TEST(a_record_over_two_borders)
{
    struct wal_scan_query wanted = query(WAL_SCAN_ANY);
    uint64_t lsn;

    start_at(1, 2);
    wal_builder_filler(&wal, 5000);
    lsn = wal_builder_filler(&wal, 2 * ARCHIVE_SEGMENT_SIZE);
    wal_builder_filler(&wal, 50);
    store_built(0);
    open_scan(1);
    wanted.from = lsn;
    wanted.before = lsn + 1;
    ck_assert(last(&wanted).found);
    ck_assert_uint_gt(last(&wanted).record.end_lsn, 4 * SEGMENT);
}
END_TEST

/* A transaction whose record a crash tore does not exist, and what follows is still found. */
START_TEST(a_torn_record)
{
    struct wal_scan_query wanted = query(WAL_SCAN_TRANSACTION);

    wanted.xid = 9;
    start_at(1, 2);
    fill_segment();
    wal_builder_commit_prepared(&wal, 9, NOON, 20);
    wal_builder_tear(&wal);
    wal_builder_commit(&wal, 10, NOON);
    store_built(0);
    open_scan(1);
    ck_assert(!last(&wanted).found);
    wanted.xid = 10;
    ck_assert(last(&wanted).found);
}
END_TEST

/* Five segments, a minute each; the clock was set back by 30 minutes in the last one. */
static void store_times(int64_t set_back)
{
    start_at(1, 2);
    for (int i = 0; i < 5; i++) {
        wal_builder_commit(&wal, (uint32_t)(100 + i), NOON + i * MINUTE - (i == 4 ? set_back : 0));
        if (i < 4) {
            fill_segment();
            wal_builder_filler(&wal, 100);
        }
    }
    store_built(0);
    open_scan(1);
}

START_TEST(times_do_not_rise_always)
{
    struct wal_scan_query wanted = query(WAL_SCAN_TIME);

    store_times(30 * MINUTE);
    wanted.time = NOON + 3 * MINUTE;
    ck_assert_uint_eq(last(&wanted).record.xid, 103);
    wanted.time++;
    ck_assert(!last(&wanted).found);
    ck_assert_int_eq(last(&wanted).newest_time, NOON + 3 * MINUTE);
    wanted.time = INT64_MIN;
    ck_assert_uint_eq(last(&wanted).record.xid, 104);
    ck_assert_uint_eq(first(&wanted).record.xid, 100);
}
END_TEST

START_TEST(the_search_by_time_ends_somewhere)
{
    struct wal_scan_query wanted = query(WAL_SCAN_TIME);

    store_times(WAL_SCAN_CLOCK_TOLERANCE + 10 * MINUTE);
    wanted.time = NOON + 3 * MINUTE;
    ck_assert(!last(&wanted).found); /* the last segment is older by more than the tolerance */
}
END_TEST

/* -- timelines: 2 leaves 1 in the middle of segment 3 -- */

#define SWITCH "0/380000"

static void store_timelines(uint64_t without_of_second)
{
    uint64_t number;

    start_at(1, 2);
    for (number = 2; number <= 5; number++) {
        wal_builder_commit(&wal, (uint32_t)(100 + number), NOON);
        fill_segment();
        wal_builder_filler(&wal, 100);
    }
    store_built(0);
    buffer_free(&wal.bytes);
    start_at(2, 3);
    for (number = 3; number <= 4; number++) {
        wal_builder_commit(&wal, (uint32_t)(200 + number), NOON);
        fill_segment();
        wal_builder_filler(&wal, 100);
    }
    store_built(without_of_second);
    archive_store_history(repository, 2, "1\t" SWITCH "\tno reason\n");
}

static bool has_transaction(uint32_t xid)
{
    struct wal_scan_query wanted = query(WAL_SCAN_TRANSACTION);

    wanted.xid = xid;
    return last(&wanted).found;
}

START_TEST(the_path_of_a_timeline)
{
    struct wal_scan_reach reach;

    store_timelines(0);
    open_scan(2);
    ck_assert(wal_scan_history_known(scan));
    ck_assert(has_transaction(102));
    ck_assert(!has_transaction(103)); /* the second timeline's segment 3 counts */
    ck_assert(has_transaction(203));
    ck_assert(!has_transaction(105));
    wal_scan_reach(scan, 2 * SEGMENT, &reach);
    ck_assert_uint_eq(reach.missing, 6); /* the padding made a segment 5 */
    ck_assert_uint_eq(reach.timeline, 2);
    ck_assert(!reach.gap);
    ck_assert_uint_eq(reach.stale_timeline, 0); /* though the first timeline has a segment 6 */

    open_scan(1);
    ck_assert(!wal_scan_history_known(scan));
    ck_assert(has_transaction(103));
    ck_assert(has_transaction(105));
    ck_assert(!has_transaction(203));
}
END_TEST

START_TEST(a_gap_where_the_timeline_begins)
{
    struct wal_scan_reach reach;

    store_timelines(3);
    open_scan(2);
    wal_scan_reach(scan, 2 * SEGMENT, &reach);
    ck_assert_uint_eq(reach.missing, 3);
    ck_assert_uint_eq(reach.timeline, 2);
    ck_assert(reach.gap);
    ck_assert_uint_eq(reach.stale_timeline, 1);
    ck_assert(has_transaction(204)); /* beyond the gap is looked at, too */
    wal_scan_reach(scan, 4 * SEGMENT, &reach);
    ck_assert_uint_eq(reach.missing, 6);
    ck_assert(!reach.gap);
}
END_TEST

enum damaged_part { ITS_DATA, ITS_TRAILER };

static void damage_part(uint64_t number, enum damaged_part part)
{
    struct buffer object = BUFFER_INIT;
    char file[WAL_NAME_SIZE], name[LAYOUT_NAME_SIZE];

    layout_wal_segment(wal_segment_name(1, number, ARCHIVE_SEGMENT_SIZE, file), name);
    archive_read(repository, name, &object);
    object.data[part == ITS_DATA ? 8 : object.length - 8] ^= 1;
    archive_replace(repository, name, object.data, object.length);
    buffer_free(&object);
}

static void damage(uint64_t number)
{
    damage_part(number, ITS_DATA);
}

START_TEST(a_damaged_segment_is_an_error)
{
    struct wal_scan_query any = query(WAL_SCAN_ANY);
    struct wal_scan_result result;

    start_at(1, 2);
    wal_builder_commit(&wal, 5, NOON);
    store_built(0);
    damage(2);
    open_scan(1);
    ck_assert(!wal_scan_last(scan, &any, &result, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
}
END_TEST

/* Transactions 102 to 106 in segments of that number, which a record of 100 bytes leaves each: those of the
 * mask `here` lie in the repository, those of `there` in its sibling "other". */
static void store_in_two(unsigned here, unsigned there)
{
    struct repository *first = repository, *other = archive_repository();

    other->name = "other";
    start_at(1, 2);
    for (uint64_t number = 2; number <= 6; number++) {
        wal_builder_commit(&wal, (uint32_t)(100 + number), NOON);
        fill_segment();
        wal_builder_filler(&wal, 100);
    }
    for (uint64_t number = 2; number <= 6; number++) {
        const unsigned char *bytes = wal.bytes.data + (number - 2) * SEGMENT;

        if (here & 1u << number)
            store_bytes(1, number, bytes);
        repository = other;
        if (there & 1u << number)
            store_bytes(1, number, bytes);
        repository = first;
    }
    first->sibling = other;
}

static void ck_reach(uint64_t missing, bool gap)
{
    struct wal_scan_reach reach;

    wal_scan_reach(scan, 2 * SEGMENT, &reach);
    ck_assert_uint_eq(reach.missing, missing);
    ck_assert_int_eq(reach.gap, gap);
}

/* Segments 2, 3 and 5 here, 3, 4 and 6 there: each record that crosses a border lies in both. */
START_TEST(what_two_have_between_them)
{
    struct wal_scan_query any = query(WAL_SCAN_ANY);

    store_in_two(1 << 2 | 1 << 3 | 1 << 5, 1 << 3 | 1 << 4 | 1 << 6);
    open_scan(1);
    ck_reach(7, false);
    for (uint32_t xid = 102; xid <= 106; xid++)
        ck_assert(has_transaction(xid));
    for (uint64_t number = 2; number <= 5; number++) {
        any.from = number * SEGMENT;
        any.before = (number + 1) * SEGMENT;
        ck_assert_uint_gt(last(&any).record.end_lsn, any.before);
    }

    struct repository *other = repository->sibling;

    repository->sibling = NULL;
    open_scan(1);
    ck_reach(4, true);
    ck_assert(!has_transaction(104));
    repository->sibling = other;
}
END_TEST

START_TEST(what_is_damaged_is_had_from_the_other)
{
    struct wal_scan_query any = query(WAL_SCAN_ANY);
    struct wal_scan_result result;

    store_in_two(1 << 2 | 1 << 3 | 1 << 4, 1 << 3 | 1 << 4);
    damage(3);
    open_scan(1);
    ck_assert(has_transaction(103));
    ck_assert(has_transaction(102)); /* behind it lies a record that ends in segment 3 */
    damage(2);
    open_scan(1);
    any.before = 3 * SEGMENT;
    ck_assert(!wal_scan_last(scan, &any, &result, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
}
END_TEST

/* What one that does not answer may have is not counted on; without the first one, nothing is. */
START_TEST(one_of_two_does_not_answer)
{
    store_in_two(1 << 2 | 1 << 3, 1 << 4);
    memory_store_break(repository->sibling->store, true);
    open_scan(1);
    ck_reach(4, false);
    ck_assert(atomic_load(&repository->sibling->was_silent));
    memory_store_break(repository->sibling->store, false);
    memory_store_break(repository->store, true);
    wal_scan_close(scan);
    scan = NULL;
    ck_assert(!wal_scan_open(repository, 1, 3, &scan, &err));
    ck_assert_int_eq(err.code, ERROR_STORE);
    memory_store_break(repository->store, false);
}
END_TEST

/* Segment 4, which the first one lacks, is had from the third once the second no longer answers: that one
 * alone is blamed, and asked once. */
START_TEST(one_of_three_falls_silent)
{
    struct repository *second, *third;

    store_in_two(1 << 2 | 1 << 3 | 1 << 5, 1 << 3 | 1 << 4);
    second = repository->sibling;
    third = archive_repository();
    third->name = "third";
    second->sibling = third;
    for (uint64_t number = 4; number <= 6; number += 2) {
        struct repository *first = repository;

        repository = third;
        store_bytes(1, number, wal.bytes.data + (number - 2) * SEGMENT);
        repository = first;
    }
    open_scan(1);
    ck_reach(7, false);
    memory_store_fail(second->store,
                      2); /* of which the search is to meet one: it may be asked last */
    ck_assert(has_transaction(104));
    ck_assert(has_transaction(106));
    ck_assert(!atomic_load(&repository->was_silent));
    ck_assert(atomic_load(&second->was_silent));
    ck_assert(!atomic_load(&third->was_silent));
}
END_TEST

/* A sibling that falls silent while it is asked for its timelines is not waited for again. */
START_TEST(a_silent_one_is_not_asked_for_histories)
{
    struct repository *other;
    uint32_t *timelines;
    size_t count;

    store_timelines(0);
    other = repository;
    repository = archive_repository();
    repository->sibling = other;
    memory_store_fail(other->store, 1);
    ck_assert(wal_union_timelines(repository, &timelines, &count, &err));
    free(timelines);
    open_scan(2);
    ck_assert(!wal_scan_history_known(scan));
    /* But what the first one has stays unknown as long as it is silent. */
    atomic_store(&other->was_silent, false);
    atomic_store(&repository->was_silent, true);
    wal_scan_close(scan);
    scan = NULL;
    ck_assert(!wal_scan_open(repository, 3, 3, &scan, &err));
    ck_assert_int_eq(err.code, ERROR_STORE);
}
END_TEST

/* The history, too. */
START_TEST(a_timeline_that_only_the_other_knows)
{
    struct repository *other;

    store_timelines(0);
    other = repository;
    repository = archive_repository();
    repository->sibling = other;
    open_scan(2);
    ck_assert(wal_scan_history_known(scan));
    ck_assert(has_transaction(102));
    ck_assert(has_transaction(204));
    ck_reach(6, false);
}
END_TEST

/* Segments 2 to `last` of another server that went its own way from segment `fork` on, in "other". */
static void store_other_server(uint32_t timeline, uint64_t fork, uint64_t last)
{
    struct buffer bytes = BUFFER_INIT;
    struct repository *first = repository;

    repository = first->sibling;
    for (uint64_t number = 2; number <= last; number++) {
        archive_segment(&bytes, ARCHIVE_SEGMENT_SIZE, timeline, number, ARCHIVE_SYSTEM,
                        number < fork ? number : number + 100);
        store_bytes(timeline, number, bytes.data);
        buffer_clear(&bytes);
    }
    buffer_free(&bytes);
    repository = first;
}

static void store_one_server(uint32_t timeline, uint64_t last)
{
    struct buffer bytes = BUFFER_INIT;

    for (uint64_t number = 2; number <= last; number++) {
        archive_segment(&bytes, ARCHIVE_SEGMENT_SIZE, timeline, number, ARCHIVE_SYSTEM, number);
        store_bytes(timeline, number, bytes.data);
        buffer_clear(&bytes);
    }
    buffer_free(&bytes);
}

static void make_other(void)
{
    repository->sibling = archive_repository();
    repository->sibling->name = "other";
}

static void ck_disagree(uint64_t from, const char *file)
{
    ck_assert(!wal_scan_check_agreement(scan, from * SEGMENT, UINT64_MAX, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_msg(strstr(err.message, file) != NULL, "%s", err.message);
    ck_assert(strstr(err.hint, "--without other") != NULL);
    error_clear(&err);
}

START_TEST(two_servers_under_the_same_names)
{
    make_other();
    store_one_server(1, 6);
    store_other_server(1, 5, 8);
    open_scan(1);
    ck_disagree(2, "000000010000000000000006");
    /* Up to where they parted they agree. */
    ck_assert(wal_scan_check_agreement(scan, 2 * SEGMENT, 5 * SEGMENT - 1, &err));
    ck_assert(!wal_scan_check_agreement(scan, 2 * SEGMENT, 5 * SEGMENT, &err));
    error_clear(&err);
    /* A damaged one tells nothing, but those before it do. */
    damage_part(6, ITS_TRAILER);
    ck_disagree(2, "000000010000000000000005");
    damage_part(5, ITS_TRAILER);
    ck_assert(wal_scan_check_agreement(scan, 2 * SEGMENT, UINT64_MAX, &err));
    ck_assert(wal_scan_check_agreement(scan, 7 * SEGMENT, UINT64_MAX, &err));
}
END_TEST

/* What an ancestor wrote after it had been left does not matter. */
START_TEST(two_servers_of_which_one_was_left)
{
    static const char history[] = "1\t0/580000\tx\n";

    make_other();
    store_one_server(1, 6);
    store_other_server(1, 5, 8);
    archive_store_history(repository, 2, history);
    archive_store_history(repository->sibling, 2, history);
    store_one_server(2, 3);
    open_scan(2);
    ck_assert(wal_scan_check_agreement(scan, 2 * SEGMENT, UINT64_MAX, &err));
    open_scan(1);
    ck_disagree(2, "000000010000000000000006");
}
END_TEST

START_TEST(two_servers_that_were_promoted)
{
    make_other();
    store_one_server(1, 6);
    archive_store_history(repository, 2, "1\t0/580000\tx\n");
    archive_store_history(repository->sibling, 2, "1\t0/780000\tx\n");
    open_scan(2);
    ck_disagree(2, "00000002.history");
    memory_store_break(repository->sibling->store, true);
    ck_assert(wal_scan_check_agreement(scan, 2 * SEGMENT, UINT64_MAX, &err));
    memory_store_break(repository->sibling->store, false);
}
END_TEST

/* Both took up timeline 2, at different LSNs, and the one went on to timeline 3: where it lacks segments of
 * 2 the other's do not fit, though no segment is in both. */
START_TEST(two_servers_of_which_one_was_promoted_again)
{
    make_other();
    store_one_server(1, 6);
    archive_store_history(repository, 2, "1\t0/580000\tx\n");
    archive_store_history(repository->sibling, 2, "1\t0/780000\tx\n");
    archive_store_history(repository, 3, "1\t0/580000\tx\n2\t0/980000\tx\n");
    archive_store_segment(repository, 2, 5);
    archive_store_segment(repository->sibling, 2, 7);
    open_scan(3);
    ck_disagree(2, "00000002.history");
    /* Neither where recovery begins behind timeline 2, nor where it ends before it. */
    ck_assert(wal_scan_check_agreement(scan, 10 * SEGMENT, UINT64_MAX, &err));
    ck_assert(wal_scan_check_agreement(scan, 2 * SEGMENT, 5 * SEGMENT, &err));
}
END_TEST

Suite *wal_scan_suite(void)
{
    Suite *suite = suite_create("wal_scan");
    TCase *tests = tcase_create("wal_scan");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, an_empty_archive);
    tcase_add_test(tests, first_and_last_of_several);
    tcase_add_test(tests, a_record_over_the_border);
    tcase_add_test(tests, a_record_over_two_borders);
    tcase_add_test(tests, a_torn_record);
    tcase_add_test(tests, times_do_not_rise_always);
    tcase_add_test(tests, the_search_by_time_ends_somewhere);
    tcase_add_test(tests, the_path_of_a_timeline);
    tcase_add_test(tests, a_gap_where_the_timeline_begins);
    tcase_add_test(tests, a_damaged_segment_is_an_error);
    tcase_add_test(tests, what_two_have_between_them);
    tcase_add_test(tests, what_is_damaged_is_had_from_the_other);
    tcase_add_test(tests, one_of_two_does_not_answer);
    tcase_add_test(tests, one_of_three_falls_silent);
    tcase_add_test(tests, a_silent_one_is_not_asked_for_histories);
    tcase_add_test(tests, a_timeline_that_only_the_other_knows);
    tcase_add_test(tests, two_servers_under_the_same_names);
    tcase_add_test(tests, two_servers_of_which_one_was_left);
    tcase_add_test(tests, two_servers_that_were_promoted);
    tcase_add_test(tests, two_servers_of_which_one_was_promoted_again);
    suite_add_tcase(suite, tests);
    return suite;
}
