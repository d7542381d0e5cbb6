/* test_control.c - global/pg_control */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgvigil/bytes.h"
#include "pgvigil/clock.h"
#include "pgvigil/control.h"
#include "pgvigil/crc32c.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "suites.h"
#include "support/scratch.h"

static void seal(unsigned char bytes[CONTROL_FILE_SIZE])
{
    size_t crc_at = bytes_get_u32(bytes + 8) == 1800 ? 292 : 288;

    bytes_put_u32(bytes + crc_at, crc32c(0, bytes, crc_at));
}

static void build(unsigned char bytes[CONTROL_FILE_SIZE], uint32_t version, uint32_t catalog)
{
    memset(bytes, 0, CONTROL_FILE_SIZE);
    bytes_put_u64(bytes, UINT64_C(0xF123456789ABCDEF));
    bytes_put_u32(bytes + 8, version);
    bytes_put_u32(bytes + 12, catalog);
    bytes_put_u32(bytes + 16, CONTROL_IN_PRODUCTION);
    bytes_put_u64(bytes + 32, UINT64_C(0x1200000058));
    bytes_put_u64(bytes + 40, UINT64_C(0x1200000028));
    bytes_put_u32(bytes + 48, 7);
    bytes_put_u64(bytes + 104, 1800000000);
    bytes_put_u32(bytes + 180, 100);
    bytes_put_u32(bytes + 184, 8);
    bytes_put_u32(bytes + 188, 10);
    bytes_put_u32(bytes + 192, 2);
    bytes_put_u32(bytes + 196, 64);
    bytes_put_u32(bytes + 216, 8192);
    bytes_put_u32(bytes + 220, 131072);
    bytes_put_u32(bytes + 224, 8192);
    bytes_put_u32(bytes + 228, 16 * 1024 * 1024);
    bytes_put_u32(bytes + 252, 1);
    seal(bytes);
}

static const struct {
    uint32_t version;
    uint32_t catalog;
    int major;
} releases[] = {
    {1300, 202209061, 15}, {1300, 202307071, 16}, {1700, 202406281, 17},
    {1800, 202506291, 18}, {1800, 202512311, 0},
};

START_TEST(test_fields)
{
    unsigned char bytes[CONTROL_FILE_SIZE];
    struct error err = ERROR_INIT;
    struct control control;

    build(bytes, releases[_i].version, releases[_i].catalog);
    ck_assert_msg(control_parse(bytes, sizeof bytes, &control, &err), "%s", err.message);
    ck_assert_uint_eq(control.system_identifier, UINT64_C(0xF123456789ABCDEF));
    ck_assert_uint_eq(control.control_version, releases[_i].version);
    ck_assert_uint_eq(control.catalog_version, releases[_i].catalog);
    ck_assert_int_eq(control.major, releases[_i].major);
    ck_assert_int_eq(control.state, CONTROL_IN_PRODUCTION);
    ck_assert_uint_eq(control.checkpoint_lsn, UINT64_C(0x1200000058));
    ck_assert_uint_eq(control.redo_lsn, UINT64_C(0x1200000028));
    ck_assert_uint_eq(control.timeline, 7);
    ck_assert_int_eq(control.checkpoint_time, 1800000000 * CLOCK_SECOND);
    ck_assert_uint_eq(control.wal_segment_size, 16 * 1024 * 1024);
    ck_assert_uint_eq(control.block_size, 8192);
    ck_assert_uint_eq(control.wal_block_size, 8192);
    ck_assert_uint_eq(control.relation_segment_blocks, 131072);
    ck_assert_uint_eq(control.checksum_version, 1);
    ck_assert_int_eq(control.max_connections, 100);
    ck_assert_int_eq(control.max_worker_processes, 8);
    ck_assert_int_eq(control.max_wal_senders, 10);
    ck_assert_int_eq(control.max_prepared_xacts, 2);
    ck_assert_int_eq(control.max_locks_per_xact, 64);
}
END_TEST

