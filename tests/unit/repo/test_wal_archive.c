#include "pgvigil/wal_archive.h"

#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgvigil/bytes.h"
#include "pgvigil/clock.h"
#include "pgvigil/layout.h"
#include "pgvigil/mem.h"
#include "pgvigil/object.h"
#include "suites.h"
#include "support/archive.h"
#include "support/memory_store.h"
#include "support/scratch.h"

#define SEGMENT "000000010000000000000005"
#define BACKUP_HISTORY "START WAL LOCATION: 0/500028 (file " SEGMENT ")\nLABEL: x\n"

static struct repository *repository;
static struct buffer segment, back;
static struct error err;
static enum wal_outcome outcome;

static void set_up(void)
{
    repository = archive_repository();
    archive_segment(&segment, ARCHIVE_SEGMENT_SIZE, 1, 5, ARCHIVE_SYSTEM, 1);
    error_clear(&err);
}

static void tear_down(void)
{
    buffer_free(&segment);
    buffer_free(&back);
    archive_free_repository(repository);
}

static bool store(const char *file, const void *data, size_t length)
{
    return archive_store(repository, file, data, length, &outcome, &err);
}

static bool append(const void *data, size_t length, void *context, struct error *unused)
{
    (void)unused;
    buffer_append(context, data, length);
    return true;
}

static bool fetch(const char *file)
{
    struct wal_name name;
    uint64_t length = 0;

    buffer_clear(&back);
    wal_parse_name(file, &name);
    bool ok = wal_archive_fetch(repository, &name, file, append, &back, &length, &err);
    ck_assert(!ok || length == back.length);
    return ok;
}

static void ck_kept(const char *file, const void *data, size_t length)
{
    ck_assert_msg(store(file, data, length), "%s", err.message);
    ck_assert_int_eq(outcome, WAL_STORED);
    ck_assert_msg(fetch(file), "%s", err.message);
    ck_assert_uint_eq(back.length, length);
    ck_assert(memcmp(back.data, data, length) == 0);
    ck_assert_msg(store(file, data, length), "%s", err.message);
    ck_assert_int_eq(outcome, WAL_ALREADY_THERE);
}

START_TEST(all_kinds_come_back)
{
    ck_kept(SEGMENT, segment.data, segment.length);
    ck_kept(SEGMENT ".partial", segment.data, segment.length);
    ck_kept(SEGMENT ".00000028.backup", BACKUP_HISTORY, strlen(BACKUP_HISTORY));
    ck_kept("00000002.history", "1\t0/500000\tno recovery target specified\n", 39);
    ck_assert(!fetch("000000010000000000000006"));
    ck_assert_int_eq(err.code, ERROR_NOT_FOUND);
    ck_assert(!fetch("000000010000000000000006.partial"));
    ck_assert_int_eq(err.code, ERROR_NOT_FOUND);
    ck_assert(!fetch("00000003.history"));
    ck_assert_int_eq(err.code, ERROR_NOT_FOUND);
}
END_TEST

START_TEST(sizes_from_one_to_sixty_four_megabytes)
{
    char name[WAL_NAME_SIZE];

    for (uint32_t size = 1024 * 1024; size <= 64u * 1024 * 1024; size *= 4) {
        uint64_t number = size / 1000; /* not the same name for each size */
        archive_segment(&segment, size, 1, number, ARCHIVE_SYSTEM, size);
        ck_kept(wal_segment_name(1, number, size, name), segment.data, segment.length);
    }
}
END_TEST

/* Promise 2: nothing is overwritten. */
START_TEST(another_content_is_refused)
{
    ck_assert(store(SEGMENT, segment.data, segment.length));
    segment.data[segment.length - 1] ^= 1;
    ck_assert(!store(SEGMENT, segment.data, segment.length));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_str_eq(err.message, "WAL segment \"" SEGMENT "\" is already in repository \"test\" "
                                  "with another content");
    ck_assert_ptr_nonnull(strstr(err.detail, "archived: 1048576 bytes, SHA-256 "));
    ck_assert_ptr_nonnull(strstr(err.detail, "this file: 1048576 bytes, SHA-256 "));
    ck_assert_uint_gt(strlen(err.detail), 2 * 64);
    ck_assert_uint_gt(strlen(err.hint), 0);
    ck_assert(fetch(SEGMENT));
    segment.data[segment.length - 1] ^= 1;
    ck_assert(memcmp(back.data, segment.data, segment.length) == 0);

    ck_assert(store("00000002.history", "1\t0/500000\tfirst\n", 17));
    ck_assert(!store("00000002.history", "1\t0/500000\tother\n", 17));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
}
END_TEST

