#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/bytes.h"
#include "pgvigil/layout.h"
#include "pgvigil/mem.h"
#include "pgvigil/object.h"
#include "pgvigil/survey.h"
#include "pgvigil/trailer.h"
#include "suites.h"
#include "support/archive.h"
#include "support/memory_store.h"
#include "support/wal_builder.h"

#define RUN INT64_C(1795140000)
#define SEGMENT_SIZE ARCHIVE_SEGMENT_SIZE
#define WAL_MAGIC_15 0xD110

static struct repository *repository;
static struct error err;

static void set_up(void)
{
    repository = archive_repository();
    error_clear(&err);
}

static void tear_down(void)
{
    archive_free_repository(repository);
}

static void put(const char *name, enum trailer_kind kind, const void *data, size_t length)
{
    enum store_outcome outcome;

    ck_assert_msg(
        object_put(repository, name, kind, OBJECT_ZSTD, 1, data, length, &outcome, NULL, &err),
        "%s", err.message);
    ck_assert_int_eq(outcome, STORE_STORED);
}

/* Segments that have their first page's header and no record. */
static void put_segments(uint32_t timeline, uint64_t first, uint64_t last)
{
    unsigned char *segment = mem_calloc(1, SEGMENT_SIZE);
    char file[WAL_NAME_SIZE], name[LAYOUT_NAME_SIZE];

    bytes_put_u16(segment, WAL_MAGIC_15);
    bytes_put_u16(segment + 2, WAL_PAGE_LONG_HEADER);
    bytes_put_u32(segment + 4, timeline);
    bytes_put_u64(segment + 24, ARCHIVE_SYSTEM);
    bytes_put_u32(segment + 32, SEGMENT_SIZE);
    bytes_put_u32(segment + 36, WAL_PAGE_SIZE);
    for (uint64_t number = first; number <= last; number++) {
        bytes_put_u64(segment + 8, number * SEGMENT_SIZE);
        wal_segment_name(timeline, number, SEGMENT_SIZE, file);
        put(layout_wal_segment(file, name), TRAILER_WAL, segment, SEGMENT_SIZE);
    }
    free(segment);
}

static uint64_t lsn_in(uint64_t segment)
{
    return segment * SEGMENT_SIZE + 0x28;
}

/* From within one segment to within another. */
static void put_backup(int64_t run, uint32_t timeline, uint64_t first, uint64_t last)
{
    static char text[] = "/x";
    struct backup_info info = {.run = run,
                               .system_identifier = ARCHIVE_SYSTEM,
                               .version_num = 150018,
                               .timeline = timeline,
                               .start_lsn = lsn_in(first),
                               .stop_lsn = lsn_in(last) + 0x100,
                               .start_time = run * CLOCK_SECOND,
                               .stop_time = (run + 5) * CLOCK_SECOND,
                               .wal_segment_size = SEGMENT_SIZE,
                               .host = text,
                               .data_directory = text};

    ck_assert_msg(backup_info_store(repository, &info, &err), "%s", err.message);
}

static struct survey *look(void)
{
    struct survey *survey;

    ck_assert_msg(survey_read(repository, &survey, &err), "%s", err.message);
    return survey;
}

static void check_gap(const struct survey_timeline *timeline, size_t i, uint64_t first,
                      uint64_t last)
{
    ck_assert_uint_lt(i, timeline->gap_count);
    ck_assert_uint_eq(timeline->gaps[i].first, first);
    ck_assert_uint_eq(timeline->gaps[i].last, last);
}

static void check_window(const struct survey *survey, size_t i, int64_t oldest, int64_t newest,
                         uint32_t timeline, uint64_t end)
{
    const struct survey_window *window = &survey->windows[i];

    ck_assert_uint_lt(i, survey->window_count);
    ck_assert_int_eq(window->oldest->run, oldest);
    ck_assert_int_eq(window->newest->run, newest);
    ck_assert_uint_eq(window->timeline, timeline);
    ck_assert_uint_eq(window->end_lsn, end * SEGMENT_SIZE);
    ck_assert(!window->any_transaction);
}

START_TEST(nothing_there)
{
    struct survey *survey = look();

    ck_assert_uint_eq(survey->catalog->count, 0);
    ck_assert_uint_eq(survey->timeline_count, 0);
    ck_assert_uint_eq(survey->window_count, 0);
    ck_assert_uint_eq(survey->damage_count, 0);
    survey_free(survey);
    survey_free(NULL);
}
END_TEST

