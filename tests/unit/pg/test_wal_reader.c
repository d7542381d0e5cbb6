/* test_wal_reader.c - record by record through WAL */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/bytes.h"
#include "pgvigil/clock.h"
#include "pgvigil/mem.h"
#include "pgvigil/wal_reader.h"
#include "suites.h"
#include "support/seed.h"
#include "support/wal_builder.h"

#define SEGMENT_SIZE (1u << 20)
#define MOMENT (INT64_C(1800000000) * CLOCK_SECOND + 123456)

struct seen {
    struct wal_record *records;
    size_t count;
    size_t capacity;
    size_t stop_after; /* 0: never */
    bool ended;
    uint64_t end;
    uint64_t last;
};

static bool see(const struct wal_record *record, void *context, struct error *err)
{
    struct seen *seen = context;

    seen->records = mem_grow(seen->records, seen->count, &seen->capacity, sizeof seen->records[0]);
    seen->records[seen->count++] = *record;
    if (seen->count == seen->stop_after) {
        return error_set(err, ERROR_NEGATIVE, "enough");
    }
    return true;
}

/* Small pieces cost time, so there are some only where a segment begins. */
static size_t next_length(const struct wal_builder *builder, size_t at, size_t piece)
{
    size_t left = builder->bytes.length - at;
    size_t wanted = at % SEGMENT_SIZE < 30000 || piece > 5000 ? piece : 5000;

    return left < wanted ? left : wanted;
}

/* Reads in pieces of `piece` bytes, each in memory of its own size, so that reading past it shows.
 * */
static void read_from(const struct wal_builder *builder, uint64_t from, size_t piece,
                      struct seen *seen)
{
    struct wal_reader *reader = wal_reader_new(see, seen);
    struct error err = ERROR_INIT;
    size_t at = (size_t)(from - builder->start);

    *seen = (struct seen){.count = 0};
    while (at < builder->bytes.length) {
        size_t length = next_length(builder, at, piece);
        unsigned char *copy = mem_alloc(length);
        memcpy(copy, builder->bytes.data + at, length);
        ck_assert_msg(
            wal_reader_feed(reader, builder->start + at, copy, length, &seen->ended, &err), "%s",
            err.message);
        free(copy);
        at += length;
    }
    seen->end = wal_reader_end(reader);
    seen->last = wal_reader_last_lsn(reader);
    wal_reader_free(reader);
}

static void read_all(const struct wal_builder *builder, struct seen *seen)
{
    read_from(builder, builder->start, 8192, seen);
}

static void expect_record(const struct seen *seen, size_t index, enum wal_record_kind kind,
                          uint64_t lsn, uint32_t xid, int64_t time)
{
    ck_assert_uint_lt(index, seen->count);
    const struct wal_record *record = &seen->records[index];
    ck_assert_int_eq(record->kind, kind);
    ck_assert_uint_eq(record->lsn, lsn);
    ck_assert_uint_eq(record->xid, xid);
    ck_assert_int_eq(record->time, time);
}

START_TEST(test_kinds)
{
    struct wal_builder builder;
    struct seen seen;
    uint64_t lsns[6];
    char long_name[65];

    memset(long_name, 'n', 64);
    long_name[64] = '\0';
    wal_builder_start(&builder, _i, SEGMENT_SIZE, UINT64_C(0x700000000));
    lsns[0] = wal_builder_commit(&builder, 700, MOMENT);
    lsns[1] = wal_builder_abort(&builder, 701, MOMENT + 1);
    lsns[2] = wal_builder_restore_point(&builder, "before \"it\"", MOMENT + 2);
    lsns[3] = wal_builder_commit_prepared(&builder, 4000000000, MOMENT + 3, 2);
    lsns[4] = wal_builder_filler(&builder, 100);
    lsns[5] = wal_builder_restore_point(&builder, long_name, MOMENT + 4);
    wal_builder_pad(&builder);
    read_all(&builder, &seen);
    ck_assert_uint_eq(seen.count, 6);
    expect_record(&seen, 0, WAL_RECORD_COMMIT, lsns[0], 700, MOMENT);
    expect_record(&seen, 1, WAL_RECORD_ABORT, lsns[1], 701, MOMENT + 1);
    expect_record(&seen, 2, WAL_RECORD_RESTORE_POINT, lsns[2], 0, MOMENT + 2);
    ck_assert_str_eq(seen.records[2].name, "before \"it\"");
    expect_record(&seen, 3, WAL_RECORD_COMMIT, lsns[3], 4000000000, MOMENT + 3);
    expect_record(&seen, 4, WAL_RECORD_OTHER, lsns[4], 3, 0);
    expect_record(&seen, 5, WAL_RECORD_RESTORE_POINT, lsns[5], 0, MOMENT + 4);
    ck_assert_str_eq(seen.records[5].name, long_name);
    ck_assert_uint_eq(seen.records[0].end_lsn, lsns[1]);
    ck_assert(seen.ended);
    ck_assert_uint_eq(seen.last, lsns[5]);
    ck_assert_uint_eq(seen.end, seen.records[5].end_lsn);
    free(seen.records);
    buffer_free(&builder.bytes);
}
END_TEST