START_TEST(partial_segments_do_not_conflict)
{
    ck_kept(SEGMENT ".partial", segment.data, segment.length);
    segment.data[segment.length - 1] ^= 1;
    ck_assert_msg(store(SEGMENT ".partial", segment.data, segment.length), "%s", err.message);
    ck_assert_int_eq(outcome, WAL_STORED);
    ck_assert(!fetch(SEGMENT ".partial"));
    ck_assert_int_eq(err.code, ERROR_USAGE);
    ck_assert_ptr_nonnull(strstr(err.message, "2 different"));
    ck_assert_ptr_nonnull(strstr(err.detail, ".zst, wal/"));
}
END_TEST

static void ck_refused(const char *file, const char *why)
{
    struct wal_name name;
    struct wal_ranges ranges;

    error_clear(&err);
    ck_assert_msg(!store(file, segment.data, segment.length), "%s", why);
    ck_assert_msg(err.code == ERROR_INTEGRITY, "%s", err.message);
    ck_assert_msg(strstr(err.message, why) != NULL, "%s", err.message);
    ck_assert_msg(strstr(err.message, file) != NULL, "%s", err.message);
    wal_parse_name(file, &name);
    ck_assert(wal_archive_ranges(repository, 0, &ranges, &err));
    ck_assert_uint_eq(ranges.count, 0);
    wal_archive_free_ranges(&ranges);
}

START_TEST(what_is_no_segment_is_refused)
{
    static const char *const names[] = {SEGMENT, SEGMENT ".partial"};
    const char *file = names[_i];

    segment.length -= 1;
    ck_refused(file, "it has 1048575 bytes, which is no size of a segment");
    segment.length = 0;
    ck_refused(file, "it has 0 bytes");
    segment.length = WAL_PAGE_SIZE;
    ck_refused(file, "it has 8192 bytes");

    archive_segment(&segment, 2 * ARCHIVE_SEGMENT_SIZE, 1, 5, ARCHIVE_SYSTEM, 1);
    segment.length = ARCHIVE_SEGMENT_SIZE;
    ck_refused(file, "it has 1048576 bytes, its header says 2097152");
    archive_segment(&segment, ARCHIVE_SEGMENT_SIZE, 1, 6, ARCHIVE_SYSTEM, 1);
    ck_refused(file, "it begins at 0/600000, which is not what its name says");
    archive_segment(&segment, ARCHIVE_SEGMENT_SIZE, 2, 5, ARCHIVE_SYSTEM, 1);
    ck_refused(file, "it is of timeline 2, its name of timeline 1");
    archive_segment(&segment, ARCHIVE_SEGMENT_SIZE, 1, 5, 42, 1);
    ck_refused(file, "belongs to another cluster (system identifier 42, expected "
                     "7300000000000000001)");
    archive_segment(&segment, ARCHIVE_SEGMENT_SIZE, 1, 5, ARCHIVE_SYSTEM, 1);
    bytes_put_u16(segment.data, 0xFFFF);
    ck_refused(file, "unknown magic number");
    memset(segment.data, 0, segment.length);
    ck_refused(file, "it begins with zeros");
}
END_TEST

/* The first segment after a promotion is a copy of the old timeline's, header and all. */
START_TEST(an_older_header_is_right)
{
    ck_kept("000000020000000000000005", segment.data, segment.length);
}
END_TEST

START_TEST(what_is_no_history_is_refused)
{
    char *large = mem_alloc(2 * 1024 * 1024);

    memset(large, '#', 2 * 1024 * 1024);
    ck_assert(!store("00000002.history", "hello\n", 6));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_ptr_nonnull(strstr(err.message, "00000002.history"));
    ck_assert(!store("00000002.history", "3\t0/500000\tx\n", 13));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert(!store("00000002.history", "", 0));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert(!store("00000002.history", large, 2 * 1024 * 1024));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert(store("00000002.history", large, 1024 * 1024));

    ck_assert(!store(SEGMENT ".00000028.backup", large, 64 * 1024));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    memcpy(large, BACKUP_HISTORY, strlen(BACKUP_HISTORY));
    ck_assert(!store(SEGMENT ".00000028.backup", large, 64 * 1024 + 1));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    large[1000] = '\0';
    ck_assert(!store(SEGMENT ".00000028.backup", large, 64 * 1024));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    large[1000] = '#';
    ck_assert(store(SEGMENT ".00000028.backup", large, 64 * 1024));
    free(large);

    ck_assert(!store("postgresql.conf", "x", 1));
    ck_assert_int_eq(err.code, ERROR_USAGE);
}
END_TEST

