/*
 * restore_blocks.c - turning maps round
 */
#include "job/restore_blocks.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "pgvigil/pack.h"
#include "pgvigil/process.h"

#define SPOOL_BYTES ((size_t)1024 * 1024)

size_t restore_blocks_bytes(const struct restore_plan_file *file, uint32_t block, uint32_t count)
{
    const uint64_t begin = (uint64_t)block * PACK_BLOCK, end = begin + count * PACK_BLOCK;

    return (size_t)((end < file->size ? end : file->size) - begin);
}

/* A list that grows in a file without a name. */
struct spool {
    int fd;
    struct buffer waiting;
    uint64_t bytes;
};

static bool spool_flush(struct spool *spool, struct error *err)
{
    const bool ok = files_write_fd(spool->fd, "temporary file", spool->waiting.data,
                                   spool->waiting.length, err);

    buffer_clear(&spool->waiting);
    return ok;
}

static bool spool_add(struct spool *spool, const void *data, size_t length, struct error *err)
{
    buffer_append(&spool->waiting, data, length);
    spool->bytes += length;
    return spool->waiting.length < SPOOL_BYTES || spool_flush(spool, err);
}

/* NULL with err set when it cannot be mapped. */
static void *map_file(int fd, uint64_t bytes, int protection, struct error *err)
{
    void *mapped = mmap(NULL, bytes, protection, MAP_SHARED, fd, 0);

    if (mapped != MAP_FAILED)
        return mapped;
    error_set_errno(err, "could not map a temporary file of %" PRIu64 " bytes", bytes);
    return NULL;
}

static void spool_close(struct spool *spool)
{
    if (spool->fd >= 0)
        close(spool->fd);
    buffer_free(&spool->waiting);
}

/* Where a leaf lies and what it is of. */
struct leaf_place {
    struct map_place place;
    uint32_t file;
    uint32_t number;
};

struct reading {
    const struct restore_plan *plan;
    struct repository *repository;
    const struct refs *refs;
    struct restore_tree *tree;
    struct restore_blocks *blocks;

    struct leaf_place *leaves;
    size_t leaf_count, leaf_capacity;

    /* the map pack and the frame that were looked at last */
    struct buffer pack;
    struct pack_frame frame; /* pack.number 0: none */
    unsigned char *raw;
    size_t raw_length;
    struct decompress_context *decompress;

    struct spool runs, digests;
    uint64_t *counts; /* runs of each pack */
    struct map_leaf leaf;
};

static int compare_places(const struct map_place *a, const struct map_place *b)
{
    const int packs = layout_compare_packs(&a->frame.pack, &b->frame.pack);

    if (packs != 0)
        return packs;
    if (a->frame.offset != b->frame.offset)
        return a->frame.offset < b->frame.offset ? -1 : 1;
    return (a->item_offset > b->item_offset) - (a->item_offset < b->item_offset);
}

static int compare_leaves(const void *a, const void *b)
{
    return compare_places(&((const struct leaf_place *)a)->place,
                          &((const struct leaf_place *)b)->place);
}

static const struct refs_pack *find_pack(const struct reading *reading,
                                         const struct layout_pack *pack, enum refs_kind kind,
                                         struct error *err)
{
    const struct refs_pack *found = refs_find(reading->refs, pack);
    char name[LAYOUT_NAME_SIZE];

    if (found != NULL && found->kind == kind)
        return found;
    error_set(err, ERROR_INTEGRITY, "the backup's list of packs does not have %s pack \"%s\"",
              kind == REFS_MAP ? "map" : "data", layout_pack(pack, name));
    return NULL;
}

