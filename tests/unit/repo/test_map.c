#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/map.h"
#include "pgvigil/mem.h"
#include "suites.h"
#include "support/memory_store.h"
#include "support/seed.h"

static struct error err;

/* A leaf of 200 blocks: 40 zero ones, then frames of up to 32. */
static struct map_leaf *make_leaf(void)
{
    struct map_leaf *leaf = mem_calloc(1, sizeof *leaf);
    uint64_t state = seed_start("map");
    uint16_t at = 40;

    leaf->key = seed_next(&state);
    leaf->number = 3;
    leaf->blocks = 200;
    for (size_t i = 0; i < leaf->blocks; i++)
        leaf->digests[i] = seed_next(&state);
    leaf->run[leaf->runs++].count = 40;
    while (at < leaf->blocks) {
        struct map_run *run = &leaf->run[leaf->runs++];

        run->frame = (struct pack_frame){
            .pack = {.run = 1000 + at, .number = 1 + at}, .offset = at * 100u, .length = 77};
        run->count = leaf->blocks - at < 32 ? (uint16_t)(leaf->blocks - at) : 32;
        at = (uint16_t)(at + run->count);
    }
    return leaf;
}

START_TEST(leaf_round_trip)
{
    struct map_leaf *leaf = make_leaf();
    struct map_leaf *back = mem_calloc(1, sizeof *back);
    struct buffer item = BUFFER_INIT;

    map_encode_leaf(leaf, &item);
    ck_assert_msg(map_decode_leaf(item.data, item.length, back, &err), "%s", err.message);
    ck_assert_mem_eq(leaf, back, sizeof *leaf);
    buffer_free(&item);
    free(leaf);
    free(back);
}
END_TEST

/* No single changed byte may crash the decoder or make it read or write out of bounds, and every
 * cut is noticed. (That a change of content is noticed is the pack's digest's task.) */
START_TEST(leaf_damage_is_harmless)
{
    struct map_leaf *leaf = make_leaf();
    struct map_leaf *back = mem_calloc(1, sizeof *back);
    struct buffer item = BUFFER_INIT;

    map_encode_leaf(leaf, &item);
    for (size_t cut = 0; cut < item.length; cut++) {
        unsigned char *piece = mem_alloc(cut + 1);

        memcpy(piece, item.data, cut);
        ck_assert(!map_decode_leaf(piece, cut, back, &err));
        ck_assert_int_eq(err.code, ERROR_INTEGRITY);
        free(piece);
    }
    for (size_t i = 0; i < item.length; i++) {
        size_t blocks = 0;

        item.data[i] ^= 0xff;
        if (map_decode_leaf(item.data, item.length, back, &err))
            for (size_t r = 0; r < back->runs; r++) {
                ck_assert_uint_le(back->run[r].first + back->run[r].count,
                                  back->run[r].frame.pack.number ? PACK_FRAME_BLOCKS
                                                                 : MAP_LEAF_BLOCKS);
                ck_assert_uint_le(back->run[r].frame.offset + back->run[r].frame.length, PACK_SIZE);
                blocks += back->run[r].count;
            }
        else
            blocks = back->blocks;
        ck_assert_uint_eq(blocks, back->blocks);
        item.data[i] ^= 0xff;
    }
    buffer_free(&item);
    free(leaf);
    free(back);
}
END_TEST

START_TEST(root_round_trip)
{
    struct map_place places[3];
    struct map_root root = {.key = 99,
                            .file_size = (uint64_t)MAP_LEAF_BLOCKS * 8192 * 2 + 1,
                            .leaf_count = 3,
                            .leaves = places};
    struct map_root back;
    struct buffer item = BUFFER_INIT;

    for (uint32_t i = 0; i < 3; i++)
        places[i] = (struct map_place){
            .frame = {.pack = {.run = 5, .number = 1 + i}, .offset = i, .length = 9},
            .item_offset = i * 7,
            .item_length = 1};
    map_encode_root(&root, &item);
    ck_assert_msg(map_decode_root(item.data, item.length, &back, &err), "%s", err.message);
    ck_assert_uint_eq(back.key, 99);
    ck_assert_uint_eq(back.file_size, root.file_size);
    ck_assert_uint_eq(back.leaf_count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        ck_assert_int_eq(layout_compare_packs(&back.leaves[i].frame.pack, &places[i].frame.pack),
                         0);
        ck_assert_uint_eq(back.leaves[i].item_offset, i * 7);
    }
    map_free_root(&back);
    for (size_t cut = 0; cut < item.length; cut++)
        ck_assert(!map_decode_root(item.data, cut, &back, &err));
    buffer_append(&item, "x", 1);
    ck_assert(!map_decode_root(item.data, item.length, &back, &err));
    buffer_free(&item);
}
END_TEST