/* The length that the source claims is not the file's, as when it changes meanwhile. */
static bool store_with(int64_t difference, int64_t deadline)
{
    char *directory = scratch_make();
    char *path = archive_file(directory, SEGMENT, segment.data,
                              (size_t)((int64_t)segment.length + difference));
    struct wal_source source = {
        .file = SEGMENT, .path = path, .length = segment.length, .deadline = deadline};

    wal_parse_name(SEGMENT, &source.name);
    source.fd = open(path, O_RDONLY);
    bool ok = archive_store_source(repository, &source, &outcome, &err);
    close(source.fd);
    free(path);
    scratch_remove(directory);
    return ok;
}

START_TEST(a_file_that_changes_is_refused)
{
    bool exists;

    buffer_append(&segment, "x", 1);
    segment.length--;
    ck_assert(!store_with(-1, 0));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_ptr_nonnull(strstr(err.message, "changed while it was read"));
    ck_assert(!store_with(+1, 0));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_ptr_nonnull(strstr(err.message, "changed while it was read"));
    ck_assert(wal_archive_exists(repository, SEGMENT, &exists, &err));
    ck_assert(!exists);
    ck_assert(store_with(0, 0));
    ck_assert(wal_archive_exists(repository, SEGMENT, &exists, &err));
    ck_assert(exists);
}
END_TEST

START_TEST(the_deadline_counts)
{
    bool exists;

    ck_assert(!store_with(0, clock_monotonic() - 1));
    ck_assert_int_eq(err.code, ERROR_TIMEOUT);
    ck_assert(wal_archive_exists(repository, SEGMENT, &exists, &err));
    ck_assert(!exists);
    ck_assert(store_with(0, clock_monotonic() + 600 * CLOCK_SECOND));
}
END_TEST

START_TEST(a_damaged_object_is_neither_success_nor_overwritten)
{
    struct buffer bytes = BUFFER_INIT;
    char name[LAYOUT_NAME_SIZE];

    ck_assert(store(SEGMENT, segment.data, segment.length));
    layout_wal_segment(SEGMENT, name);
    archive_read(repository, name, &bytes);
    archive_replace(repository, name, bytes.data, bytes.length / 2);
    ck_assert(!store(SEGMENT, segment.data, segment.length));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_ptr_nonnull(strstr(err.hint, "move the damaged object away"));
    ck_assert(!fetch(SEGMENT));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    buffer_free(&bytes);
}
END_TEST

START_TEST(a_broken_store_is_no_absence)
{
    struct history history;
    struct wal_ranges ranges;
    uint32_t *timelines;
    uint64_t missing;
    size_t count;
    bool answer;

    archive_store_segment(repository, 1, 5);
    memory_store_break(repository->store, true);
    ck_assert(!store(SEGMENT, segment.data, segment.length) && err.code == ERROR_STORE);
    ck_assert(!fetch(SEGMENT) && err.code == ERROR_STORE);
    ck_assert(!fetch(SEGMENT ".partial") && err.code == ERROR_STORE);
    ck_assert(!wal_archive_exists(repository, SEGMENT, &answer, &err) && err.code == ERROR_STORE);
    ck_assert(!wal_archive_ranges(repository, 0, &ranges, &err) && err.code == ERROR_STORE);
    ck_assert(!wal_archive_ranges(repository, 1, &ranges, &err) && err.code == ERROR_STORE);
    ck_assert(!wal_archive_has_later(repository, 1, NULL, &answer, &err) &&
              err.code == ERROR_STORE);
    ck_assert(!wal_archive_timelines(repository, &timelines, &count, &err) &&
              err.code == ERROR_STORE);
    ck_assert(!wal_archive_history(repository, 2, &history, &answer, &err) &&
              err.code == ERROR_STORE);
    ck_assert(
        !wal_archive_complete(repository, 1, 5, 5, ARCHIVE_SEGMENT_SIZE, &answer, &missing, &err) &&
        err.code == ERROR_STORE);
    memory_store_break(repository->store, false);
}
END_TEST