/* One wrong bit anywhere before the CRC's end is seen, and nothing behind it matters. */
START_TEST(test_each_bit)
{
    size_t end = releases[_i].version == 1800 ? 296 : 292;
    unsigned char bytes[CONTROL_FILE_SIZE];
    struct error err = ERROR_INIT;
    struct control control;

    build(bytes, releases[_i].version, releases[_i].catalog);
    for (size_t bit = 0; bit < end * 8; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
        ck_assert_msg(!control_parse(bytes, sizeof bytes, &control, &err), "bit %zu", bit);
        ck_assert_int_eq(err.code, ERROR_INTEGRITY);
        bytes[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    bytes[end] ^= 1;
    ck_assert(control_parse(bytes, sizeof bytes, &control, &err));
    ck_assert(control_parse(bytes, end, &control, &err));
    for (size_t length = 0; length < end; length++) {
        ck_assert_msg(!control_parse(bytes, length, &control, &err), "length %zu", length);
    }
}
END_TEST

static void expect_refused(const unsigned char *bytes, const char *part)
{
    struct error err = ERROR_INIT;
    struct control control;

    ck_assert(!control_parse(bytes, CONTROL_FILE_SIZE, &control, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_msg(strstr(err.message, part) != NULL, "%s", err.message);
}

START_TEST(test_refused)
{
    unsigned char bytes[CONTROL_FILE_SIZE];

    build(bytes, 1201, 201909212);
    expect_refused(bytes, "unknown version 1201");
    build(bytes, 1300, 202107181);
    expect_refused(bytes, "before version 15");
    build(bytes, 0x14050000, 202209061);
    expect_refused(bytes, "byte order");
    build(bytes, 1300, 202209061);
    bytes_put_u32(bytes + 228, 0);
    seal(bytes);
    expect_refused(bytes, "values that no server writes");
    build(bytes, 1300, 202209061);
    bytes_put_u32(bytes + 220, 0);
    seal(bytes);
    expect_refused(bytes, "values that no server writes");
    build(bytes, 1300, 202209061);
    bytes_put_u32(bytes + 16, 7);
    seal(bytes);
    expect_refused(bytes, "values that no server writes");
}
END_TEST

static void expect_no_directory(const char *directory, const char *why)
{
    struct error err = ERROR_INIT;
    struct control control;

    ck_assert(!control_read(directory, &control, NULL, NULL, &err));
    ck_assert_int_eq(err.code, ERROR_NOT_FOUND);
    char *message =
        mem_printf("directory \"%s\" is not a PostgreSQL data directory: %s", directory, why);
    ck_assert_str_eq(err.message, message);
    free(message);
}

START_TEST(test_read)
{
    char *directory = scratch_make();
    char *global = files_join(directory, "global");
    char *path = files_join(directory, CONTROL_PATH);
    char *absent = files_join(directory, "absent");
    unsigned char bytes[CONTROL_FILE_SIZE];
    unsigned char got[CONTROL_FILE_SIZE];
    struct error err = ERROR_INIT;
    struct control control;
    size_t length = 0;

    expect_no_directory(absent, "it does not exist");
    expect_no_directory(directory, "it has no file global/pg_control");
    ck_assert_int_eq(mkdir(global, 0700), 0);
    build(bytes, 1300, 202209061);
    ck_assert(files_write(path, bytes, sizeof bytes, 0600, &err));
    expect_no_directory(path, "it is not a directory");
    ck_assert_msg(control_read(directory, &control, got, &length, &err), "%s", err.message);
    ck_assert_uint_eq(length, sizeof bytes);
    ck_assert_mem_eq(got, bytes, sizeof bytes);
    ck_assert(control_read(directory, &control, NULL, NULL, &err));
    ck_assert_int_eq(control.major, 15);

    bytes[40] ^= 1;
    ck_assert(files_write(path, bytes, sizeof bytes, 0600, &err));
    int64_t before = clock_monotonic();
    ck_assert(!control_read(directory, &control, NULL, NULL, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_ptr_nonnull(strstr(err.message, path));
    ck_assert_ptr_nonnull(strstr(err.message, "checksum"));
    ck_assert_int_ge(clock_monotonic() - before, CLOCK_SECOND);
    free(absent);
    free(path);
    free(global);
    scratch_remove(directory);
}
END_TEST

Suite *control_suite(void)
{
    const int count = (int)(sizeof releases / sizeof releases[0]);
    Suite *suite = suite_create("control");
    TCase *tests = tcase_create("control");

    tcase_add_loop_test(tests, test_fields, 0, count);
    tcase_add_loop_test(tests, test_each_bit, 0, count);
    tcase_add_test(tests, test_refused);
    tcase_add_test(tests, test_read);
    suite_add_tcase(suite, tests);
    return suite;
}