START_TEST(test_checkpoints)
{
    unsigned char data[88] = {0};
    struct wal_builder builder;
    struct seen seen;
    uint64_t lsns[2];

    bytes_put_u64(data, UINT64_C(0x700000028));
    wal_builder_start(&builder, _i, SEGMENT_SIZE, UINT64_C(0x700000000));
    lsns[0] = wal_builder_record(&builder, 0, 0x10, 0, data, sizeof data);
    lsns[1] = wal_builder_record(&builder, 0, 0x00, 0, data, sizeof data);
    wal_builder_record(&builder, 0, 0x10, 0, data, 7); /* too short for one */
    wal_builder_record(&builder, 0, 0x30, 0, data, sizeof data);
    wal_builder_pad(&builder);
    read_all(&builder, &seen);
    ck_assert_uint_eq(seen.count, 4);
    for (size_t i = 0; i < 2; i++) {
        expect_record(&seen, i, WAL_RECORD_CHECKPOINT, lsns[i], 0, 0);
        ck_assert_uint_eq(seen.records[i].redo, UINT64_C(0x700000028));
    }
    ck_assert_int_eq(seen.records[2].kind, WAL_RECORD_OTHER);
    ck_assert_int_eq(seen.records[3].kind, WAL_RECORD_OTHER);
    free(seen.records);
    buffer_free(&builder.bytes);
}
END_TEST

/* A record's own data may lie behind its replication origin and its top-level transaction. */
START_TEST(test_parts_before_data)
{
    static const unsigned char before[] = {253, 7, 0, 252, 1, 2, 3, 4};
    struct wal_builder builder;
    struct seen seen;

    wal_builder_start(&builder, 15, SEGMENT_SIZE, 0);
    unsigned char data[sizeof before + 2 + 8];
    memcpy(data, before, sizeof before);
    data[sizeof before] = 255;
    data[sizeof before + 1] = 8;
    bytes_put_u64(data + sizeof before + 2, (uint64_t)(MOMENT - CLOCK_POSTGRES_EPOCH));
    wal_builder_record_bare(&builder, 1, 0x00, 705, data, sizeof data);
    wal_builder_record_bare(&builder, 1, 0x00, 706, data, sizeof before);
    wal_builder_record_bare(&builder, 1, 0x00, 707, data, 5);
    wal_builder_record_bare(&builder, 1, 0x00, 708, "\0\0\0\0", 4);
    read_all(&builder, &seen);
    ck_assert_uint_eq(seen.count, 4);
    ck_assert_int_eq(seen.records[0].kind, WAL_RECORD_COMMIT);
    ck_assert_int_eq(seen.records[0].time, MOMENT);
    for (size_t i = 1; i < 4; i++) {
        ck_assert_int_eq(seen.records[i].kind, WAL_RECORD_OTHER);
    }
    free(seen.records);
    buffer_free(&builder.bytes);
}
END_TEST

