/* Which backup serves a target, and what is refused: cases that no healthy server makes. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "job/restore_target.h"
#include "pgvigil/layout.h"
#include "suites.h"
#include "support/archive.h"
#include "support/wal_builder.h"

#define SEGMENT ((uint64_t)ARCHIVE_SEGMENT_SIZE)
#define OTHER_SYSTEM (ARCHIVE_SYSTEM + 5)
#define NOON (INT64_C(1800000000) * 1000000)
#define PAST (INT64_C(1700000000) * 1000000) /* whatever the clock says */
#define MINUTE (INT64_C(60) * 1000000)

static struct repository *repository;
static struct wal_builder wal;
static struct restore_request request;
static struct restore_target_choice choice;
static struct error err;

static void start_wal(uint32_t timeline, uint64_t segment)
{
    buffer_free(&wal.bytes);
    wal_builder_start(&wal, 15, ARCHIVE_SEGMENT_SIZE, segment * SEGMENT);
    wal.system_identifier = repository->system_identifier;
    wal.timeline = timeline;
}

static void set_up(void)
{
    repository = archive_repository();
    request = (struct restore_request){.target = RESTORE_LATEST};
    choice = (struct restore_target_choice){.backup = NULL};
    start_wal(1, 2);
    error_clear(&err);
}

static void tear_down(void)
{
    restore_target_free(&choice);
    buffer_free(&wal.bytes);
    archive_free_repository(repository);
}

static void store_wal(void)
{
    wal_builder_pad(&wal);
    for (size_t at = 0; at < wal.bytes.length; at += SEGMENT) {
        char file[WAL_NAME_SIZE];
        enum wal_outcome outcome;

        wal_segment_name(wal.timeline, (wal.start + at) / SEGMENT, ARCHIVE_SEGMENT_SIZE, file);
        ck_assert_msg(archive_store(repository, file, wal.bytes.data + at, SEGMENT, &outcome, &err),
                      "%s", err.message);
    }
}

static void next_segment(void)
{
    wal_builder_switch(&wal);
}

static void add_backup(int64_t run, uint64_t start_lsn, uint64_t stop_lsn, int64_t stop_time)
{
    static char host[] = "h", directory[] = "/d";
    const struct backup_info info = {.run = run,
                                     .system_identifier = repository->system_identifier,
                                     .version_num = 150018,
                                     .timeline = wal.timeline,
                                     .start_lsn = start_lsn,
                                     .stop_lsn = stop_lsn,
                                     .start_time = stop_time - MINUTE,
                                     .stop_time = stop_time,
                                     .wal_segment_size = ARCHIVE_SEGMENT_SIZE,
                                     .host = host,
                                     .data_directory = directory};

    ck_assert_msg(backup_info_store(repository, &info, &err), "%s", err.message);
}

/* A backup of some records in the WAL being built. */
static uint64_t make_backup(int64_t run, int64_t stop_time)
{
    const uint64_t start_lsn = wal_builder_filler(&wal, 100);
    uint64_t stop_lsn;

    wal_builder_filler(&wal, 100);
    stop_lsn = wal_builder_position(&wal);
    add_backup(run, start_lsn, stop_lsn, stop_time);
    return stop_lsn;
}

static bool choose(void)
{
    restore_target_free(&choice);
    error_clear(&err);
    return restore_target_choose(repository, &request, 2, &choice, &err);
}

static void check_chosen(int64_t run)
{
    ck_assert_msg(choose(), "%s (%s)", err.message, err.detail);
    ck_assert_int_eq(choice.backup->run, run);
}

static void check_refused(const char *says)
{
    ck_assert(!choose());
    ck_assert_int_eq(err.code, ERROR_NEGATIVE);
    ck_assert_msg(strstr(err.message, says) != NULL, "%s", err.message);
    ck_assert_msg(err.hint[0] != '\0', "no hint: %s", err.message);
}

