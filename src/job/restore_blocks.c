/*
 * restore_blocks.c - turning maps round
 */
#include "job/restore_blocks.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "job/map_walk.h"
#include "pgvigil/mem.h"
#include "pgvigil/pack.h"
#include "pgvigil/progress.h"

/* Blocks of a stretch at most, but for a single pack and in clusters above 16 TB; at worst, each being
 * a run of its own, this is 50 MB. */
#define STRETCH_BLOCKS (UINT64_C(1) << 19)
#define STRETCHES_MAXIMUM 4096
#define STRETCHES_A_THREAD 8 /* at least, so that all threads end at about the same time */

size_t restore_blocks_bytes(const struct restore_plan_file *file, uint32_t block, uint32_t count)
{
    const uint64_t begin = (uint64_t)block * PACK_BLOCK, end = begin + count * PACK_BLOCK;

    return (size_t)((end < file->size ? end : file->size) - begin);
}

bool restore_blocks_zeros(const struct restore_plan *plan, const struct restore_plan_file *file,
                          uint32_t block, uint32_t count, const uint64_t *digests)
{
    static const unsigned char zeros[PACK_BLOCK];

    for (uint32_t i = 0; i < count; i++)
        if (digests[i] !=
            digest_block(zeros, restore_blocks_bytes(file, block + i, 1), plan->secret))
            return false;
    return true;
}

/* What one thread has gathered of a leaf and not yet added to the list. */
struct gathering {
    struct buffer records;
    size_t stretch;
    uint64_t bytes;
    uint64_t *root_bytes;
};

struct reading {
    const struct restore_plan *plan;
    const struct refs *refs;
    const struct restore_tree *tree;
    struct restore_blocks *blocks;
    uint32_t *stretch_of;         /* of each pack in refs */
    struct gathering *gatherings; /* of each thread */
};

static bool flush(const struct reading *reading, struct gathering *gathering, struct error *err)
{
    const bool ok = gathering->records.length == 0 ||
                    spool_add(reading->blocks->spool, gathering->stretch, gathering->records.data,
                              gathering->records.length, err);

    buffer_clear(&gathering->records);
    return ok;
}

/* A record is a struct restore_blocks_run and behind it the digests. */
static bool add_record(const struct reading *reading, struct gathering *gathering, size_t stretch,
                       const struct restore_blocks_run *run, const uint64_t *digests,
                       struct error *err)
{
    if (stretch != gathering->stretch && !flush(reading, gathering, err))
        return false;
    gathering->stretch = stretch;
    buffer_append(&gathering->records, run, sizeof *run);
    buffer_append(&gathering->records, digests, run->count * sizeof *digests);
    return true;
}

static bool add_run(const struct reading *reading, struct gathering *gathering, uint32_t index,
                    const struct map_run *run, uint32_t block, const uint64_t *digests,
                    struct error *err)
{
    const struct restore_plan_file *file = &reading->plan->files[index];
    const size_t bytes = restore_blocks_bytes(file, block, run->count);
    struct restore_blocks_run out = {.file = index,
                                     .block = block,
                                     .pack = (uint32_t)reading->refs->count,
                                     .offset = run->frame.offset,
                                     .length = run->frame.length,
                                     .first = run->first,
                                     .count = run->count};
    const struct refs_pack *pack;
    char name[LAYOUT_NAME_SIZE];

    /* Zeros belong to no pack: they are dealt out, so that no stretch gets them all. */
    if (run->frame.pack.number == 0)
        return add_record(reading, gathering,
                          (index + block / MAP_LEAF_BLOCKS) % reading->blocks->stretches, &out,
                          digests, err);
    pack = refs_find(reading->refs, &run->frame.pack);
    if (pack == NULL || pack->kind != REFS_DATA)
        return error_set(err, ERROR_INTEGRITY,
                         "file \"%s\": the backup's list of packs does not have data pack \"%s\"",
                         file->path, layout_pack(&run->frame.pack, name));
    out.pack = (uint32_t)(pack - reading->refs->packs);
    gathering->bytes += bytes;
    if ((uint64_t)block * PACK_BLOCK >= file->kept)
        gathering->root_bytes[restore_tree_root(reading->tree, file->path)] += bytes;
    return add_record(reading, gathering, reading->stretch_of[out.pack], &out, digests, err);
}

static bool take_leaf(uint32_t index, const struct map_leaf *leaf, int thread, void *context,
                      struct error *err)
{
    const struct reading *reading = context;
    const struct restore_plan_file *file = &reading->plan->files[index];
    struct gathering *gathering = &reading->gatherings[thread];
    uint32_t at = 0; /* in the leaf */

    for (size_t i = 0; i < leaf->runs; i++) {
        const struct map_run *run = &leaf->run[i];
        const uint32_t block = leaf->number * MAP_LEAF_BLOCKS + at;

        if (run->frame.pack.number == 0 &&
            !restore_blocks_zeros(reading->plan, file, block, run->count, &leaf->digests[at]))
            return error_set(err, ERROR_INTEGRITY,
                             "file \"%s\": blocks %" PRIu32 " to %" PRIu32
                             " are zeros by their map, but not by their digests",
                             file->path, block, block + run->count - 1);
        /* Behind what was kept, a file is a hole. */
        if ((run->frame.pack.number != 0 || (uint64_t)block * PACK_BLOCK < file->kept) &&
            !add_run(reading, gathering, index, run, block, &leaf->digests[at], err))
            return false;
        at += run->count;
    }
    return flush(reading, gathering, err);
}

