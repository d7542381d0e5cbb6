/* From maps to bytes in files: what restore_blocks and restore_worker make of a repository. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "job/restore_blocks.h"
#include "job/restore_worker.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "pgvigil/page.h"
#include "suites.h"
#include "support/archive.h"
#include "support/scratch.h"
#include "support/seed.h"

#define OLD_RUN 1000
#define NEW_RUN 2000
#define ROOT_SLOT UINT32_MAX
#define LEAVES_MAXIMUM 8

/* What is wrong with a file's map. */
enum harm {
    HARM_NONE,
    HARM_DIGEST,
    HARM_ZEROS,
    HARM_KEY,
    HARM_NUMBER,
    HARM_FIRST,
    HARM_ROOT_SIZE,
    HARM_ITEM
};

struct made {
    unsigned char *bytes;
    uint64_t size;
    struct map_place leaves[LEAVES_MAXIMUM];
    struct map_place root;
};

static struct repository *repository;
static struct pack_set *sets[2];
static struct pack_writer *writers[2];
static struct map_writer *maps;  /* of leaves */
static struct map_writer *roots; /* of roots: mostly the same */
static struct restore_plan plan;
static struct restore_place place;
static struct restore_tree *tree;
static struct restore_blocks blocks;
static struct refs refs;
static unsigned char secret[DIGEST_SECRET_SIZE];
static struct made made[4];
static size_t made_count;
static char *directory;
static struct error err;

static bool placed(void *owner, uint32_t slot, const struct map_place *where, struct error *error)
{
    struct made *file = owner;

    (void)error;
    if (slot == ROOT_SLOT)
        file->root = *where;
    else
        file->leaves[slot] = *where;
    return true;
}

static void set_up(void)
{
    uint64_t state;

    repository = archive_repository();
    directory = scratch_make();
    state = seed_start("restore_blocks");
    seed_fill(&state, secret, sizeof secret);
    sets[0] = pack_set_new(repository, OLD_RUN);
    sets[1] = pack_set_new(repository, NEW_RUN);
    for (int i = 0; i < 2; i++)
        ck_assert(pack_writer_new(sets[i], REFS_DATA, 1, &writers[i], &err));
    ck_assert(map_writer_new(sets[1], 1, placed, &maps, &err));
    roots = maps;
    plan = (struct restore_plan){.secret = secret};
    place = (struct restore_place){.path = files_join(directory, "target")};
    refs = (struct refs)REFS_INIT;
    made_count = 0;
    error_clear(&err);
}

static void tear_down(void)
{
    restore_blocks_free(&blocks);
    restore_tree_free(tree);
    tree = NULL;
    restore_plan_free(&plan);
    free(place.path);
    refs_free(&refs);
    if (roots != maps)
        map_writer_free(roots);
    map_writer_free(maps);
    for (int i = 0; i < 2; i++) {
        pack_writer_free(writers[i]);
        pack_set_free(sets[i]);
    }
    for (size_t i = 0; i < made_count; i++)
        free(made[i].bytes);
    archive_free_repository(repository);
    scratch_remove(directory);
}

static size_t length_of(const struct made *file, uint64_t block)
{
    const uint64_t left = file->size - block * PACK_BLOCK;

    return left < PACK_BLOCK ? (size_t)left : PACK_BLOCK;
}

/* One run: blocks [from, to) of the file, stored by the older and the newer run in turn. */
static void add_run(const struct made *file, struct map_leaf *leaf, uint64_t from, uint64_t to)
{
    const unsigned char *data = file->bytes + from * PACK_BLOCK;
    const size_t length = (size_t)(to - 1 - from) * PACK_BLOCK + length_of(file, to - 1);
    struct map_run *run = &leaf->run[leaf->runs++];

    *run = (struct map_run){.count = (uint16_t)(to - from)};
    if (!page_is_zero(data, length))
        ck_assert(pack_writer_add(writers[leaf->runs % 2], data, length, (uint32_t)(to - from),
                                  &run->frame, &err));
}