START_TEST(two_clusters_of_one_name)
{
    make_backup(1000, NOON);
    wal_builder_commit(&wal, 5, NOON + MINUTE);
    store_wal();
    repository_select(repository, OTHER_SYSTEM);
    start_wal(1, 2);
    make_backup(2000, NOON + 10 * MINUTE);
    wal_builder_commit(&wal, 5, NOON + 11 * MINUTE);
    store_wal();

    check_chosen(2000);
    ck_assert_uint_eq(repository->system_identifier, OTHER_SYSTEM);
    request.backup = 1000;
    check_chosen(1000);
    ck_assert_uint_eq(repository->system_identifier, ARCHIVE_SYSTEM);
    request.backup = 0;
    request.target = RESTORE_TIME;
    request.time = NOON + MINUTE - 1;
    check_chosen(1000);
    request.time = NOON + 10 * MINUTE + 1;
    check_chosen(2000);
    /* The newest backup before it decides on the cluster, whether or not that gets there. */
    request.time = NOON + 5 * MINUTE;
    check_refused("ends before it");
}
END_TEST

START_TEST(nothing_there)
{
    check_refused("there is no backup of cluster \"main\"");
    make_backup(1000, NOON);
    check_refused("holds no WAL");
    request.backup = 7;
    check_refused("there is no backup");
}
END_TEST

/* A transaction that ended before the backup did bears a later time: recovery would stop at it,
 * before it is consistent. */
START_TEST(a_clock_that_was_wrong)
{
    make_backup(1000, NOON);
    wal_builder_commit(&wal, 5, NOON + MINUTE);
    next_segment();
    const uint64_t start_lsn = wal_builder_filler(&wal, 100);
    wal_builder_commit(&wal, 6, NOON + 20 * MINUTE);
    wal_builder_filler(&wal, 100);
    add_backup(2000, start_lsn, wal_builder_position(&wal), NOON + 10 * MINUTE);
    wal_builder_commit(&wal, 7, NOON + 30 * MINUTE);
    store_wal();

    request.target = RESTORE_TIME;
    request.time = NOON + 15 * MINUTE;
    check_chosen(1000);
    request.backup = 2000;
    check_refused("before the end of backup");
    request.backup = 0;
    request.time = NOON + 25 * MINUTE;
    check_chosen(2000);
}
END_TEST

START_TEST(bounds_of_time)
{
    make_backup(1000, NOON);
    wal_builder_commit(&wal, 5, NOON + MINUTE);
    store_wal();
    request.target = RESTORE_TIME;
    request.time = NOON;
    check_chosen(1000);
    request.bound = RESTORE_EXCLUSIVE;
    check_refused("no backup ended before it");
    request.time = NOON + MINUTE;
    check_chosen(1000);
    request.bound = RESTORE_INCLUSIVE; /* nothing later tells recovery that it is there */
    check_refused("ends before it");
}
END_TEST

START_TEST(the_newest_transaction_of_a_number)
{
    make_backup(1000, NOON);
    wal_builder_commit(&wal, 50, NOON);
    next_segment();
    make_backup(2000, NOON + MINUTE);
    wal_builder_abort(&wal, 50, NOON + MINUTE);
    next_segment();
    make_backup(3000, NOON + 2 * MINUTE);
    wal_builder_commit(&wal, 51, NOON + 2 * MINUTE);
    store_wal();
    request.target = RESTORE_XID;
    request.xid = 50;
    check_chosen(2000);
    request.backup = 3000;
    check_refused("there is no transaction 50");
    request.xid = 51;
    check_chosen(3000);
}
END_TEST

START_TEST(lsn_at_the_borders)
{
    const uint64_t stop = make_backup(1000, NOON);
    uint64_t last;

    last = wal_builder_commit(&wal, 5, NOON);
    store_wal();
    request.target = RESTORE_LSN;
    request.lsn = stop;
    check_chosen(1000);
    request.lsn = stop - 1;
    check_refused("before the end of backup");
    request.lsn = last;
    check_chosen(1000);
    request.lsn = last + 1;
    check_refused("ends before it");
    request.lsn = UINT64_MAX;
    check_refused("ends before it");
    request.lsn = 0;
    check_refused("before the end of backup");
}
END_TEST

/* The server's timeline began elsewhere, and its history file was never archived. */
START_TEST(a_timeline_without_history)
{
    start_wal(3, 2);
    make_backup(1000, NOON);
    wal_builder_commit(&wal, 5, NOON);
    store_wal();
    check_chosen(1000);
    ck_assert_uint_eq(choice.timeline, 3);
    ck_assert_int_eq(choice.follow, RESTORE_TARGET_CURRENT);
    archive_store_history(repository, 3, "1\t0/100000\tx\n");
    check_chosen(1000);
    ck_assert_int_eq(choice.follow, RESTORE_TARGET_NUMBER);
}
END_TEST