/* A root that claims 2^40 leaves must be refused before anything is allocated for them. */
START_TEST(root_of_impossible_size)
{
    struct map_root root = {.file_size = UINT64_MAX, .leaf_count = 0};
    struct map_root back;
    struct buffer item = BUFFER_INIT;

    map_encode_root(&root, &item);
    ck_assert(!map_decode_root(item.data, item.length, &back, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    buffer_free(&item);
}
END_TEST

START_TEST(leaf_counts)
{
    ck_assert_uint_eq(map_leaf_count(0), 0);
    ck_assert_uint_eq(map_leaf_count(1), 1);
    ck_assert_uint_eq(map_leaf_count(2 * 1024 * 1024), 1);
    ck_assert_uint_eq(map_leaf_count(2 * 1024 * 1024 + 1), 2);
    ck_assert_uint_eq(map_leaf_count(UINT64_C(1) << 30), 512);
}
END_TEST

/* --- writing ------------------------------------------------------------------------------------
 * */

#define ITEMS 2000

static struct map_place placed[2 * ITEMS];
static size_t placed_count;
static struct map_writer *writer;

/* The first ITEMS are "leaves"; each, once placed, adds a "root" as the backup does. */
static bool note_placed(void *owner, uint32_t slot, const struct map_place *place,
                        struct error *error)
{
    unsigned char root[40];

    placed[slot] = *place;
    placed_count++;
    memset(root, (int)(slot % 251), sizeof root);
    return slot >= ITEMS || map_writer_add(writer, root, sizeof root, owner, slot + ITEMS, error);
}

static void check_item(struct repository *repository, const struct refs *refs, uint32_t slot)
{
    static unsigned char raw[MAP_ITEM_MAXIMUM];
    const struct map_place *place = &placed[slot];
    const struct refs_pack *pack = refs_find(refs, &place->frame.pack);
    struct decompress_context *context = decompress_new();
    struct buffer bytes = BUFFER_INIT;
    size_t length;

    ck_assert_ptr_nonnull(pack);
    ck_assert_int_eq(pack->kind, REFS_MAP);
    ck_assert_msg(pack_fetch(repository, pack, &bytes, &err), "%s", err.message);
    ck_assert(pack_read_frame(&bytes, &place->frame, context, raw, sizeof raw, &length, &err));
    ck_assert_uint_le(place->item_offset + place->item_length, length);
    ck_assert_uint_eq(raw[place->item_offset], (slot >= ITEMS ? slot - ITEMS : slot) % 251);
    buffer_free(&bytes);
    decompress_free(context);
}

START_TEST(items_are_where_they_are_said_to_be)
{
    struct repository repository = {.name = "test", .store = memory_store_new(), .cluster = "main"};
    struct pack_set *set;
    unsigned char leaf[2100];

    repository_select(&repository, 7);
    set = pack_set_new(&repository, 1000);
    placed_count = 0;
    ck_assert(map_writer_new(set, 1, note_placed, &writer, &err));
    for (uint32_t i = 0; i < ITEMS; i++) {
        memset(leaf, (int)(i % 251), sizeof leaf);
        ck_assert(map_writer_add(writer, leaf, sizeof leaf, NULL, i, &err));
    }
    ck_assert_msg(map_writer_finish(writer, &err), "%s", err.message);
    ck_assert_uint_eq(placed_count, 2 * ITEMS);
    for (uint32_t i = 0; i < 2 * ITEMS; i += 97)
        check_item(&repository, pack_set_refs(set), i);
    map_writer_free(writer);
    pack_set_free(set);
    free(repository.prefix);
    store_close(repository.store);
}
END_TEST

Suite *map_suite(void)
{
    Suite *suite = suite_create("map");
    TCase *form = tcase_create("form");
    TCase *writing = tcase_create("writing");

    tcase_add_test(form, leaf_round_trip);
    tcase_add_test(form, leaf_damage_is_harmless);
    tcase_add_test(form, root_round_trip);
    tcase_add_test(form, root_of_impossible_size);
    tcase_add_test(form, leaf_counts);
    suite_add_tcase(suite, form);
    tcase_add_test(writing, items_are_where_they_are_said_to_be);
    suite_add_tcase(suite, writing);
    return suite;
}