static uint64_t weight_of(const struct refs_pack *pack)
{
    return pack->kind == REFS_DATA ? (uint64_t)pack->live + 1 : 0;
}

/* Cuts the packs into stretches of about as many blocks each. */
static void cut(struct reading *reading, int jobs)
{
    const struct refs *refs = reading->refs;
    const uint64_t wanted = (uint64_t)jobs * STRETCHES_A_THREAD;
    uint64_t all = 0, limit, weight = 0;
    uint32_t stretch = 0;

    reading->stretch_of = mem_calloc(refs->count, sizeof *reading->stretch_of);
    for (size_t i = 0; i < refs->count; i++)
        all += weight_of(&refs->packs[i]);
    limit = all / wanted < STRETCH_BLOCKS ? all / wanted : STRETCH_BLOCKS;
    if (limit < all / STRETCHES_MAXIMUM)
        limit = all / STRETCHES_MAXIMUM;
    for (size_t i = 0; i < refs->count; i++) {
        const uint64_t more = weight_of(&refs->packs[i]);

        if (weight > 0 && more > 0 && weight + more > limit) {
            stretch++;
            weight = 0;
        }
        weight += more;
        reading->stretch_of[i] = stretch;
    }
    reading->blocks->stretches = stretch + 1;
}

static void sum_up(struct reading *reading, size_t jobs, size_t root_count)
{
    for (size_t i = 0; i < jobs; i++) {
        struct gathering *gathering = &reading->gatherings[i];

        reading->blocks->bytes += gathering->bytes;
        for (size_t j = 0; j < root_count; j++)
            reading->blocks->root_bytes[j] += gathering->root_bytes[j];
        free(gathering->root_bytes);
        buffer_free(&gathering->records);
    }
}

bool restore_blocks_read(const struct restore_plan *plan, struct repository *repository,
                         const struct refs *refs, struct restore_tree *tree, size_t root_count,
                         int jobs, struct restore_blocks *blocks, struct error *err)
{
    struct reading reading = {.plan = plan, .refs = refs, .tree = tree, .blocks = blocks};
    const struct map_walk_request request = {.repository = repository,
                                             .plan = plan,
                                             .refs = refs,
                                             .jobs = jobs,
                                             .fn = take_leaf,
                                             .context = &reading};
    int runs, leaves;
    bool ok;

    *blocks = (struct restore_blocks){.root_bytes = mem_calloc(root_count, sizeof(uint64_t))};
    reading.gatherings = mem_calloc((size_t)jobs, sizeof *reading.gatherings);
    for (int i = 0; i < jobs; i++)
        reading.gatherings[i].root_bytes = mem_calloc(root_count, sizeof(uint64_t));
    cut(&reading, jobs);
    ok = restore_tree_temporary(tree, &runs, err);
    if (ok) {
        blocks->spool = spool_new(runs, blocks->stretches);
        progress_start("reading maps", map_walk_bytes(refs));
        ok = restore_tree_temporary(tree, &leaves, err) && map_walk(&request, leaves, err);
        progress_stop();
    }
    sum_up(&reading, (size_t)jobs, root_count);
    free(reading.gatherings);
    free(reading.stretch_of);
    if (!ok)
        restore_blocks_free(blocks);
    return ok;
}

void restore_blocks_free(struct restore_blocks *blocks)
{
    spool_free(blocks->spool);
    free(blocks->root_bytes);
    *blocks = (struct restore_blocks){.spool = NULL};
}

static int compare_runs(const void *a, const void *b)
{
    const struct restore_blocks_run *left = a, *right = b;

    if (left->pack != right->pack)
        return left->pack < right->pack ? -1 : 1;
    if (left->offset != right->offset)
        return left->offset < right->offset ? -1 : 1;
    if (left->length != right->length)
        return left->length < right->length ? -1 : 1;
    if (left->file != right->file)
        return left->file < right->file ? -1 : 1;
    return (left->block > right->block) - (left->block < right->block);
}

/* Its records, in the order in which they came; without `runs` they are counted only. */
static size_t cut_records(const struct buffer *bytes, struct restore_blocks_run *runs)
{
    size_t count = 0;

    for (size_t at = 0; at < bytes->length; count++) {
        struct restore_blocks_run run;

        memcpy(&run, bytes->data + at, sizeof run);
        run.digests = bytes->data + at + sizeof run;
        at += sizeof run + run.count * sizeof(uint64_t);
        if (runs != NULL)
            runs[count] = run;
    }
    return count;
}

bool restore_blocks_take(const struct restore_blocks *blocks, size_t stretch,
                         struct restore_blocks_stretch *into, struct error *err)
{
    void *runs;

    free(into->runs);
    into->runs = NULL;
    into->count = 0;
    if (!spool_take(blocks->spool, stretch, &into->bytes, err))
        return false;
    into->count = cut_records(&into->bytes, NULL);
    if (into->count == 0)
        return true;
    if (!mem_try_alloc(&runs, into->count * sizeof *into->runs, err))
        return false;
    into->runs = runs;
    cut_records(&into->bytes, into->runs);
    qsort(into->runs, into->count, sizeof *into->runs, compare_runs);
    return true;
}

void restore_blocks_free_stretch(struct restore_blocks_stretch *stretch)
{
    buffer_free(&stretch->bytes);
    free(stretch->runs);
    *stretch = (struct restore_blocks_stretch){.runs = NULL};
}