/* Records over pages and segments, whatever the pieces they come in. */
START_TEST(test_pieces)
{
    static const size_t pieces[] = {1, 3, 24, 40, 8191, 8192, 8193, 100000, 4u << 20};
    struct wal_builder builder;
    struct seen whole;
    uint64_t seed = seed_start("test_pieces");
    size_t written = 0;

    wal_builder_start(&builder, 16, SEGMENT_SIZE, UINT64_C(0x500000));
    while (builder.bytes.length < 2 * SEGMENT_SIZE + 5000) {
        uint64_t random = seed_next(&seed);
        uint32_t most = random % 20 == 0 ? 200000 : 300;
        wal_builder_filler(&builder, 30 + (uint32_t)(random >> 8) % most);
        wal_builder_commit(&builder, 700 + (uint32_t)written, MOMENT);
        written += 2;
    }
    read_all(&builder, &whole);
    ck_assert_uint_eq(whole.count, written);
    ck_assert(!whole.ended);
    ck_assert_uint_eq(whole.last, builder.previous);
    for (size_t i = 0; i < written; i++) {
        ck_assert_int_eq(whole.records[i].kind, i % 2 ? WAL_RECORD_COMMIT : WAL_RECORD_OTHER);
    }
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        struct seen seen;
        read_from(&builder, builder.start, pieces[i], &seen);
        ck_assert_uint_eq(seen.count, whole.count);
        ck_assert_mem_eq(seen.records, whole.records, whole.count * sizeof whole.records[0]);
        free(seen.records);
    }
    free(whole.records);
    buffer_free(&builder.bytes);
}
END_TEST

/* Every way in which a record can lie across the end of a page. */
START_TEST(test_page_edges)
{
    for (uint32_t before = 26; before < 140; before++) {
        struct wal_builder builder;
        struct seen seen;

        wal_builder_start(&builder, 17, SEGMENT_SIZE, 0);
        wal_builder_filler(&builder, WAL_PAGE_SIZE - 40 - 160 + before);
        uint64_t lsn = wal_builder_commit(&builder, 9, MOMENT);
        uint64_t next = wal_builder_restore_point(&builder, "x", MOMENT);
        read_from(&builder, 0, 7, &seen);
        ck_assert_uint_eq(seen.count, 3);
        expect_record(&seen, 1, WAL_RECORD_COMMIT, lsn, 9, MOMENT);
        expect_record(&seen, 2, WAL_RECORD_RESTORE_POINT, next, 0, MOMENT);
        free(seen.records);
        buffer_free(&builder.bytes);
    }
}
END_TEST

START_TEST(test_switch)
{
    struct wal_builder builder;
    struct seen seen;

    wal_builder_start(&builder, 15, SEGMENT_SIZE, 0);
    wal_builder_filler(&builder, 3000);
    uint64_t first = wal_builder_switch(&builder);
    uint64_t commit = wal_builder_commit(&builder, 5, MOMENT);
    /* A switch record that ends where the segment ends leaves nothing to pass over. */
    while (wal_builder_position(&builder) % SEGMENT_SIZE < SEGMENT_SIZE - WAL_PAGE_SIZE) {
        wal_builder_filler(&builder, 4000);
    }
    wal_builder_filler(&builder,
                       SEGMENT_SIZE - 24 -
                           (uint32_t)(wal_builder_position(&builder) % SEGMENT_SIZE + 7) / 8 * 8);
    uint64_t second = wal_builder_switch(&builder);
    ck_assert_uint_eq(second, 2 * SEGMENT_SIZE - 24);
    uint64_t last = wal_builder_commit(&builder, 6, MOMENT);
    ck_assert_uint_eq(last, 2 * SEGMENT_SIZE + 40);
    read_from(&builder, 0, 1000, &seen);
    expect_record(&seen, 1, WAL_RECORD_OTHER, first, 0, 0);
    ck_assert_uint_eq(seen.records[1].end_lsn, first + 24);
    expect_record(&seen, 2, WAL_RECORD_COMMIT, commit, 5, MOMENT);
    expect_record(&seen, seen.count - 1, WAL_RECORD_COMMIT, last, 6, MOMENT);
    ck_assert(!seen.ended);
    free(seen.records);
    buffer_free(&builder.bytes);
}
END_TEST

/* Reading from a later segment passes over the rest of a record that began before it. */
START_TEST(test_begins_inside)
{
    struct wal_builder builder;
    struct seen seen;

    wal_builder_start(&builder, 15, SEGMENT_SIZE, 0);
    wal_builder_filler(&builder, SEGMENT_SIZE - 9000);
    wal_builder_filler(&builder, 2 * SEGMENT_SIZE + 77);
    uint64_t lsn = wal_builder_commit(&builder, 5, MOMENT);
    for (uint64_t segment = 0; segment < 4; segment++) {
        read_from(&builder, segment * SEGMENT_SIZE, 333, &seen);
        ck_assert_uint_eq(seen.count, segment == 0 ? 3 : 1);
        expect_record(&seen, seen.count - 1, WAL_RECORD_COMMIT, lsn, 5, MOMENT);
        ck_assert(!seen.ended);
        free(seen.records);
    }
    buffer_free(&builder.bytes);
}
END_TEST

