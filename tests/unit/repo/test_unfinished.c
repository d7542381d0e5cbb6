#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgvigil/files.h"
#include "pgvigil/map_cache.h"
#include "pgvigil/mem.h"
#include "pgvigil/unfinished.h"
#include "suites.h"
#include "unit/base/fixture.h"

#define KEY 77

static struct error err;
static struct unfinished_meta meta;

static void make_meta(void)
{
    fixture_make();
    meta = (struct unfinished_meta){.system_identifier = 7, .alone = true};
    memset(meta.secret, 3, sizeof(meta.secret));
    memset(meta.recipients, 4, sizeof(meta.recipients));
}

/* All its blocks lie in one pack of run 5; `digest` is that of each. */
static void put_leaf(const struct unfinished *unfinished, uint32_t number, uint32_t pack,
                     uint64_t digest, struct buffer *record)
{
    struct map_leaf *leaf = mem_calloc(1, sizeof(*leaf));
    struct buffer item = BUFFER_INIT;

    leaf->key = KEY;
    leaf->number = number;
    leaf->blocks = 2;
    leaf->runs = 1;
    leaf->digests[0] = leaf->digests[1] = digest;
    leaf->run[0] = (struct map_run){
        .frame = {.pack = {.run = 5, .number = pack}, .offset = 10, .length = 20}, .count = 2};
    map_encode_leaf(leaf, &item);
    unfinished_put_leaf(unfinished, &item, record);
    buffer_free(&item);
    free(leaf);
}

static void add_pack(struct unfinished *unfinished, uint32_t number, const struct buffer *leaves)
{
    struct refs_pack pack = {.pack = {.run = 5, .number = number}, .size = 1000, .blocks = 50};

    memset(pack.sha256, (int)number, sizeof(pack.sha256));
    unfinished_add(unfinished, &pack, leaves);
}

/* Packs 2 and 1, in this order, with leaves 0 and 1 of a file, then 1 again. */
static void write_two_packs(void)
{
    struct unfinished *unfinished;
    struct buffer leaves = BUFFER_INIT;

    ck_assert_msg(unfinished_new(fixture_directory, &meta, &unfinished, &err), "%s", err.message);
    put_leaf(unfinished, 0, 2, 100, &leaves);
    put_leaf(unfinished, 1, 2, 101, &leaves);
    add_pack(unfinished, 2, &leaves);
    buffer_clear(&leaves);
    put_leaf(unfinished, 1, 1, 102, &leaves);
    add_pack(unfinished, 1, &leaves);
    buffer_free(&leaves);
    unfinished_close(unfinished);
}

static struct unfinished *open_again(void)
{
    struct unfinished *unfinished;

    ck_assert_msg(unfinished_open(fixture_directory, &unfinished, &err), "%s", err.message);
    return unfinished;
}

static void check_leaf(const struct unfinished *unfinished, uint32_t number, uint32_t pack,
                       uint64_t digest)
{
    struct map_leaf *leaf = mem_calloc(1, sizeof(*leaf));

    ck_assert(unfinished_find(unfinished, KEY, number, leaf));
    ck_assert_uint_eq(leaf->number, number);
    ck_assert_uint_eq(leaf->run[0].frame.pack.number, pack);
    ck_assert_uint_eq(leaf->digests[1], digest);
    ck_assert(!unfinished_find(unfinished, KEY + 1, number, leaf));
    free(leaf);
}

START_TEST(what_was_stored_is_found)
{
    write_two_packs();

    struct unfinished *unfinished = open_again();
    const struct refs *packs = unfinished_packs(unfinished);

    ck_assert_mem_eq(unfinished_meta(unfinished), &meta, sizeof(meta));
    ck_assert_uint_eq(packs->count, 2);
    ck_assert_uint_eq(packs->packs[0].pack.number, 1);
    ck_assert_int_eq(packs->packs[1].pack.run, 5);
    ck_assert_uint_eq(packs->packs[1].size, 1000);
    ck_assert_uint_eq(packs->packs[1].blocks, 50);
    ck_assert_uint_eq(packs->packs[1].sha256[31], 2);
    check_leaf(unfinished, 0, 2, 100);
    check_leaf(unfinished, 1, 1, 102); /* the later one */
    unfinished_close(unfinished);
}
END_TEST