static void add_leaf(struct made *file, uint64_t key, uint32_t number, enum harm harm)
{
    const uint64_t blocks_of = (file->size + PACK_BLOCK - 1) / PACK_BLOCK;
    const uint64_t begin = (uint64_t)number * MAP_LEAF_BLOCKS;
    const uint64_t end = begin + MAP_LEAF_BLOCKS < blocks_of ? begin + MAP_LEAF_BLOCKS : blocks_of;
    struct map_leaf *leaf = mem_calloc(1, sizeof *leaf);
    struct buffer item = BUFFER_INIT;

    leaf->key = harm == HARM_KEY ? key + 1 : key;
    leaf->number = harm == HARM_NUMBER ? number + 1 : number;
    leaf->blocks = (uint16_t)(end - begin);
    for (uint64_t i = begin; i < end; i++)
        leaf->digests[i - begin] =
            digest_block(file->bytes + i * PACK_BLOCK, length_of(file, i), secret);
    /* Every fourth block starts a run; the second of them is a run of zeros. */
    for (uint64_t i = begin; i < end; i += 4)
        add_run(file, leaf, i, i + 4 < end ? i + 4 : end);
    if (harm == HARM_DIGEST)
        leaf->digests[0]++;
    if (harm == HARM_ZEROS)
        leaf->digests[5]++;
    if (harm == HARM_FIRST)
        leaf->run[0].first = 1;
    map_encode_leaf(leaf, &item);
    ck_assert(map_writer_add(maps, item.data, item.length, file, number, &err));
    buffer_free(&item);
    free(leaf);
}

/* A file of random blocks but for blocks 4 to 7 of each leaf, which are zeros. */
static void add_file(const char *path, uint64_t size, enum harm harm)
{
    struct made *file = &made[made_count++];
    const uint64_t key = map_key(path, secret);
    struct map_root root = {.key = key, .file_size = size, .leaf_count = map_leaf_count(size)};
    struct buffer item = BUFFER_INIT;
    uint64_t state = made_count;

    *file = (struct made){.bytes = mem_calloc(1, size + 1), .size = size};
    seed_fill(&state, file->bytes, size);
    for (uint64_t i = 0; i * PACK_BLOCK < size; i++)
        if (i % MAP_LEAF_BLOCKS >= 4 && i % MAP_LEAF_BLOCKS < 8)
            memset(file->bytes + i * PACK_BLOCK, 0, length_of(file, i));
    ck_assert_uint_le(root.leaf_count, LEAVES_MAXIMUM);
    for (uint32_t i = 0; i < root.leaf_count; i++)
        add_leaf(file, key, i, harm);
    ck_assert(map_writer_finish(maps, &err));
    root.leaves = file->leaves;
    if (harm == HARM_ROOT_SIZE)
        root.file_size--;
    if (root.leaf_count > 0) {
        map_encode_root(&root, &item);
        ck_assert(map_writer_add(roots, item.data, item.length, file, ROOT_SLOT, &err));
        ck_assert(map_writer_finish(roots, &err));
        buffer_free(&item);
    }
    if (harm == HARM_ITEM)
        file->root.item_offset += 100;
    plan.files = mem_grow(plan.files, plan.file_count, &plan.file_capacity, sizeof *plan.files);
    plan.files[plan.file_count++] = (struct restore_plan_file){
        .path = mem_strdup(path), .size = size, .key = key, .mode = 0600, .map = file->root};
}

static bool restore(void)
{
    uint64_t kept;

    for (int i = 0; i < 2; i++) {
        const struct refs *stored;

        ck_assert(pack_writer_flush(writers[i], &err));
        stored = pack_set_refs(sets[i]);
        for (size_t j = 0; j < stored->count; j++)
            refs_add(&refs, &stored->packs[j]);
    }
    refs_sort(&refs);
    ck_assert_msg(restore_tree_new(&place, "test", &tree, &err), "%s", err.message);
    ck_assert_msg(restore_plan_make(&plan, tree, &err), "%s", err.message);
    return restore_blocks_read(&plan, repository, &refs, tree, 1, 3, &blocks, &err) &&
           restore_worker_run(&plan, &blocks, repository, &refs, tree, 3, &kept, &err);
}

static void check_file(size_t index)
{
    char *path = files_join(place.path, plan.files[index].path);
    struct buffer bytes = BUFFER_INIT;

    ck_assert_msg(files_read(path, 64 << 20, &bytes, &err), "%s", err.message);
    ck_assert_uint_eq(bytes.length, made[index].size);
    if (bytes.length > 0)
        ck_assert_mem_eq(bytes.data, made[index].bytes, bytes.length);
    buffer_free(&bytes);
    free(path);
}