/* After a crash in the middle of a record the server writes others in the place of its rest. */
START_TEST(test_torn)
{
    struct wal_builder builder;
    struct seen seen;

    wal_builder_start(&builder, 15, SEGMENT_SIZE, 0);
    wal_builder_commit(&builder, 4, MOMENT);
    wal_builder_filler(&builder, SEGMENT_SIZE + 20000);
    wal_builder_tear(&builder);
    uint64_t lsn = wal_builder_commit(&builder, 5, MOMENT);
    read_from(&builder, 0, 100, &seen);
    ck_assert_uint_eq(seen.count, 2);
    expect_record(&seen, 1, WAL_RECORD_COMMIT, lsn, 5, MOMENT);
    ck_assert_uint_eq(lsn, WAL_PAGE_SIZE + 24);
    ck_assert(!seen.ended);
    free(seen.records);
    buffer_free(&builder.bytes);
}
END_TEST

/* The same where the rest would have been in the next segment, and reading starts with that one. */
START_TEST(test_torn_at_segment)
{
    struct wal_builder builder;
    struct seen seen;

    wal_builder_start(&builder, 18, SEGMENT_SIZE, 0);
    wal_builder_filler(&builder, SEGMENT_SIZE - 9000);
    wal_builder_filler(&builder, 20000);
    wal_builder_tear(&builder);
    uint64_t lsn = wal_builder_commit(&builder, 5, MOMENT);
    for (uint64_t segment = 0; segment < 2; segment++) {
        read_from(&builder, segment * SEGMENT_SIZE, 4096, &seen);
        ck_assert_uint_eq(seen.count, segment == 0 ? 2 : 1);
        expect_record(&seen, seen.count - 1, WAL_RECORD_COMMIT, lsn, 5, MOMENT);
        free(seen.records);
    }
    buffer_free(&builder.bytes);
}
END_TEST

START_TEST(test_timelines)
{
    struct wal_builder builder;
    struct seen seen;

    wal_builder_start(&builder, 15, SEGMENT_SIZE, 0);
    builder.timeline = 3;
    wal_builder_filler(&builder, 9000);
    builder.timeline = 4;
    wal_builder_filler(&builder, 9000);
    wal_builder_filler(&builder, 9000);
    read_all(&builder, &seen);
    ck_assert_uint_eq(seen.count, 3);
    free(seen.records);
    /* It never goes back. */
    bytes_put_u32(builder.bytes.data + 3 * WAL_PAGE_SIZE + 4, 3);
    read_all(&builder, &seen);
    ck_assert(seen.ended);
    ck_assert_uint_eq(seen.count, 2);
    free(seen.records);
    buffer_free(&builder.bytes);
}
END_TEST

/* A record too long to be kept still counts, and a commit still has its time. */
START_TEST(test_long_commit)
{
    struct wal_builder builder;
    struct seen seen;

    wal_builder_start(&builder, _i, SEGMENT_SIZE, 0);
    uint64_t fits = wal_builder_commit_prepared(&builder, 77, MOMENT, 1300);
    uint64_t exceeds = wal_builder_commit_prepared(&builder, 78, MOMENT + 1, 5000);
    uint64_t last = wal_builder_commit(&builder, 79, MOMENT + 2);
    read_all(&builder, &seen);
    ck_assert_uint_eq(seen.count, 3);
    expect_record(&seen, 0, WAL_RECORD_COMMIT, fits, 77, MOMENT);
    expect_record(&seen, 1, WAL_RECORD_COMMIT, exceeds, 0, MOMENT + 1);
    expect_record(&seen, 2, WAL_RECORD_COMMIT, last, 79, MOMENT + 2);
    free(seen.records);
    buffer_free(&builder.bytes);
}
END_TEST

static size_t read_until_end(const struct wal_builder *builder)
{
    struct seen seen;

    read_all(builder, &seen);
    ck_assert(seen.ended);
    free(seen.records);
    return seen.count;
}

/* Whichever byte of the second page is changed, but for the four unused ones of its header: reading
 * ends before the record it is in. The records leave no gaps for alignment. */
