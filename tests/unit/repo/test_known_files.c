#include <check.h>
#include <stdio.h>
#include <string.h>

#include "pgvigil/known_files.h"
#include "pgvigil/map_cache.h"
#include "suites.h"
#include "unit/base/fixture.h"

#define STARTED (INT64_C(1700000000) * CLOCK_SECOND)

static struct error err;
static struct known_files_meta meta;
static struct known_file file;

static void make_known(void)
{
    fixture_make();
    ck_assert(files_make_directories(fixture_path(MAP_CACHE_DIRECTORY), &err));
    meta = (struct known_files_meta){
        .run = 1700000000, .system_identifier = 7, .started = STARTED, .clock = {.offset = 500}};
    memcpy(meta.clock.boot, "0e4c2a5b-boot", sizeof("0e4c2a5b-boot"));
    memset(meta.secret, 3, sizeof(meta.secret));
    memset(meta.manifest_sha256, 4, sizeof(meta.manifest_sha256));
    file = (struct known_file){
        .path = "base/1/1259",
        .size = 8192,
        .crc32c = 99,
        .map = {.frame = {.pack = {.run = 5, .number = 6}, .offset = 7, .length = 8},
                .item_offset = 9,
                .item_length = 10},
        .remembered = true,
        .facts = {.size = 8192,
                  .modified = 1,
                  .changed = (STARTED - 61 * CLOCK_SECOND) * 1000,
                  .inode = 11,
                  .device = 12}};
}

static void write_known(void)
{
    struct buffer out = BUFFER_INIT;
    struct known_file other = file;

    known_files_begin(&meta, &out);
    known_files_add(&file, &out);
    other.path = "base/1/1260";
    known_files_add(&other, &out);
    ck_assert_msg(known_files_write(fixture_directory, &out, &err), "%s", err.message);
    buffer_free(&out);
}

static bool check_file(const struct known_file *read, void *context, struct error *error)
{
    size_t *count = context;

    (void)error;
    ck_assert_str_eq(read->path, *count == 0 ? "base/1/1259" : "base/1/1260");
    ck_assert_uint_eq(read->size, 8192);
    ck_assert_uint_eq(read->crc32c, 99);
    ck_assert_int_eq(layout_compare_packs(&read->map.frame.pack, &file.map.frame.pack), 0);
    ck_assert_uint_eq(read->map.frame.offset, file.map.frame.offset);
    ck_assert_uint_eq(read->map.frame.length, file.map.frame.length);
    ck_assert_uint_eq(read->map.item_offset, file.map.item_offset);
    ck_assert_uint_eq(read->map.item_length, file.map.item_length);
    ck_assert(read->remembered);
    ck_assert_mem_eq(&read->facts, &file.facts, sizeof(file.facts));
    (*count)++;
    return true;
}

START_TEST(what_was_written_is_read)
{
    struct known_files *known;
    size_t count = 0;

    write_known();
    ck_assert_msg(known_files_read(fixture_directory, &known, &err), "%s", err.message);
    ck_assert_mem_eq(known_files_meta(known), &meta, sizeof(meta));
    ck_assert(known_files_each(known, check_file, &count, &err));
    ck_assert_uint_eq(count, 2);
    known_files_free(known);
}
END_TEST

START_TEST(damage_is_noticed)
{
    const char *path = fixture_path(MAP_CACHE_DIRECTORY "/known");
    struct known_files *known;
    struct buffer bytes = BUFFER_INIT;

    ck_assert(!known_files_read(fixture_directory, &known, &err));
    ck_assert_int_eq(err.code, ERROR_NOT_FOUND);
    write_known();
    ck_assert(files_read(path, 1 << 20, &bytes, &err));
    for (size_t i = 0; i < bytes.length; i += 7) {
        bytes.data[i] ^= 1;
        ck_assert(files_write(path, bytes.data, bytes.length, 0600, &err));
        ck_assert(!known_files_read(fixture_directory, &known, &err));
        ck_assert_int_eq(err.code, ERROR_INTEGRITY);
        bytes.data[i] ^= 1;
        ck_assert(files_write(path, bytes.data, i, 0600, &err));
        ck_assert(!known_files_read(fixture_directory, &known, &err));
    }
    buffer_free(&bytes);
}
END_TEST

static bool trusted(const struct scan_facts *facts, const struct known_files_clock *clock)
{
    return known_files_trust(&meta, &file, facts, clock);
}

/* One after the other, everything that the rule asks for. */
START_TEST(the_strict_rule)
{
    struct scan_facts now = file.facts;
    struct known_files_clock clock = meta.clock;

    ck_assert(trusted(&now, &clock));
#define UNLESS(what, value)                                                                        \
    do {                                                                                           \
        __typeof__(what) before = (what);                                                          \
        (what) = (value);                                                                          \
        ck_assert_msg(!trusted(&now, &clock), #what);                                              \
        (what) = before;                                                                           \
        ck_assert(trusted(&now, &clock));                                                          \
    } while (0)
    UNLESS(now.size, 16384);
    UNLESS(now.modified, 2);
    UNLESS(now.changed, now.changed + 1);
    UNLESS(now.inode, 1);
    UNLESS(now.device, 1);
    UNLESS(file.remembered, false);
    UNLESS(file.size, 4096);
    UNLESS(clock.boot[0], 'x');
    UNLESS(clock.offset, clock.offset - 11 * CLOCK_SECOND);
    UNLESS(clock.offset, clock.offset + 11 * CLOCK_SECOND);
    UNLESS(meta.started, meta.started - 2 * CLOCK_SECOND); /* the file's ctime is 59 s before */
#undef UNLESS
    meta.clock.boot[0] = clock.boot[0] = '\0';
    ck_assert(!trusted(&now, &clock));
}
END_TEST

START_TEST(the_clock_has_a_boot)
{
    struct known_files_clock clock, later;

    known_files_clock_read(&clock);
    known_files_clock_read(&later);
    ck_assert_uint_eq(strlen(clock.boot), KNOWN_FILES_BOOT_SIZE - 1);
    ck_assert_str_eq(clock.boot, later.boot);
    ck_assert_int_lt(later.offset - clock.offset, CLOCK_SECOND);
}
END_TEST

Suite *known_files_suite(void)
{
    Suite *suite = suite_create("known_files");
    TCase *all = tcase_create("all");

    tcase_add_checked_fixture(all, make_known, fixture_remove);
    tcase_add_test(all, what_was_written_is_read);
    tcase_add_test(all, damage_is_noticed);
    tcase_add_test(all, the_strict_rule);
    tcase_add_test(all, the_clock_has_a_boot);
    suite_add_tcase(suite, all);
    return suite;
}
