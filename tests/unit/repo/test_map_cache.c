#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgvigil/map_cache.h"
#include "pgvigil/object.h"
#include "suites.h"
#include "support/archive.h"
#include "support/memory_store.h"
#include "unit/base/fixture.h"

#define LEAVES 400 /* of one file, in several frames */
#define SIZE ((uint64_t)LEAVES * MAP_LEAF_BLOCKS * PACK_BLOCK)
#define KEY 77

static struct error err;
static const unsigned char secret[DIGEST_SECRET_SIZE] = {1, 2, 3};
static struct repository *repository;
static struct pack_set *set;
static struct map_cache *cache;
static struct map_place places[LEAVES + 1];
static struct map_leaf leaf;

static bool note_place(void *owner, uint32_t slot, const struct map_place *place,
                       struct error *error)
{
    (void)owner;
    (void)error;
    places[slot] = *place;
    return true;
}

static bool keep(const struct refs_pack *pack, const void *bytes, size_t length, void *context,
                 struct error *error)
{
    (void)context;
    return map_cache_keep(cache, pack, bytes, length, error);
}

static void make_leaf(uint32_t number)
{
    leaf = (struct map_leaf){.key = KEY, .number = number, .blocks = MAP_LEAF_BLOCKS, .runs = 1};
    for (size_t i = 0; i < MAP_LEAF_BLOCKS; i++)
        leaf.digests[i] = (uint64_t)rand() * (uint64_t)rand() + number;
    leaf.digests[0] = number;
    leaf.run[0] = (struct map_run){.count = MAP_LEAF_BLOCKS};
}

/* A map of one file in map packs, by a run that keeps copies. */
static void make_maps(void)
{
    struct map_root root = {.key = KEY, .file_size = SIZE, .leaf_count = LEAVES, .leaves = places};
    struct buffer item = BUFFER_INIT;
    struct map_writer *writer;

    fixture_make();
    repository = archive_repository();
    set = pack_set_new(repository, 1000);
    ck_assert(map_cache_open(fixture_directory, secret, &cache, &err));
    pack_set_on_map(set, keep, NULL);
    ck_assert(map_writer_new(set, 1, note_place, &writer, &err));
    for (uint32_t i = 0; i < LEAVES; i++) {
        make_leaf(i);
        buffer_clear(&item);
        map_encode_leaf(&leaf, &item);
        ck_assert(map_writer_add(writer, item.data, item.length, NULL, i, &err));
    }
    ck_assert(map_writer_finish(writer, &err));
    buffer_clear(&item);
    map_encode_root(&root, &item);
    ck_assert(map_writer_add(writer, item.data, item.length, NULL, LEAVES, &err));
    ck_assert(map_writer_finish(writer, &err));
    map_writer_free(writer);
    buffer_free(&item);
}

static void free_maps(void)
{
    map_cache_close(cache);
    pack_set_free(set);
    archive_free_repository(repository);
    fixture_remove();
}

/* As a later run has it. */
static void reopen(void)
{
    map_cache_close(cache);
    ck_assert(map_cache_open(fixture_directory, secret, &cache, &err));
    map_cache_build_on(cache, pack_set_refs(set), repository);
}

static void read_all(void)
{
    struct map_cache_reader *reader;
    struct map_root root;

    ck_assert(map_cache_reader_new(cache, &reader, &err));
    ck_assert_msg(map_cache_reader_root(reader, &places[LEAVES], KEY, SIZE, &root, &err), "%s",
                  err.message);
    for (uint32_t i = 0; i < LEAVES; i++) {
        const uint32_t number = i * 37 % LEAVES;

        ck_assert_msg(
            map_cache_reader_leaf(reader, &root.leaves[number], KEY, number, SIZE, &leaf, &err),
            "%s", err.message);
        ck_assert_uint_eq(leaf.digests[0], number);
    }
    map_free_root(&root);
    map_cache_reader_free(reader);
}

static const char *copy(uint32_t number)
{
    char name[64];

    snprintf(name, sizeof(name), MAP_CACHE_DIRECTORY "/map-19700101T001640Z-%08u", number);
    return fixture_path(name);
}

START_TEST(maps_are_read_from_copies)
{
    read_all();
    memory_store_break(repository->store, true);
    reopen();
    read_all();
}
END_TEST