START_TEST(test_damage)
{
    struct wal_builder builder;
    struct seen whole;

    wal_builder_start(&builder, 15, SEGMENT_SIZE, 0);
    for (uint32_t i = 0; i < 24; i++) {
        wal_builder_filler(&builder, i % 2 ? 1600 : 64);
    }
    read_all(&builder, &whole);
    ck_assert_uint_eq(whole.count, 24);
    for (size_t at = WAL_PAGE_SIZE; at < 2 * WAL_PAGE_SIZE; at++) {
        struct seen seen;
        if (at >= WAL_PAGE_SIZE + 20 && at < WAL_PAGE_SIZE + 24) {
            continue;
        }
        builder.bytes.data[at] ^= 0x11;
        read_all(&builder, &seen);
        ck_assert_msg(seen.ended && seen.count < 24, "byte %zu: %zu records", at, seen.count);
        if (at < WAL_PAGE_SIZE + 4 || at >= WAL_PAGE_SIZE + 24) {
            ck_assert_msg(seen.end <= at, "byte %zu", at);
        }
        free(seen.records);
        builder.bytes.data[at] ^= 0x11;
    }
    free(whole.records);
    buffer_free(&builder.bytes);
}
END_TEST

/* A segment that the server uses again has older WAL behind the newest record. */
START_TEST(test_recycled)
{
    struct wal_builder old;
    struct wal_builder builder;

    wal_builder_start(&old, 15, SEGMENT_SIZE, 0);
    wal_builder_start(&builder, 15, SEGMENT_SIZE, 5 * SEGMENT_SIZE);
    while (old.bytes.length < 5 * WAL_PAGE_SIZE) {
        wal_builder_filler(&old, 500);
    }
    wal_builder_filler(&builder, 500);
    wal_builder_filler(&builder, 600);
    wal_builder_filler(&builder, 12000);
    buffer_append(&builder.bytes, old.bytes.data + builder.bytes.length,
                  5 * WAL_PAGE_SIZE - builder.bytes.length);
    ck_assert_uint_eq(read_until_end(&builder), 3);
    /* And where only the first page of the last record was written. */
    memcpy(builder.bytes.data + WAL_PAGE_SIZE, old.bytes.data + WAL_PAGE_SIZE, WAL_PAGE_SIZE);
    ck_assert_uint_eq(read_until_end(&builder), 2);
    buffer_free(&old.bytes);
    buffer_free(&builder.bytes);
}
END_TEST

START_TEST(test_no_wal)
{
    struct wal_builder builder;

    wal_builder_start(&builder, 15, SEGMENT_SIZE, 0);
    wal_builder_commit(&builder, 5, MOMENT);
    wal_builder_pad(&builder);
    ck_assert_uint_eq(read_until_end(&builder), 1);
    bytes_put_u32(builder.bytes.data + 32, 12345);
    ck_assert_uint_eq(read_until_end(&builder), 0);
    bytes_put_u32(builder.bytes.data + 32, SEGMENT_SIZE);
    bytes_put_u64(builder.bytes.data + 8, SEGMENT_SIZE);
    ck_assert_uint_eq(read_until_end(&builder), 0);
    bytes_put_u64(builder.bytes.data + 8, 0);
    builder.bytes.data[2] = WAL_PAGE_LONG_HEADER | WAL_PAGE_FIRST_IS_CONTRECORD;
    ck_assert_uint_eq(read_until_end(&builder), 0);
    builder.bytes.data[2] = 0;
    ck_assert_uint_eq(read_until_end(&builder), 0);
    memset(builder.bytes.data, 0, builder.bytes.length);
    ck_assert_uint_eq(read_until_end(&builder), 0);
    buffer_free(&builder.bytes);
}
END_TEST

/* Lengths that no record has: shorter than its header, longer than any. */
START_TEST(test_wrong_length)
{
    static const uint32_t lengths[] = {1, 3, 4, 8, 23, 24, 25, 0x40000001, UINT32_MAX};
    struct wal_builder builder;

    wal_builder_start(&builder, 15, SEGMENT_SIZE, 0);
    wal_builder_commit(&builder, 5, MOMENT);
    uint64_t lsn = wal_builder_commit(&builder, 6, MOMENT);
    wal_builder_filler(&builder, 3 * WAL_PAGE_SIZE);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        bytes_put_u32(builder.bytes.data + lsn, lengths[i]);
        ck_assert_uint_eq(read_until_end(&builder), 1);
    }
    buffer_free(&builder.bytes);
}
END_TEST