START_TEST(wal_without_backup)
{
    put_segments(1, 1, 3);
    struct survey *survey = look();
    ck_assert_uint_eq(survey->timeline_count, 1);
    ck_assert_uint_eq(survey->timelines[0].segments, 3);
    ck_assert_uint_eq(survey->timelines[0].before_backups, 3);
    ck_assert_uint_eq(survey->timelines[0].gap_count, 0);
    ck_assert_uint_eq(survey->window_count, 0);
    survey_free(survey);
}
END_TEST

START_TEST(one_timeline)
{
    put_segments(1, 1, 9);
    put_backup(RUN, 1, 3, 4);
    put_backup(RUN + 60, 1, 6, 6);
    struct survey *survey = look();
    ck_assert_uint_eq(survey->wal.segment_size, SEGMENT_SIZE);
    ck_assert_uint_eq(survey->timelines[0].before_backups, 2);
    ck_assert(survey->backups[0].wal_complete);
    ck_assert(survey->backups[1].wal_complete);
    ck_assert_uint_eq(survey->window_count, 1);
    check_window(survey, 0, RUN, RUN + 60, 1, 10);
    ck_assert_uint_eq(survey->damage_count, 0);
    survey_free(survey);
}
END_TEST

START_TEST(a_gap_parts_the_windows)
{
    put_segments(1, 1, 4);
    put_segments(1, 7, 9);
    put_backup(RUN, 1, 2, 3);
    put_backup(RUN + 60, 1, 8, 8);
    struct survey *survey = look();
    ck_assert_uint_eq(survey->timelines[0].range_count, 2);
    ck_assert_uint_eq(survey->timelines[0].gap_count, 1);
    check_gap(&survey->timelines[0], 0, 5, 6);
    ck_assert_uint_eq(survey->window_count, 2);
    check_window(survey, 0, RUN, RUN, 1, 5);
    check_window(survey, 1, RUN + 60, RUN + 60, 1, 10);
    survey_free(survey);
}
END_TEST

START_TEST(backup_that_lacks_wal)
{
    put_segments(1, 1, 3);
    put_segments(1, 5, 6);
    put_backup(RUN, 1, 3, 5);      /* in the middle */
    put_backup(RUN + 1, 1, 6, 7);  /* at its end */
    put_backup(RUN + 2, 1, 9, 10); /* all of it */
    put_backup(RUN + 3, 2, 1, 1);  /* of another timeline */
    struct survey *survey = look();
    static const uint64_t missing[] = {4, 7, 9, 1};
    for (size_t i = 0; i < 4; i++) {
        ck_assert(!survey->backups[i].wal_complete);
        ck_assert_uint_eq(survey->backups[i].missing, missing[i]);
    }
    ck_assert_uint_eq(survey->window_count, 0);
    survey_free(survey);
}
END_TEST

/* A stop exactly on a border needs nothing of the segment behind it. */
START_TEST(stop_on_a_border)
{
    static char text[] = "/x";
    struct backup_info info = {.run = RUN,
                               .system_identifier = ARCHIVE_SYSTEM,
                               .version_num = 150018,
                               .timeline = 1,
                               .start_lsn = lsn_in(2),
                               .stop_lsn = (uint64_t)3 * SEGMENT_SIZE,
                               .wal_segment_size = SEGMENT_SIZE,
                               .host = text,
                               .data_directory = text};

    put_segments(1, 2, 2);
    ck_assert(backup_info_store(repository, &info, &err));
    struct survey *survey = look();
    ck_assert(survey->backups[0].wal_complete);
    check_window(survey, 0, RUN, RUN, 1, 3);
    survey_free(survey);
}
END_TEST

#define LEFT_IN_5 "1\t0/500200\tno recovery target specified\n"