/* Missing, cut, changed anywhere, that of another pack, or no file: it comes from the repository. */
START_TEST(what_is_no_copy_is_fetched)
{
    struct buffer bytes = BUFFER_INIT, first = BUFFER_INIT;

    ck_assert(files_read(copy(2), PACK_SIZE, &bytes, &err));
    ck_assert(files_read(copy(1), PACK_SIZE, &first, &err));
    for (int damage = 0; damage < 6; damage++) {
        bytes.data[bytes.length / 2] ^= damage == 1;
        bytes.data[bytes.length - 1] ^= damage == 2;
        ck_assert(damage == 0   ? unlink(copy(2)) == 0
                  : damage == 5 ? unlink(copy(2)) == 0 && mkfifo(copy(2), 0600) == 0
                  : damage == 4 ? files_write(copy(2), first.data, first.length, 0600, &err)
                                : files_write(copy(2), bytes.data, damage == 3 ? 11 : bytes.length,
                                              0600, &err));
        bytes.data[bytes.length / 2] ^= damage == 1;
        bytes.data[bytes.length - 1] ^= damage == 2;
        reopen();
        read_all();
        memory_store_break(repository->store, true);
        reopen();
        read_all(); /* the copy is mended */
        memory_store_break(repository->store, false);
    }
    buffer_free(&bytes);
    buffer_free(&first);
}
END_TEST

/* With the reason, though it is not asked for again. */
START_TEST(what_is_lost_is_said_each_time)
{
    struct map_cache_reader *reader;
    struct error first = ERROR_INIT;
    struct map_root root;

    ck_assert_int_eq(unlink(copy(2)), 0);
    memory_store_break(repository->store, true);
    reopen();
    ck_assert(map_cache_reader_new(cache, &reader, &err));
    ck_assert(!map_cache_reader_root(reader, &places[LEAVES], KEY, SIZE, &root, &first));
    memory_store_break(repository->store, false);
    ck_assert(!map_cache_reader_root(reader, &places[LEAVES], KEY, SIZE, &root, &err));
    ck_assert_int_eq(err.code, first.code);
    ck_assert_str_eq(err.message, first.message);
    ck_assert(map_cache_reader_leaf(reader, &places[0], KEY, 0, SIZE, &leaf, &err));
    map_cache_reader_free(reader);
}
END_TEST

START_TEST(another_files_map_is_refused)
{
    struct map_place elsewhere = places[0];
    struct map_cache_reader *reader;
    struct map_root root;

    reopen();
    ck_assert(map_cache_reader_new(cache, &reader, &err));
    ck_assert(!map_cache_reader_root(reader, &places[LEAVES], KEY + 1, SIZE, &root, &err));
    ck_assert(!map_cache_reader_root(reader, &places[LEAVES], KEY, SIZE - 1, &root, &err));
    ck_assert(!map_cache_reader_root(reader, &places[0], KEY, SIZE, &root, &err));
    ck_assert(!map_cache_reader_leaf(reader, &places[0], KEY + 1, 0, SIZE, &leaf, &err));
    ck_assert(!map_cache_reader_leaf(reader, &places[1], KEY, 0, SIZE, &leaf, &err));
    ck_assert(!map_cache_reader_leaf(reader, &places[LEAVES - 1], KEY, LEAVES - 1,
                                     SIZE - PACK_BLOCK, &leaf, &err));
    elsewhere.item_offset = (uint32_t)PACK_FRAME_RAW;
    ck_assert(!map_cache_reader_leaf(reader, &elsewhere, KEY, 0, SIZE, &leaf, &err));
    elsewhere = places[0];
    elsewhere.frame.pack.number = 9;
    ck_assert(!map_cache_reader_leaf(reader, &elsewhere, KEY, 0, SIZE, &leaf, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    map_cache_reader_free(reader);
}
END_TEST

START_TEST(copies_nobody_needs_go)
{
    struct refs none = REFS_INIT;

    fixture_write(MAP_CACHE_DIRECTORY "/" FILES_TEMPORARY "123", "left");
    fixture_write(MAP_CACHE_DIRECTORY "/known", "stays");
    ck_assert(map_cache_prune(cache, pack_set_refs(set), &err));
    ck_assert_int_eq(access(copy(1), F_OK), 0);
    ck_assert_int_ne(access(fixture_path(MAP_CACHE_DIRECTORY "/" FILES_TEMPORARY "123"), F_OK), 0);
    ck_assert(map_cache_prune(cache, &none, &err));
    ck_assert_int_ne(access(copy(1), F_OK), 0);
    ck_assert_int_ne(access(copy(2), F_OK), 0);
    ck_assert_int_eq(access(fixture_path(MAP_CACHE_DIRECTORY "/known"), F_OK), 0);
}
END_TEST

Suite *map_cache_suite(void)
{
    Suite *suite = suite_create("map_cache");
    TCase *all = tcase_create("all");

    tcase_add_checked_fixture(all, make_maps, free_maps);
    tcase_set_timeout(all, 60);
    tcase_add_test(all, maps_are_read_from_copies);
    tcase_add_test(all, what_is_no_copy_is_fetched);
    tcase_add_test(all, what_is_lost_is_said_each_time);
    tcase_add_test(all, another_files_map_is_refused);
    tcase_add_test(all, copies_nobody_needs_go);
    suite_add_tcase(suite, all);
    return suite;
}