static bool load_frame(struct reading *reading, const struct pack_frame *frame, struct error *err)
{
    if (reading->frame.pack.number == 0 ||
        layout_compare_packs(&reading->frame.pack, &frame->pack) != 0) {
        const struct refs_pack *pack = find_pack(reading, &frame->pack, REFS_MAP, err);

        reading->frame.pack.number = 0;
        if (pack == NULL || !process_check(err) ||
            !pack_fetch(reading->repository, pack, &reading->pack, err))
            return false;
    } else if (reading->frame.offset == frame->offset && reading->frame.length == frame->length) {
        return true;
    }
    reading->frame.pack.number = 0;
    if (!pack_read_frame(&reading->pack, frame, reading->decompress, reading->raw, MAP_ITEM_MAXIMUM,
                         &reading->raw_length, err))
        return false;
    reading->frame = *frame;
    return true;
}

static bool load_item(struct reading *reading, const struct map_place *place,
                      const unsigned char **item, struct error *err)
{
    if (!load_frame(reading, &place->frame, err))
        return false;
    if (place->item_offset > reading->raw_length ||
        place->item_length > reading->raw_length - place->item_offset)
        return error_set(err, ERROR_INTEGRITY, "damaged map: an item lies outside of its frame");
    *item = reading->raw + place->item_offset;
    return true;
}

static bool read_root(struct reading *reading, uint32_t index, struct error *err)
{
    const struct restore_plan_file *file = &reading->plan->files[index];
    const unsigned char *item = NULL; /* gcc 14 cannot see that load_item sets it */
    struct map_root root;

    if (!load_item(reading, &file->map, &item, err) ||
        !map_decode_root(item, file->map.item_length, &root, err))
        return error_context(err, "file \"%s\"", file->path);
    if (root.key != file->key || root.file_size != file->size) {
        map_free_root(&root);
        return error_set(err, ERROR_INTEGRITY, "file \"%s\": its map is that of another file",
                         file->path);
    }
    for (uint32_t i = 0; i < root.leaf_count; i++) {
        reading->leaves = mem_grow(reading->leaves, reading->leaf_count, &reading->leaf_capacity,
                                   sizeof *reading->leaves);
        reading->leaves[reading->leaf_count++] =
            (struct leaf_place){.place = root.leaves[i], .file = index, .number = i};
    }
    map_free_root(&root);
    return true;
}

/* The roots in the order in which they lie, then all leaves in theirs. */
static bool read_roots(struct reading *reading, struct error *err)
{
    const struct restore_plan *plan = reading->plan;
    struct leaf_place *roots = mem_calloc(plan->file_count, sizeof *roots);
    size_t count = 0;
    bool ok = true;

    for (size_t i = 0; i < plan->file_count; i++)
        if (plan->files[i].size > 0)
            roots[count++] = (struct leaf_place){.place = plan->files[i].map, .file = (uint32_t)i};
    qsort(roots, count, sizeof *roots, compare_leaves);
    for (size_t i = 0; ok && i < count; i++)
        ok = read_root(reading, roots[i].file, err);
    free(roots);
    if (ok && reading->leaf_count > 0)
        qsort(reading->leaves, reading->leaf_count, sizeof *reading->leaves, compare_leaves);
    return ok;
}

/* Nothing of such blocks is stored, so that the digests are all there is to check. */
static bool check_zeros(const struct reading *reading, const struct restore_plan_file *file,
                        uint32_t block, uint32_t count, const uint64_t *digests)
{
    static const unsigned char zeros[PACK_BLOCK];

    for (uint32_t i = 0; i < count; i++)
        if (digests[i] !=
            digest_block(zeros, restore_blocks_bytes(file, block + i, 1), reading->plan->secret))
            return false;
    return true;
}

static bool spool_run(struct reading *reading, const struct leaf_place *leaf,
                      const struct map_run *run, uint32_t block, const uint64_t *digests,
                      struct error *err)
{
    const struct restore_plan_file *file = &reading->plan->files[leaf->file];
    const size_t bytes = restore_blocks_bytes(file, block, run->count);
    struct restore_blocks_run out = {.digest = reading->digests.bytes / sizeof *digests,
                                     .file = leaf->file,
                                     .block = block,
                                     .offset = run->frame.offset,
                                     .length = run->frame.length,
                                     .first = run->first,
                                     .count = run->count};