/* An object that is whole, but of another segment than its name says. */
START_TEST(a_fetched_segment_is_checked_against_its_name)
{
    enum store_outcome stored;
    char name[LAYOUT_NAME_SIZE];

    ck_assert(object_put(repository, layout_wal_segment("000000010000000000000006", name),
                         TRAILER_WAL, OBJECT_ZSTD, 1, segment.data, segment.length, &stored, NULL,
                         &err));
    ck_assert(!fetch("000000010000000000000006"));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_ptr_nonnull(strstr(err.message, "does not hold that WAL segment"));
    ck_assert(object_put(repository, layout_wal_segment("000000010000000000000007", name),
                         TRAILER_WAL, OBJECT_ZSTD, 1, "short", 5, &stored, NULL, &err));
    ck_assert(!fetch("000000010000000000000007"));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
}
END_TEST

/* Things that lie around among the WAL and are none. */
static void litter(void)
{
    archive_replace(repository, "wal/README", "x", 1);
    archive_replace(repository, "wal/00000001/README", "x", 1);
    archive_replace(repository, "wal/00000001/0000000100000000/README", "x", 1);
    archive_replace(repository, "wal/00000009/zzz", "x", 1);
    archive_replace(repository, "wal/00000001/0000000100000000/0000000100000000FFFFFFFF.zst", "x",
                    1);
}

START_TEST(ranges_and_gaps)
{
    static const struct wal_range expected[] = {
        {1, 3, 5, 0, 0}, {1, 4095, 4096, 0, 0}, {1, 4098, 4098, 0, 0}, {3, 4098, 4098, 0, 0}};
    struct wal_ranges ranges;
    uint32_t *timelines;
    size_t count;

    ck_assert(wal_archive_ranges(repository, 0, &ranges, &err));
    ck_assert_uint_eq(ranges.segment_size, 0);
    ck_assert_uint_eq(ranges.count, 0);
    archive_store_segment(repository, 1, 3);
    archive_store_segment(repository, 1, 4);
    archive_store_segment(repository, 1, 5);
    archive_store_segment(repository, 1, 4095); /* the last one of a folder: 1 MB has 4096 in it */
    archive_store_segment(repository, 1, 4096);
    archive_store_segment(repository, 1, 4098);
    archive_store_segment(repository, 3, 4098);
    archive_store_history(repository, 2, "1\t0/500000\tx\n");
    ck_assert(store(SEGMENT ".partial", segment.data, segment.length));
    ck_assert(store(SEGMENT ".00000028.backup", BACKUP_HISTORY, strlen(BACKUP_HISTORY)));
    litter();

    ck_assert_msg(wal_archive_ranges(repository, 0, &ranges, &err), "%s", err.message);
    ck_assert_uint_eq(ranges.segment_size, ARCHIVE_SEGMENT_SIZE);
    ck_assert_uint_eq(ranges.count, 4);
    for (size_t i = 0; i < ranges.count; i++) {
        ck_assert_uint_eq(ranges.ranges[i].timeline, expected[i].timeline);
        ck_assert_uint_eq(ranges.ranges[i].first, expected[i].first);
        ck_assert_uint_eq(ranges.ranges[i].last, expected[i].last);
        ck_assert_uint_gt(ranges.ranges[i].stored_bytes, 100000);
    }
    wal_archive_free_ranges(&ranges);
    ck_assert(wal_archive_ranges(repository, 3, &ranges, &err));
    ck_assert_uint_eq(ranges.count, 1);
    wal_archive_free_ranges(&ranges);
    ck_assert(wal_archive_ranges(repository, 2, &ranges, &err));
    ck_assert_uint_eq(ranges.count, 0);

    ck_assert(wal_archive_timelines(repository, &timelines, &count, &err));
    ck_assert_uint_eq(count, 3);
    for (size_t i = 0; i < count; i++)
        ck_assert_uint_eq(timelines[i], i + 1);
    free(timelines);
}
END_TEST