/* Files of several leaves, with a short last block, empty, of one byte; blocks from two runs. */
START_TEST(blocks_of_two_runs_come_together)
{
    add_file("large", 3 * MAP_LEAF_BLOCKS * PACK_BLOCK + 12345, HARM_NONE);
    add_file("exact", MAP_LEAF_BLOCKS * PACK_BLOCK, HARM_NONE);
    add_file("empty", 0, HARM_NONE);
    add_file("tiny", 1, HARM_NONE);
    ck_assert_msg(restore(), "%s", err.message);
    ck_assert(refs_find(&refs, &(struct layout_pack){.run = OLD_RUN, .number = 1}) != NULL);
    ck_assert(refs_find(&refs, &(struct layout_pack){.run = NEW_RUN, .number = 1}) != NULL);
    for (size_t i = 0; i < made_count; i++)
        check_file(i);
    /* 16 blocks of zeros in four leaves, the last of which has two blocks only */
    ck_assert_uint_eq(blocks.bytes, made[0].size + made[1].size + 1 - 16 * PACK_BLOCK);
}
END_TEST

/* A clock that went backwards gives roots to packs before those of their leaves. */
START_TEST(roots_before_their_leaves_are_followed)
{
    add_file("before", 3 * MAP_LEAF_BLOCKS * PACK_BLOCK, HARM_NONE);
    ck_assert(map_writer_new(sets[0], 1, placed, &roots, &err));
    add_file("large", 2 * MAP_LEAF_BLOCKS * PACK_BLOCK + 12345, HARM_NONE);
    add_file("tiny", 1, HARM_NONE);
    ck_assert_msg(restore(), "%s", err.message);
    ck_assert_int_eq(made[1].root.frame.pack.run, OLD_RUN);
    ck_assert_int_eq(made[1].leaves[0].frame.pack.run, NEW_RUN);
    for (size_t i = 0; i < made_count; i++)
        check_file(i);
}
END_TEST

START_TEST(zeros_stay_holes)
{
    char *path = files_join(place.path, "file");
    struct stat status;

    add_file("file", 8 * PACK_BLOCK, HARM_NONE);
    ck_assert_msg(restore(), "%s", err.message);
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_int_le(status.st_blocks * 512, 5 * 8192);
    free(path);
}
END_TEST

/* Every leaf and root is well-formed by itself, but not what it should be here. */
START_TEST(harm_is_noticed)
{
    static const char *const says[] = {[HARM_DIGEST] = "wrong digest",
                                       [HARM_ZEROS] = "zeros by their map",
                                       [HARM_KEY] = "is another one",
                                       [HARM_NUMBER] = "is another one",
                                       [HARM_FIRST] = "too short for its map",
                                       [HARM_ROOT_SIZE] = "that of another file",
                                       [HARM_ITEM] = "damaged map"};

    add_file("sound", 10 * PACK_BLOCK, HARM_NONE);
    add_file("harmed", 20 * PACK_BLOCK, (enum harm)_i);
    ck_assert(!restore());
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_msg(strstr(err.message, says[_i]) != NULL, "%s", err.message);
    ck_assert_msg(strstr(err.message, "harmed") != NULL, "%s", err.message);
}
END_TEST

START_TEST(a_map_of_another_file_is_noticed)
{
    add_file("one", 10 * PACK_BLOCK, HARM_NONE);
    add_file("two", 10 * PACK_BLOCK, HARM_NONE);
    plan.files[0].map = plan.files[1].map;
    ck_assert(!restore());
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert(strstr(err.message, "that of another file") != NULL);
}
END_TEST

/* The backup's list of packs is what says which packs are its own. */
START_TEST(a_pack_not_in_refs_is_noticed)
{
    add_file("file", 20 * PACK_BLOCK, HARM_NONE);
    ck_assert(pack_writer_flush(writers[0], &err));
    ck_assert_uint_eq(pack_set_refs(sets[0])->count, 1);
    pack_set_free(sets[0]);
    sets[0] = pack_set_new(repository, 3000);
    ck_assert(!restore());
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_msg(strstr(err.message, "list of packs") != NULL, "%s", err.message);
}
END_TEST

Suite *restore_blocks_suite(void)
{
    Suite *suite = suite_create("restore_blocks");
    TCase *tests = tcase_create("restore_blocks");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, blocks_of_two_runs_come_together);
    tcase_add_test(tests, roots_before_their_leaves_are_followed);
    tcase_add_test(tests, zeros_stay_holes);
    tcase_add_loop_test(tests, harm_is_noticed, HARM_DIGEST, HARM_ITEM + 1);
    tcase_add_test(tests, a_map_of_another_file_is_noticed);
    tcase_add_test(tests, a_pack_not_in_refs_is_noticed);
    suite_add_tcase(suite, tests);
    return suite;
}
