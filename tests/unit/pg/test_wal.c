/* test_wal.c - WAL file names, positions and page headers */
#include <check.h>
#include <string.h>

#include "pgvigil/bytes.h"
#include "pgvigil/wal.h"
#include "suites.h"
#include "support/wal_builder.h"

START_TEST(test_names)
{
    struct wal_name name;

    ck_assert_int_eq(wal_parse_name("0000000A0000001B000000FF", &name), WAL_SEGMENT);
    ck_assert_uint_eq(name.timeline, 0xA);
    ck_assert_uint_eq(name.log, 0x1B);
    ck_assert_uint_eq(name.seg, 0xFF);
    ck_assert_int_eq(wal_parse_name("0000000A0000001B000000FF.partial", &name), WAL_PARTIAL);
    ck_assert_int_eq(wal_parse_name("0000000A0000001B000000FF.0000C028.backup", &name),
                     WAL_BACKUP_HISTORY);
    ck_assert_uint_eq(name.offset, 0xC028);
    ck_assert_int_eq(wal_parse_name("FFFFFFFF.history", &name), WAL_HISTORY);
    ck_assert_uint_eq(name.timeline, UINT32_MAX);
    ck_assert_int_eq(name.kind, WAL_HISTORY);
}
END_TEST

START_TEST(test_other_names)
{
    static const char *const names[] = {
        "",
        "RECOVERYXLOG",
        "0000000A0000001B000000F",
        "0000000A0000001B000000FF0",
        "0000000a0000001B000000FF",
        "0000000A0000001B000000FF.",
        "0000000A0000001B000000FF.part",
        "0000000A0000001B000000FF.partial.gz",
        "0000000A0000001B000000FF.0000C028",
        "0000000A0000001B000000FF.0000C02.backup",
        "0000000A0000001B000000FF.backup",
        "0000000A.histor",
        "0000000A.history.tmp",
        "A.history",
        "00000000.history",
        "000000000000001B000000FF",
        " 0000000A0000001B000000FF",
        "../../../00000001.history",
    };
    struct wal_name name;

    ck_assert_int_eq(wal_parse_name(names[_i], &name), WAL_NOT_A_WAL_FILE);
    ck_assert_int_eq(name.kind, WAL_NOT_A_WAL_FILE);
}
END_TEST

START_TEST(test_segments)
{
    char text[WAL_NAME_SIZE];
    struct wal_name name;

    ck_assert_str_eq(wal_segment_name(2, 0x1FF, 16 << 20, text), "0000000200000001000000FF");
    ck_assert_int_eq(wal_parse_name(text, &name), WAL_SEGMENT);
    ck_assert_uint_eq(wal_segment_number(&name, 16 << 20), 0x1FF);
    ck_assert_str_eq(wal_segment_name(2, 4096, 1 << 20, text), "000000020000000100000000");
    ck_assert_str_eq(wal_segment_name(2, 7, 1 << 30, text), "000000020000000100000003");
    ck_assert_int_eq(wal_parse_name(text, &name), WAL_SEGMENT);
    ck_assert_uint_eq(wal_segment_number(&name, 1 << 30), 7);
    ck_assert_str_eq(wal_history_name(0x1A, text), "0000001A.history");
    ck_assert(wal_segment_size_valid(1 << 20));
    ck_assert(wal_segment_size_valid(1 << 30));
    ck_assert(!wal_segment_size_valid(0));
    ck_assert(!wal_segment_size_valid(1 << 19));
    ck_assert(!wal_segment_size_valid(3 << 20));
    ck_assert(!wal_segment_size_valid(UINT64_C(1) << 31));
    ck_assert(!wal_segment_size_valid(UINT64_C(1) << 52));
}
END_TEST

START_TEST(test_positions)
{
    static const char *const wrong[] = {"",      "/",    "0",     "0/",          "/0",
                                        "0/0 ",  " 0/0", "0/G",   "123456789/0", "0/123456789",
                                        "0x0/0", "-1/0", "0/0/0", "0/-1"};
    char text[WAL_LSN_TEXT_SIZE];
    uint64_t lsn = 0;

    ck_assert_str_eq(wal_format_lsn(UINT64_MAX, text), "FFFFFFFF/FFFFFFFF");
    ck_assert_str_eq(wal_format_lsn(UINT64_C(0xAFE000028), text), "A/FE000028");
    ck_assert(wal_parse_lsn("A/FE000028", &lsn));
    ck_assert_uint_eq(lsn, UINT64_C(0xAFE000028));
    ck_assert(wal_parse_lsn("ffffffff/0000000a", &lsn));
    ck_assert_uint_eq(lsn, UINT64_C(0xFFFFFFFF0000000A));
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        ck_assert_msg(!wal_parse_lsn(wrong[i], &lsn), "\"%s\"", wrong[i]);
    }
}
END_TEST

#define SEGMENT_SIZE (1u << 20)

/* The first page of segment 000000030000000100000002. */
static void build_segment(struct wal_builder *builder, int major)
{
    wal_builder_start(builder, major, SEGMENT_SIZE, UINT64_C(0x100200000));
    builder->timeline = 2;
    wal_builder_commit(builder, 700, 0);
}

static const struct wal_name segment_name = {.kind = WAL_SEGMENT,
                                             .timeline = 3,
                                             .log = 1,
                                             .seg = 2};