/* A segment with these transactions, and room behind them. */
static void put_transactions(uint64_t number, const int64_t *times, size_t count)
{
    char file[WAL_NAME_SIZE], name[LAYOUT_NAME_SIZE];
    struct wal_builder builder;

    wal_builder_start(&builder, 15, SEGMENT_SIZE, number * SEGMENT_SIZE);
    builder.system_identifier = ARCHIVE_SYSTEM;
    for (size_t i = 0; i < count; i++)
        wal_builder_commit(&builder, 700 + (uint32_t)i, times[i]);
    wal_builder_pad(&builder);
    ck_assert_uint_eq(builder.bytes.length, SEGMENT_SIZE);
    wal_segment_name(1, number, SEGMENT_SIZE, file);
    put(layout_wal_segment(file, name), TRAILER_WAL, builder.bytes.data, builder.bytes.length);
    buffer_free(&builder.bytes);
}

/* The last one counts, wherever the newest backup ends, and though nothing came behind it. */
START_TEST(last_transaction)
{
    const int64_t times[] = {RUN * CLOCK_SECOND, (RUN + 90) * CLOCK_SECOND + 123456};

    put_segments(1, 1, 4);
    put_transactions(5, times, 2);
    put_segments(1, 6, 7);
    put_backup(RUN, 1, 2, 2);
    struct survey *survey = look();
    ck_assert_uint_eq(survey->damage_count, 0);
    ck_assert_uint_eq(survey->window_count, 1);
    ck_assert(survey->windows[0].any_transaction);
    ck_assert_int_eq(survey->windows[0].last_transaction, times[1]);
    survey_free(survey);
}
END_TEST

START_TEST(promotion)
{
    put_segments(1, 1, 5);
    put_segments(2, 5, 8);
    archive_store_history(repository, 2, LEFT_IN_5);
    put_backup(RUN, 1, 2, 2);
    put_backup(RUN + 60, 2, 6, 6);
    struct survey *survey = look();
    ck_assert_uint_eq(survey->timeline_count, 2);
    ck_assert_uint_eq(survey->timelines[0].gap_count, 0);
    ck_assert_uint_eq(survey->timelines[1].gap_count, 0);
    ck_assert_uint_eq(survey->window_count, 1);
    check_window(survey, 0, RUN, RUN + 60, 2, 9);
    ck_assert_uint_eq(survey->windows[0].end_timeline, 2);
    survey_free(survey);
}
END_TEST

/* What can be followed, and where it ends, are two timelines when WAL of the older one is missing. */
START_TEST(a_gap_before_the_promotion)
{
    put_segments(1, 1, 3);
    put_segments(2, 5, 8);
    archive_store_history(repository, 2, LEFT_IN_5);
    put_backup(RUN, 1, 2, 2);
    struct survey *survey = look();
    ck_assert_uint_eq(survey->window_count, 1);
    check_window(survey, 0, RUN, RUN, 2, 4);
    ck_assert_uint_eq(survey->windows[0].end_timeline, 1);
    survey_free(survey);
}
END_TEST

/* The old primary went on after the standby had left: a backup of that cannot follow the standby. */
START_TEST(left_behind)
{
    put_segments(1, 1, 9);
    put_segments(2, 5, 6);
    archive_store_history(repository, 2, LEFT_IN_5);
    put_backup(RUN, 1, 2, 2);
    put_backup(RUN + 60, 1, 7, 7);
    struct survey *survey = look();
    ck_assert_uint_eq(survey->window_count, 2);
    check_window(survey, 0, RUN + 60, RUN + 60, 1, 10);
    check_window(survey, 1, RUN, RUN, 2, 7);
    survey_free(survey);
}
END_TEST

START_TEST(gaps_where_timelines_part)
{
    put_segments(1, 1, 3); /* 4 is missing before the parting in 5 */
    put_segments(2, 5, 6);
    archive_store_history(repository, 2, LEFT_IN_5);
    put_segments(3, 9, 9); /* 6 to 8 are missing behind the parting in 6 */
    archive_store_history(repository, 3, LEFT_IN_5 "2\t0/600200\tno recovery target specified\n");
    struct survey *survey = look();
    ck_assert_uint_eq(survey->timelines[0].gap_count, 1);
    check_gap(&survey->timelines[0], 0, 4, 4);
    ck_assert_uint_eq(survey->timelines[1].gap_count, 0);
    ck_assert_uint_eq(survey->timelines[2].gap_count, 1);
    check_gap(&survey->timelines[2], 0, 6, 8);
    survey_free(survey);
}
END_TEST