    if (run->frame.pack.number == 0) {
        out.pack = (uint32_t)reading->refs->count;
    } else {
        const struct refs_pack *pack = find_pack(reading, &run->frame.pack, REFS_DATA, err);

        if (pack == NULL)
            return error_context(err, "file \"%s\"", file->path);
        out.pack = (uint32_t)(pack - reading->refs->packs);
        reading->blocks->bytes += bytes;
        if ((uint64_t)block * PACK_BLOCK >= file->kept)
            reading->blocks->root_bytes[restore_tree_root(reading->tree, file->path)] += bytes;
    }
    reading->counts[out.pack]++;
    return spool_add(&reading->runs, &out, sizeof out, err) &&
           spool_add(&reading->digests, digests, run->count * sizeof *digests, err);
}

static bool take_runs(struct reading *reading, const struct leaf_place *place, struct error *err)
{
    const struct restore_plan_file *file = &reading->plan->files[place->file];
    const struct map_leaf *leaf = &reading->leaf;
    uint32_t at = 0; /* in the leaf */

    for (size_t i = 0; i < leaf->runs; i++) {
        const struct map_run *run = &leaf->run[i];
        const uint32_t block = place->number * MAP_LEAF_BLOCKS + at;

        if (run->frame.pack.number == 0 &&
            !check_zeros(reading, file, block, run->count, &leaf->digests[at]))
            return error_set(err, ERROR_INTEGRITY,
                             "file \"%s\": blocks %" PRIu32 " to %" PRIu32
                             " are zeros by their map, but not by their digests",
                             file->path, block, block + run->count - 1);
        /* Behind what was kept, a file is a hole. */
        if ((run->frame.pack.number != 0 || (uint64_t)block * PACK_BLOCK < file->kept) &&
            !spool_run(reading, place, run, block, &leaf->digests[at], err))
            return false;
        at += run->count;
    }
    return true;
}

static bool read_leaf(struct reading *reading, const struct leaf_place *place, struct error *err)
{
    const struct restore_plan_file *file = &reading->plan->files[place->file];
    const uint64_t blocks = (file->size + PACK_BLOCK - 1) / PACK_BLOCK;
    const uint64_t left = blocks - (uint64_t)place->number * MAP_LEAF_BLOCKS;
    const struct map_leaf *leaf = &reading->leaf;
    const unsigned char *item = NULL;

    if (!load_item(reading, &place->place, &item, err) ||
        !map_decode_leaf(item, place->place.item_length, &reading->leaf, err))
        return error_context(err, "file \"%s\"", file->path);
    if (leaf->key != file->key || leaf->number != place->number ||
        leaf->blocks != (left < MAP_LEAF_BLOCKS ? left : MAP_LEAF_BLOCKS))
        return error_set(err, ERROR_INTEGRITY,
                         "file \"%s\": leaf %" PRIu32 " of its map is another one", file->path,
                         place->number);
    return take_runs(reading, place, err);
}

/* The place of each pack's runs, from how many each has. */
static void sum_counts(struct reading *reading)
{
    uint64_t sum = 0;

    for (size_t i = 0; i <= reading->refs->count; i++) {
        reading->blocks->starts[i] = sum;
        sum += reading->counts[i];
        reading->counts[i] = reading->blocks->starts[i];
    }
    reading->blocks->starts[reading->refs->count + 1] = sum;
}

/* Makes a file of this size and maps it. It has all its room before, as a full disk would otherwise
 * end the process when the memory is written to. */
static struct restore_blocks_run *make_sorted(struct reading *reading, uint64_t bytes,
                                              struct error *err)
{
    struct restore_blocks_run *sorted = NULL;
    int fd, code;