START_TEST(segments_of_two_sizes_are_not_mixed_up)
{
    struct wal_ranges ranges;

    archive_store_segment(repository, 1, 3);
    archive_segment(&segment, 2 * ARCHIVE_SEGMENT_SIZE, 2, 5, ARCHIVE_SYSTEM, 1);
    ck_assert(store("000000020000000000000005", segment.data, segment.length));
    ck_assert(!wal_archive_ranges(repository, 0, &ranges, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert(wal_archive_ranges(repository, 2, &ranges, &err));
    ck_assert_uint_eq(ranges.segment_size, 2 * ARCHIVE_SEGMENT_SIZE);
    wal_archive_free_ranges(&ranges);
}
END_TEST

START_TEST(later_segments)
{
    bool has;

    ck_assert(wal_archive_has_later(repository, 1, NULL, &has, &err) && !has);
    ck_assert(store(SEGMENT ".partial", segment.data, segment.length));
    ck_assert(store(SEGMENT ".00000028.backup", BACKUP_HISTORY, strlen(BACKUP_HISTORY)));
    archive_store_segment(repository, 2, 7);
    ck_assert(wal_archive_has_later(repository, 1, NULL, &has, &err) && !has);
    archive_store_segment(repository, 1, 5);
    ck_assert(wal_archive_has_later(repository, 1, NULL, &has, &err) && has);
    ck_assert(wal_archive_has_later(repository, 1, "000000010000000000000004", &has, &err) && has);
    ck_assert(wal_archive_has_later(repository, 1, SEGMENT, &has, &err) && !has);
    archive_store_segment(repository, 1, 9999);
    ck_assert(wal_archive_has_later(repository, 1, SEGMENT, &has, &err) && has);
    ck_assert_int_eq(err.code, ERROR_NONE);
}
END_TEST

static bool complete(uint64_t first, uint64_t last, uint64_t *missing)
{
    bool answer;

    ck_assert_msg(wal_archive_complete(repository, 1, first, last, ARCHIVE_SEGMENT_SIZE, &answer,
                                       missing, &err),
                  "%s", err.message);
    ck_assert_int_eq(err.code, ERROR_NONE);
    return answer;
}

START_TEST(what_is_missing)
{
    uint64_t missing;

    ck_assert(!complete(0, 3, &missing) && missing == 0);
    archive_store_segment(repository, 1, 4094);
    archive_store_segment(repository, 1, 4095);
    archive_store_segment(repository, 1, 4096);
    archive_store_segment(repository, 1, 4098);
    litter();
    ck_assert(complete(4094, 4096, &missing));
    ck_assert(complete(4095, 4095, &missing));
    ck_assert(!complete(4094, 4098, &missing) && missing == 4097);
    ck_assert(!complete(4093, 4096, &missing) && missing == 4093);
    ck_assert(!complete(4098, 4099, &missing) && missing == 4099);
    ck_assert(!complete(0, 4096, &missing) && missing == 0);
    ck_assert(complete(5, 4, &missing));
}
END_TEST

START_TEST(histories)
{
    struct history history;
    bool known;

    ck_assert(wal_archive_history(repository, 1, &history, &known, &err));
    ck_assert(!known);
    ck_assert_uint_eq(history.count, 1);
    history_free(&history);
    ck_assert(wal_archive_history(repository, 3, &history, &known, &err));
    ck_assert(!known);
    ck_assert_int_eq(err.code, ERROR_NONE);
    ck_assert_uint_eq(history.count, 1);
    history_free(&history);
    archive_store_history(repository, 3, "1\t0/500000\tx\n2\t0/700000\ty\n");
    ck_assert(wal_archive_history(repository, 3, &history, &known, &err));
    ck_assert(known);
    ck_assert_uint_eq(history.count, 3);
    ck_assert_uint_eq(history_switch_lsn(&history, 2), 0x700000);
    history_free(&history);
}
END_TEST

Suite *wal_archive_suite(void)
{
    Suite *suite = suite_create("wal_archive");
    TCase *tests = tcase_create("wal_archive");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, all_kinds_come_back);
    tcase_add_test(tests, sizes_from_one_to_sixty_four_megabytes);
    tcase_add_test(tests, another_content_is_refused);
    tcase_add_test(tests, partial_segments_do_not_conflict);
    tcase_add_loop_test(tests, what_is_no_segment_is_refused, 0, 2);
    tcase_add_test(tests, an_older_header_is_right);
    tcase_add_test(tests, what_is_no_history_is_refused);
    tcase_add_test(tests, a_file_that_changes_is_refused);
    tcase_add_test(tests, the_deadline_counts);
    tcase_add_test(tests, a_damaged_object_is_neither_success_nor_overwritten);
    tcase_add_test(tests, a_broken_store_is_no_absence);
    tcase_add_test(tests, a_fetched_segment_is_checked_against_its_name);
    tcase_add_test(tests, ranges_and_gaps);
    tcase_add_test(tests, segments_of_two_sizes_are_not_mixed_up);
    tcase_add_test(tests, later_segments);
    tcase_add_test(tests, what_is_missing);
    tcase_add_test(tests, histories);
    suite_add_tcase(suite, tests);
    return suite;
}