/* What is older than all that is kept has been deleted: no gap. */
START_TEST(old_wal_is_no_gap)
{
    put_segments(2, 8, 9);
    archive_store_history(repository, 2, LEFT_IN_5);
    put_backup(RUN, 2, 8, 8);
    struct survey *survey = look();
    ck_assert_uint_eq(survey->timelines[0].gap_count, 0);
    check_window(survey, 0, RUN, RUN, 2, 10);
    survey_free(survey);
}
END_TEST

/* The new timeline is known, but nothing of it has arrived. */
START_TEST(history_alone)
{
    put_segments(1, 1, 5);
    archive_store_history(repository, 2, LEFT_IN_5);
    put_backup(RUN, 1, 2, 2);
    struct survey *survey = look();
    ck_assert_uint_eq(survey->timeline_count, 2);
    ck_assert_uint_eq(survey->timelines[1].segments, 0);
    check_window(survey, 0, RUN, RUN, 2, 5);
    survey_free(survey);
}
END_TEST

START_TEST(damaged_history)
{
    char name[LAYOUT_NAME_SIZE];

    put_segments(1, 1, 5);
    put_segments(2, 5, 8);
    put(layout_wal_history(2, name), TRAILER_HISTORY, "rubbish\n", 8);
    put_backup(RUN, 1, 2, 2);
    put_backup(RUN + 60, 2, 6, 6);
    struct survey *survey = look();
    ck_assert_uint_eq(survey->damage_count, 1);
    ck_assert_int_eq(survey->damage[0].code, ERROR_INTEGRITY);
    ck_assert_ptr_nonnull(strstr(survey->damage[0].message, "00000002.history"));
    ck_assert_uint_eq(survey->window_count, 1);
    check_window(survey, 0, RUN, RUN, 1, 6);
    survey_free(survey);
}
END_TEST

START_TEST(damaged_last_segment)
{
    char file[WAL_NAME_SIZE], name[LAYOUT_NAME_SIZE];

    put_segments(1, 1, 5);
    put_backup(RUN, 1, 2, 2);
    wal_segment_name(1, 5, SEGMENT_SIZE, file);
    archive_replace(repository, layout_wal_segment(file, name), "rubbish", 7);
    struct survey *survey = look();
    ck_assert_uint_eq(survey->damage_count, 1);
    ck_assert_ptr_nonnull(strstr(survey->damage[0].message, file));
    ck_assert_uint_eq(survey->window_count, 1);
    survey_free(survey);
}
END_TEST

START_TEST(damaged_backup)
{
    char name[LAYOUT_NAME_SIZE];

    put_segments(1, 1, 5);
    put_backup(RUN, 1, 2, 2);
    archive_replace(repository, layout_backup(RUN, name), "rubbish", 7);
    struct survey *survey = look();
    ck_assert_uint_eq(survey->damage_count, 1);
    ck_assert_uint_eq(survey->catalog->count, 0);
    survey_free(survey);
}
END_TEST

START_TEST(unusable_repository)
{
    struct survey *survey;

    memory_store_break(repository->store, true);
    ck_assert(!survey_read(repository, &survey, &err));
    ck_assert_int_eq(err.code, ERROR_STORE);
}
END_TEST

Suite *survey_suite(void)
{
    Suite *suite = suite_create("survey");
    TCase *tests = tcase_create("survey");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 30);
    tcase_add_test(tests, nothing_there);
    tcase_add_test(tests, wal_without_backup);
    tcase_add_test(tests, one_timeline);
    tcase_add_test(tests, a_gap_parts_the_windows);
    tcase_add_test(tests, backup_that_lacks_wal);
    tcase_add_test(tests, stop_on_a_border);
    tcase_add_test(tests, last_transaction);
    tcase_add_test(tests, promotion);
    tcase_add_test(tests, a_gap_before_the_promotion);
    tcase_add_test(tests, left_behind);
    tcase_add_test(tests, gaps_where_timelines_part);
    tcase_add_test(tests, old_wal_is_no_gap);
    tcase_add_test(tests, history_alone);
    tcase_add_test(tests, damaged_history);
    tcase_add_test(tests, damaged_last_segment);
    tcase_add_test(tests, damaged_backup);
    tcase_add_test(tests, unusable_repository);
    suite_add_tcase(suite, tests);
    return suite;
}