    if (!restore_tree_temporary(reading->tree, &fd, err))
        return NULL;
    if ((code = posix_fallocate(fd, 0, (off_t)bytes)) != 0) {
        errno = code;
        error_set_errno(err, "could not make a temporary file of %" PRIu64 " bytes", bytes);
    } else {
        sorted = map_file(fd, bytes, PROT_READ | PROT_WRITE, err);
    }
    close(fd);
    return sorted;
}

/* Counting sort by pack, from one file into another. */
static bool sort_runs(struct reading *reading, struct error *err)
{
    const uint64_t bytes = reading->runs.bytes, count = bytes / sizeof *reading->blocks->runs;
    struct restore_blocks_run *from, *to;

    sum_counts(reading);
    if (count == 0)
        return true;
    from = map_file(reading->runs.fd, bytes, PROT_READ, err);
    if (from == NULL)
        return false;
    to = make_sorted(reading, bytes, err);
    if (to != NULL)
        for (uint64_t i = 0; i < count; i++)
            to[reading->counts[from[i].pack]++] = from[i];
    munmap(from, bytes);
    reading->blocks->runs = to;
    reading->blocks->runs_mapped = bytes;
    return to != NULL;
}

static bool map_digests(struct reading *reading, struct error *err)
{
    if (reading->digests.bytes == 0)
        return true;
    reading->blocks->digests =
        map_file(reading->digests.fd, reading->digests.bytes, PROT_READ, err);
    reading->blocks->digests_mapped = reading->digests.bytes;
    return reading->blocks->digests != NULL;
}

static bool read_all(struct reading *reading, struct error *err)
{
    if (!read_roots(reading, err))
        return false;
    for (size_t i = 0; i < reading->leaf_count; i++)
        if (!read_leaf(reading, &reading->leaves[i], err))
            return false;
    return spool_flush(&reading->runs, err) && spool_flush(&reading->digests, err) &&
           sort_runs(reading, err) && map_digests(reading, err);
}

bool restore_blocks_read(const struct restore_plan *plan, struct repository *repository,
                         const struct refs *refs, struct restore_tree *tree, size_t root_count,
                         struct restore_blocks *blocks, struct error *err)
{
    struct reading *reading = mem_calloc(1, sizeof *reading);
    void *raw = NULL;
    bool ok;

    *blocks = (struct restore_blocks){.starts = mem_calloc(refs->count + 2, sizeof(uint64_t)),
                                      .root_bytes = mem_calloc(root_count, sizeof(uint64_t))};
    reading->plan = plan;
    reading->repository = repository;
    reading->refs = refs;
    reading->tree = tree;
    reading->blocks = blocks;
    reading->runs.fd = reading->digests.fd = -1;
    reading->counts = mem_calloc(refs->count + 1, sizeof *reading->counts);
    reading->decompress = decompress_new();
    ok = mem_try_alloc(&raw, MAP_ITEM_MAXIMUM, err);
    reading->raw = raw;
    ok = ok && restore_tree_temporary(tree, &reading->runs.fd, err) &&
         restore_tree_temporary(tree, &reading->digests.fd, err) && read_all(reading, err);
    decompress_free(reading->decompress);
    buffer_free(&reading->pack);
    spool_close(&reading->runs);
    spool_close(&reading->digests);
    free(reading->counts);
    free(reading->leaves);
    free(reading->raw);
    free(reading);
    if (!ok)
        restore_blocks_free(blocks);
    return ok;
}

void restore_blocks_free(struct restore_blocks *blocks)
{
    if (blocks->runs != NULL)
        munmap(blocks->runs, blocks->runs_mapped);
    if (blocks->digests != NULL)
        munmap((void *)(uintptr_t)blocks->digests, blocks->digests_mapped);
    free(blocks->starts);
    free(blocks->root_bytes);
    *blocks = (struct restore_blocks){.runs = NULL};
}