START_TEST(it_is_gone_on_with)
{
    struct buffer leaves = BUFFER_INIT;

    write_two_packs();

    struct unfinished *unfinished = open_again();

    put_leaf(unfinished, 0, 3, 200, &leaves);
    add_pack(unfinished, 3, &leaves);
    buffer_free(&leaves);
    check_leaf(unfinished, 0, 2, 100); /* what was there */
    unfinished_close(unfinished);
    unfinished = open_again();
    ck_assert_uint_eq(unfinished_packs(unfinished)->count, 3);
    check_leaf(unfinished, 0, 3, 200);
    check_leaf(unfinished, 1, 1, 102);
    unfinished_close(unfinished);
}
END_TEST

START_TEST(nothing_is_remembered_of_a_finished_one)
{
    struct unfinished *unfinished;

    ck_assert(unfinished_forget(fixture_directory, &err));
    write_two_packs();
    ck_assert(unfinished_forget(fixture_directory, &err));
    ck_assert(!unfinished_open(fixture_directory, &unfinished, &err));
    ck_assert_int_eq(err.code, ERROR_NOT_FOUND);
}
END_TEST

START_TEST(what_is_no_file_is_refused)
{
    struct unfinished *unfinished;

    ck_assert(files_make_directories(fixture_path(MAP_CACHE_DIRECTORY), &err));
    ck_assert_int_eq(mkfifo(fixture_path(MAP_CACHE_DIRECTORY "/unfinished"), 0600), 0);
    ck_assert(!unfinished_open(fixture_directory, &unfinished, &err));
    ck_assert_int_eq(err.code, ERROR_SYSTEM);
    ck_assert(!unfinished_new(fixture_directory, &meta, &unfinished, &err));
    ck_assert_ptr_nonnull(strstr(err.message, "it is not a regular file"));
    ck_assert(unfinished_forget(fixture_directory, &err));
    write_two_packs();
}
END_TEST

/* Whatever is cut off or changed: what is found is what was written before that, and the file can be
 * gone on with. */
START_TEST(damage_ends_it)
{
    const char *path = fixture_path(MAP_CACHE_DIRECTORY "/unfinished");
    const struct buffer nothing = BUFFER_INIT;
    struct buffer bytes = BUFFER_INIT;
    size_t whole[3] = {0};

    write_two_packs();
    ck_assert(files_read(path, 1 << 20, &bytes, &err));
    for (size_t i = 0; i < 2 * bytes.length; i += 5) {
        const size_t at = i / 2;
        struct unfinished *unfinished;

        if (i % 2 == 0)
            ck_assert(files_write(path, bytes.data, at, 0600, &err));
        bytes.data[at] ^= 1;
        if (i % 2 == 1)
            ck_assert(files_write(path, bytes.data, bytes.length, 0600, &err));
        bytes.data[at] ^= 1;
        if (!unfinished_open(fixture_directory, &unfinished, &err)) {
            ck_assert_int_eq(err.code, ERROR_INTEGRITY);
            continue;
        }
        const size_t count = unfinished_packs(unfinished)->count;

        ck_assert_uint_le(count, 2);
        whole[count]++;
        add_pack(unfinished, 9, &nothing);
        unfinished_close(unfinished);
        unfinished = open_again();
        ck_assert_uint_eq(unfinished_packs(unfinished)->count, count + 1);
        unfinished_close(unfinished);
    }
    for (size_t i = 0; i < 3; i++)
        ck_assert_uint_gt(whole[i], 0);
    buffer_free(&bytes);
}
END_TEST

Suite *unfinished_suite(void)
{
    Suite *suite = suite_create("unfinished");
    TCase *tcase = tcase_create("file");

    tcase_add_checked_fixture(tcase, make_meta, fixture_remove);
    tcase_add_test(tcase, what_was_stored_is_found);
    tcase_add_test(tcase, it_is_gone_on_with);
    tcase_add_test(tcase, nothing_is_remembered_of_a_finished_one);
    tcase_add_test(tcase, what_is_no_file_is_refused);
    tcase_add_test(tcase, damage_ends_it);
    suite_add_tcase(suite, tcase);
    return suite;
}