/* Timeline 2 left timeline 1 before the backup of that ended. */
START_TEST(a_backup_that_is_no_ancestor)
{
    make_backup(1000, NOON);
    next_segment();
    const uint64_t stop = make_backup(2000, NOON + MINUTE);
    char history[64], lsn[WAL_LSN_TEXT_SIZE];

    wal_builder_commit(&wal, 5, NOON + 2 * MINUTE);
    store_wal();
    snprintf(history, sizeof history, "1\t%s\tx\n", wal_format_lsn(stop - 8, lsn));
    archive_store_history(repository, 2, history);
    start_wal(2, 3);
    wal_builder_commit(&wal, 6, NOON + 3 * MINUTE);
    store_wal();

    check_chosen(1000);
    ck_assert_uint_eq(choice.timeline, 2);
    request.backup = 2000;
    check_chosen(2000);
    ck_assert_uint_eq(choice.timeline, 1);
    request.timeline = 2;
    check_refused("no fitting backup lies on it");
    request.backup = 0;
    request.timeline = 1;
    check_chosen(2000);
    request.timeline = 0;
    request.target = RESTORE_IMMEDIATE; /* the newest on the latest timeline; its own is enough */
    check_chosen(1000);
    ck_assert_uint_eq(choice.timeline, 1);
    request.timeline = 9;
    check_refused("no timeline 9");
}
END_TEST

static void check_current(int minutes, const char *says)
{
    request.time = PAST + minutes * MINUTE;
    ck_assert(!choose());
    ck_assert_msg(err.code == ERROR_NEGATIVE, "%s", err.message);
    ck_assert_msg(says ? strncmp(err.hint, says, strlen(says)) == 0
                       : strstr(err.hint, "was written") == NULL,
                  "%d: %s", minutes, err.hint);
}

static void store_fork(uint32_t timeline, uint32_t parent, uint64_t at)
{
    char history[64], lsn[WAL_LSN_TEXT_SIZE];

    snprintf(history, sizeof history, "%u\t%s\tx\n", parent, wal_format_lsn(at, lsn));
    archive_store_history(repository, timeline, history);
}

/*
 * Timeline 3 left timeline 1 before timeline 2 did, which was made first:
 *
 *     1 --backup--3min--+--10min--+--last
 *                       |         +-- 2
 *                       +-- 3
 */
static void make_forks(int last)
{
    make_backup(1000, PAST);
    wal_builder_commit(&wal, 5, PAST + 3 * MINUTE);
    next_segment();
    store_fork(3, 1, wal_builder_position(&wal));
    wal_builder_commit(&wal, 6, PAST + 10 * MINUTE);
    next_segment();
    store_fork(2, 1, wal_builder_position(&wal));
    wal_builder_commit(&wal, 7, PAST + last * MINUTE);
    store_wal();
    start_wal(2, wal_builder_position(&wal) / SEGMENT - 1);
}

START_TEST(a_timeline_beside_the_path)
{
    make_forks(20);
    wal_builder_commit(&wal, 7, PAST + 30 * MINUTE);
    wal_builder_commit(&wal, 8, PAST + 40 * MINUTE);
    store_wal();

    request.target = RESTORE_TIME;
    check_current(5, NULL);
    check_current(15, "timeline 1 was written at that moment");
    check_current(35, "timeline 2 was written at that moment");
    check_current(45, "timeline 2 was written at that moment");
}
END_TEST

/* Timeline 2 was given up soon, and timeline 1 went on; timeline 3 goes back before both. */
START_TEST(a_timeline_that_was_given_up)
{
    make_forks(30);
    wal_builder_commit(&wal, 7, PAST + 12 * MINUTE);
    store_wal();

    request.target = RESTORE_TIME;
    check_current(20, "timeline 1 was written at that moment");
}
END_TEST

static void check_hint(const char *first, const char *second)
{
    const char *found;

    ck_assert(!choose());
    found = strstr(err.hint, first);
    ck_assert_msg(found != NULL && strstr(found, second) != NULL, "%s", err.hint);
}