/* A long header stands at the beginning of a segment and nowhere else. */
START_TEST(test_header_sizes)
{
    struct wal_builder builder;

    wal_builder_start(&builder, 15, SEGMENT_SIZE, 0);
    wal_builder_filler(&builder, 500);
    wal_builder_switch(&builder);
    wal_builder_filler(&builder, 500);
    wal_builder_filler(&builder, 10000);
    builder.bytes.data[SEGMENT_SIZE + WAL_PAGE_SIZE + 2] |= WAL_PAGE_LONG_HEADER;
    ck_assert_uint_eq(read_until_end(&builder), 3);
    builder.bytes.data[SEGMENT_SIZE + 2] = 0;
    ck_assert_uint_eq(read_until_end(&builder), 2);
    builder.bytes.data[SEGMENT_SIZE + 2] = WAL_PAGE_LONG_HEADER;
    bytes_put_u64(builder.bytes.data + SEGMENT_SIZE + 24, 42); /* another cluster's */
    ck_assert_uint_eq(read_until_end(&builder), 2);
    buffer_free(&builder.bytes);
}
END_TEST

/* The rest of a record from before has to go on as it began. */
START_TEST(test_foreign_rest)
{
    struct wal_builder builder;
    struct seen seen;

    wal_builder_start(&builder, 15, SEGMENT_SIZE, 0);
    wal_builder_filler(&builder, SEGMENT_SIZE - 9000);
    wal_builder_filler(&builder, 40000);
    wal_builder_commit(&builder, 5, MOMENT);
    unsigned char *rest = builder.bytes.data + SEGMENT_SIZE + WAL_PAGE_SIZE + 16;
    bytes_put_u32(rest, bytes_get_u32(rest) + 8);
    read_from(&builder, SEGMENT_SIZE, 8192, &seen);
    ck_assert(seen.ended);
    ck_assert_uint_eq(seen.count, 0);
    free(seen.records);
    buffer_free(&builder.bytes);
}
END_TEST

START_TEST(test_callback_and_order)
{
    struct wal_builder builder;
    struct seen seen = {.stop_after = 2};
    struct error err = ERROR_INIT;
    struct wal_reader *reader = wal_reader_new(see, &seen);
    bool ended = false;

    wal_builder_start(&builder, 15, SEGMENT_SIZE, 0);
    for (uint32_t i = 0; i < 5; i++) {
        wal_builder_commit(&builder, i + 1, MOMENT);
    }
    ck_assert(!wal_reader_feed(reader, 0, builder.bytes.data, builder.bytes.length, &ended, &err));
    ck_assert_str_eq(err.message, "enough");
    ck_assert_uint_eq(seen.count, 2);
    wal_reader_free(reader);
    wal_reader_free(NULL);

    reader = wal_reader_new(see, &seen);
    ck_assert_uint_eq(wal_reader_end(reader), 0);
    ck_assert(wal_reader_feed(reader, 0, builder.bytes.data, 50, &ended, &err));
    ck_assert(!wal_reader_feed(reader, 51, builder.bytes.data + 51, 20, &ended, &err));
    ck_assert_int_eq(err.code, ERROR_USAGE);
    wal_reader_free(reader);
    reader = wal_reader_new(see, &seen);
    ck_assert(!wal_reader_feed(reader, WAL_PAGE_SIZE, builder.bytes.data, 50, &ended, &err));
    wal_reader_free(reader);
    free(seen.records);
    buffer_free(&builder.bytes);
}
END_TEST

Suite *wal_reader_suite(void)
{
    Suite *suite = suite_create("wal_reader");
    TCase *tests = tcase_create("wal_reader");

    tcase_add_loop_test(tests, test_kinds, 15, 19);
    tcase_add_loop_test(tests, test_checkpoints, 15, 19);
    tcase_add_test(tests, test_parts_before_data);
    tcase_add_test(tests, test_pieces);
    tcase_add_test(tests, test_page_edges);
    tcase_add_test(tests, test_switch);
    tcase_add_test(tests, test_begins_inside);
    tcase_add_test(tests, test_torn);
    tcase_add_test(tests, test_torn_at_segment);
    tcase_add_test(tests, test_timelines);
    tcase_add_loop_test(tests, test_long_commit, 15, 19);
    tcase_add_test(tests, test_damage);
    tcase_add_test(tests, test_recycled);
    tcase_add_test(tests, test_no_wal);
    tcase_add_test(tests, test_wrong_length);
    tcase_add_test(tests, test_header_sizes);
    tcase_add_test(tests, test_foreign_rest);
    tcase_add_test(tests, test_callback_and_order);
    suite_add_tcase(suite, tests);
    return suite;
}