START_TEST(test_page_header)
{
    struct wal_builder builder;
    struct wal_page_header header;
    struct error err = ERROR_INIT;

    build_segment(&builder, _i);
    ck_assert(wal_parse_page_header(builder.bytes.data, &header, &err));
    ck_assert_int_eq(header.info, WAL_PAGE_LONG_HEADER);
    ck_assert_uint_eq(header.timeline, 2);
    ck_assert_uint_eq(header.address, UINT64_C(0x100200000));
    ck_assert_uint_eq(header.remaining_length, 0);
    ck_assert_uint_eq(header.system_identifier, builder.system_identifier);
    ck_assert_uint_eq(header.segment_size, SEGMENT_SIZE);
    ck_assert_uint_eq(header.block_size, WAL_PAGE_SIZE);
    ck_assert_uint_eq(header.header_size, 40);
    builder.bytes.data[2] = WAL_PAGE_FIRST_IS_CONTRECORD;
    bytes_put_u32(builder.bytes.data + 16, 99);
    ck_assert(wal_parse_page_header(builder.bytes.data, &header, &err));
    ck_assert_uint_eq(header.header_size, 24);
    ck_assert_uint_eq(header.remaining_length, 99);
    ck_assert_uint_eq(header.system_identifier, 0);
    builder.bytes.data[2] = 0x10;
    ck_assert(!wal_parse_page_header(builder.bytes.data, &header, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_ptr_nonnull(strstr(err.message, "flags 0010"));
    bytes_put_u16(builder.bytes.data, 0xD10D);
    ck_assert(!wal_parse_page_header(builder.bytes.data, &header, &err));
    ck_assert_ptr_nonnull(strstr(err.message, "D10D"));
    buffer_free(&builder.bytes);
}
END_TEST

START_TEST(test_segment_fits)
{
    struct wal_name name = segment_name;
    struct wal_builder builder;
    struct error err = ERROR_INIT;

    build_segment(&builder, 15);
    const void *page = builder.bytes.data;
    ck_assert(wal_check_segment(&name, SEGMENT_SIZE, page, builder.system_identifier, &err));
    ck_assert(wal_check_segment(&name, SEGMENT_SIZE, page, 0, &err));
    name.kind = WAL_PARTIAL;
    name.timeline = 2;
    ck_assert(wal_check_segment(&name, SEGMENT_SIZE, page, 0, &err));
    buffer_free(&builder.bytes);
}
END_TEST

static void expect_foreign(const struct wal_builder *builder, struct wal_name name, uint64_t length,
                           uint64_t system_identifier, const char *part)
{
    struct error err = ERROR_INIT;

    ck_assert(!wal_check_segment(&name, length, builder->bytes.data, system_identifier, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_msg(strstr(err.message, part) != NULL, "%s", err.message);
}

START_TEST(test_segment_foreign)
{
    struct wal_name name = segment_name;
    struct wal_builder builder;

    build_segment(&builder, 15);
    expect_foreign(&builder, name, SEGMENT_SIZE, 42, "another cluster");
    expect_foreign(&builder, name, SEGMENT_SIZE - 1, 0, "its header says 1048576");
    expect_foreign(&builder, name, SEGMENT_SIZE * 2, 0, "its header says 1048576");
    name.seg = 3;
    expect_foreign(&builder, name, SEGMENT_SIZE, 0, "begins at 1/200000");
    name.seg = 2 + 4096;
    name.log = 0;
    expect_foreign(&builder, name, SEGMENT_SIZE, 0, "no segment");
    name = segment_name;
    name.timeline = 1;
    expect_foreign(&builder, name, SEGMENT_SIZE, 0, "of timeline 2, its name of timeline 1");
    bytes_put_u32(builder.bytes.data + 4, 0);
    expect_foreign(&builder, segment_name, SEGMENT_SIZE, 0, "of timeline 0");
    bytes_put_u32(builder.bytes.data + 36, 4096);
    expect_foreign(&builder, segment_name, SEGMENT_SIZE, 0, "pages are of 4096 bytes");
    bytes_put_u32(builder.bytes.data + 36, WAL_PAGE_SIZE);
    bytes_put_u32(builder.bytes.data + 32, 0);
    expect_foreign(&builder, segment_name, 0, 0, "a segment has 0 bytes");
    builder.bytes.data[2] = 0;
    expect_foreign(&builder, segment_name, SEGMENT_SIZE, 0, "not the first of a segment");
    memset(builder.bytes.data, 0, 40);
    expect_foreign(&builder, segment_name, SEGMENT_SIZE, 0, "magic number 0000");
    buffer_free(&builder.bytes);
}
END_TEST

Suite *wal_suite(void)
{
    Suite *suite = suite_create("wal");
    TCase *tests = tcase_create("wal");

    tcase_add_test(tests, test_names);
    tcase_add_loop_test(tests, test_other_names, 0, 18);
    tcase_add_test(tests, test_segments);
    tcase_add_test(tests, test_positions);
    tcase_add_loop_test(tests, test_page_header, 15, 19);
    tcase_add_test(tests, test_segment_fits);
    tcase_add_test(tests, test_segment_foreign);
    suite_add_tcase(suite, tests);
    return suite;
}