/* What the server did not archive yet comes first: without a target, that would be lost. */
START_TEST(more_than_is_archived)
{
    const char *server = "`SELECT pg_switch_wal()` on the server archives what it has written "
                         "since, from 000000010000000000000003 on: then run the restore again";
    const char *last = "; if there is no more, a restore without a target";
    uint64_t fork;

    make_backup(1000, PAST);
    store_wal();
    request.target = RESTORE_TIME;
    request.time = PAST + 5 * MINUTE;
    check_hint(server, last);
    start_wal(1, 3);
    wal_builder_commit(&wal, 5, PAST + 3 * MINUTE);
    fork = wal_builder_position(&wal);
    wal_builder_filler(&wal, 100);
    store_wal();
    check_hint("SELECT pg_switch_wal()", last);
    request.timeline = 1;
    check_hint("from 000000010000000000000004 on", last);
    ck_assert(strncmp(err.hint, "`SELECT", strlen("`SELECT")) == 0);
    request.target = RESTORE_LSN;
    request.lsn = UINT64_MAX;
    check_hint("SELECT pg_switch_wal()", last);

    store_fork(2, 1, fork);
    check_hint("timeline 1 is not the newest", "pg_wal/before-*");
    check_hint("from 000000010000000000000004 on",
               "; if there is no more, --target-timeline 1 without a target");
    ck_assert_msg(strstr(err.hint, "pg_switch_wal") == NULL, "%s", err.hint);
    request.target = RESTORE_TIME;
    check_hint("timeline 1 is not the newest", "--target-timeline 1 without a target");
}
END_TEST

static void check_seam(size_t i, const char *file, const char *from, uint32_t bytes)
{
    const struct restore_seam *seam = &choice.seams.seams[i];

    ck_assert_uint_lt(i, choice.seams.count);
    ck_assert_str_eq(seam->file, file);
    ck_assert_str_eq(seam->from, from);
    ck_assert_uint_eq(seam->bytes, bytes);
}

/* Two forks in one segment, one between two segments, one in the next but one; and one whose WAL is not there. */
START_TEST(segments_in_which_the_path_forks)
{
    const char *forks = "1\t0/300100\tx\n2\t0/300200\tx\n4\t0/400000\tx\n5\t0/500010\tx\n";
    char more[256];

    make_backup(1000, NOON);
    store_wal();
    for (uint32_t timeline = 4; timeline <= 6; timeline++) {
        start_wal(timeline, timeline - 1);
        if (timeline < 6)
            wal_builder_commit(&wal, timeline, NOON + timeline * MINUTE);
        else
            make_backup(2000, NOON + timeline * MINUTE);
        store_wal();
    }
    archive_store_history(repository, 6, forks);
    snprintf(more, sizeof more, "%s6\t0/700010\tx\n", forks);
    archive_store_history(repository, 7, more);

    ck_assert_uint_eq(SEGMENT, 0x100000);
    request.timeline = 6;
    check_chosen(2000);
    ck_assert_uint_eq(choice.seams.count, 0);
    request.backup = 1000;
    request.target = RESTORE_LSN;
    request.lsn = choice.backup->start_lsn;
    for (request.timeline = 6; request.timeline <= 7; request.timeline++) {
        check_chosen(1000);
        ck_assert_uint_eq(choice.seams.count, 3);
        check_seam(0, "000000010000000000000003", "000000040000000000000003", 0x100);
        check_seam(1, "000000020000000000000003", "000000040000000000000003", 0x200);
        check_seam(2, "000000050000000000000005", "000000060000000000000005", 0x10);
    }
    request.timeline = 1;
    request.target = RESTORE_IMMEDIATE;
    check_chosen(1000);
    ck_assert_uint_eq(choice.seams.count, 0);
}
END_TEST

Suite *restore_target_suite(void)
{
    Suite *suite = suite_create("restore_target");
    TCase *tests = tcase_create("restore_target");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, two_clusters_of_one_name);
    tcase_add_test(tests, more_than_is_archived);
    tcase_add_test(tests, nothing_there);
    tcase_add_test(tests, a_clock_that_was_wrong);
    tcase_add_test(tests, bounds_of_time);
    tcase_add_test(tests, the_newest_transaction_of_a_number);
    tcase_add_test(tests, lsn_at_the_borders);
    tcase_add_test(tests, a_timeline_without_history);
    tcase_add_test(tests, a_backup_that_is_no_ancestor);
    tcase_add_test(tests, a_timeline_beside_the_path);
    tcase_add_test(tests, a_timeline_that_was_given_up);
    tcase_add_test(tests, segments_in_which_the_path_forks);
    suite_add_tcase(suite, tests);
    return suite;
}
