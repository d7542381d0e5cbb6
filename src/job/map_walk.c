/* map_walk.c - through the maps of all files of a backup, each map pack fetched once */
#include "job/map_walk.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pgvigil/clock.h"
#include "pgvigil/mem.h"
#include "pgvigil/pack.h"
#include "pgvigil/progress.h"
#include "pgvigil/spool.h"
#include "pgvigil/workers.h"

#define LOOK_AGAIN (200 * 1000) /* microseconds after which who waits looks for cancellation */

/* A leaf that is wanted from one pack. */
struct wanted {
    uint32_t file;
    uint32_t number;
    uint32_t offset, length; /* of the frame */
    uint32_t item_offset, item_length;
};

struct walk {
    const struct map_walk_request *request;
    const struct refs_pack **packs; /* the map packs, ascending */
    size_t count;
    struct spool *leaves; /* a list of struct wanted for each of them */
    uint32_t *roots;      /* the files that have a map, by its place */
    size_t root_count;
    bool again; /* all roots are known, this is for leaves that were missed */

    pthread_mutex_t mutex;
    pthread_cond_t turned;
    size_t taken;  /* so many packs, from the last one on, are being worked on or done */
    size_t rooted; /* of so many, from the last one on, all roots are known */
    bool *known;   /* of each pack: its roots are */
};

struct walker {
    struct walk *walk;
    struct workers *workers;
    int number;
    struct buffer pack;
    struct buffer wanted;
    struct pack_frame frame; /* that is decoded; pack.number 0: none */
    unsigned char *raw;
    size_t raw_length;
    struct decompress_context *decompress;
    struct map_leaf *leaf;
};

static const struct restore_plan_file *file_at(const struct walk *walk, uint32_t index)
{
    return &walk->request->plan->files[index];
}

static int compare_packs(const void *pack, const void *entry)
{
    return layout_compare_packs(pack, &(*(const struct refs_pack *const *)entry)->pack);
}

/* Which of the map packs this is; ERROR_INTEGRITY when it is none of them. */
static bool find_pack(const struct walk *walk, const struct layout_pack *pack, size_t *index,
                      struct error *err)
{
    const struct refs_pack *const *found =
        walk->count > 0
            ? bsearch(pack, walk->packs, walk->count, sizeof(struct refs_pack *), compare_packs)
            : NULL;
    char name[LAYOUT_NAME_SIZE];

    if (found != NULL) {
        *index = (size_t)(found - walk->packs);
        return true;
    }
    return error_set(err, ERROR_INTEGRITY,
                     "the backup's list of packs does not have map pack \"%s\"",
                     layout_pack(pack, name));
}

static bool load_frame(struct walker *walker, const struct pack_frame *frame, struct error *err)
{
    const struct pack_frame *at = &walker->frame;

    if (at->pack.number != 0 && at->offset == frame->offset && at->length == frame->length)
        return true;
    walker->frame.pack.number = 0;
    if (!pack_read_frame(&walker->pack, frame, walker->decompress, walker->raw, MAP_ITEM_MAXIMUM,
                         &walker->raw_length, err))
        return false;
    walker->frame = *frame;
    return true;
}

/* An item of the pack at hand. */
static bool load_item(struct walker *walker, const struct map_place *place,
                      const unsigned char **item, struct error *err)
{
    if (!load_frame(walker, &place->frame, err))
        return false;
    if (place->item_offset > walker->raw_length ||
        place->item_length > walker->raw_length - place->item_offset)
        return error_set(err, ERROR_INTEGRITY, "damaged map: an item lies outside of its frame");
    *item = walker->raw + place->item_offset;
    return true;
}

static bool want_leaves(struct walker *walker, uint32_t file, const struct map_root *root,
                        struct error *err)
{
    struct walk *walk = walker->walk;

    for (uint32_t i = 0; i < root->leaf_count; i++) {
        const struct map_place *place = &root->leaves[i];
        const struct wanted wanted = {.file = file,
                                      .number = i,
                                      .offset = place->frame.offset,
                                      .length = place->frame.length,
                                      .item_offset = place->item_offset,
                                      .item_length = place->item_length};
        size_t pack;

        if (!find_pack(walk, &place->frame.pack, &pack, err) ||
            !spool_add(walk->leaves, pack, &wanted, sizeof wanted, err))
            return false;
    }
    return true;
}

static bool read_root(struct walker *walker, uint32_t index, struct error *err)
{
    const struct restore_plan_file *file = file_at(walker->walk, index);
    const unsigned char *item = NULL; /* gcc 14 cannot see that load_item sets it */
    struct map_root root;
    bool ok;

    if (!load_item(walker, &file->map, &item, err) ||
        !map_decode_root(item, file->map.item_length, &root, err))
        return error_context(err, "file \"%s\"", file->path);
    if (root.key != file->key || root.file_size != file->size)
        ok = error_set(err, ERROR_INTEGRITY, "file \"%s\": its map is that of another file",
                       file->path);
    else
        ok =
            want_leaves(walker, index, &root, err) || error_context(err, "file \"%s\"", file->path);
    map_free_root(&root);
    return ok;
}

/* The first root in this pack or behind it. */
static size_t first_root(const struct walk *walk, const struct layout_pack *pack)
{
    size_t from = 0, to = walk->root_count;

    while (from < to) {
        const size_t middle = from + (to - from) / 2;

        if (layout_compare_packs(&file_at(walk, walk->roots[middle])->map.frame.pack, pack) < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

static bool read_roots(struct walker *walker, const struct layout_pack *pack, struct error *err)
{
    const struct walk *walk = walker->walk;

    for (size_t i = first_root(walk, pack);
         i < walk->root_count &&
         layout_compare_packs(&file_at(walk, walk->roots[i])->map.frame.pack, pack) == 0;
         i++)
        if (!workers_check(walker->workers, err) || !read_root(walker, walk->roots[i], err))
            return false;
    return true;
}

static void mark_rooted(struct walk *walk, size_t index)
{
    pthread_mutex_lock(&walk->mutex);
    walk->known[index] = true;
    while (walk->rooted < walk->count && walk->known[walk->count - 1 - walk->rooted])
        walk->rooted++;
    pthread_cond_broadcast(&walk->turned);
    pthread_mutex_unlock(&walk->mutex);
}

/* Until the roots of this pack and all behind it are known. */
static bool wait_for_roots(struct walker *walker, size_t index, struct error *err)
{
    struct walk *walk = walker->walk;
    bool ok = true;

    pthread_mutex_lock(&walk->mutex);
    while (ok && walk->rooted < walk->count - index) {
        const int64_t until = clock_monotonic() + LOOK_AGAIN;
        const struct timespec moment = {.tv_sec = (time_t)(until / CLOCK_SECOND),
                                        .tv_nsec = (long)(until % CLOCK_SECOND) * 1000};

        pthread_cond_timedwait(&walk->turned, &walk->mutex, &moment);
        ok = workers_check(walker->workers, err);
    }
    pthread_mutex_unlock(&walk->mutex);
    return ok;
}

static int compare_wanted(const void *a, const void *b)
{
    const struct wanted *left = a, *right = b;

    if (left->offset != right->offset)
        return left->offset < right->offset ? -1 : 1;
    return (left->item_offset > right->item_offset) - (left->item_offset < right->item_offset);
}

static bool read_leaf(struct walker *walker, const struct wanted *wanted,
                      const struct layout_pack *pack, struct error *err)
{
    const struct map_walk_request *request = walker->walk->request;
    const struct restore_plan_file *file = file_at(walker->walk, wanted->file);
    const uint64_t blocks = (file->size + PACK_BLOCK - 1) / PACK_BLOCK;
    const uint64_t left = blocks - (uint64_t)wanted->number * MAP_LEAF_BLOCKS;
    const struct map_place place = {
        .frame = {.pack = *pack, .offset = wanted->offset, .length = wanted->length},
        .item_offset = wanted->item_offset,
        .item_length = wanted->item_length};
    const struct map_leaf *leaf = walker->leaf;
    const unsigned char *item = NULL;

    if (!load_item(walker, &place, &item, err) ||
        !map_decode_leaf(item, place.item_length, walker->leaf, err))
        return error_context(err, "file \"%s\"", file->path);
    if (leaf->key != file->key || leaf->number != wanted->number ||
        leaf->blocks != (left < MAP_LEAF_BLOCKS ? left : MAP_LEAF_BLOCKS))
        return error_set(err, ERROR_INTEGRITY,
                         "file \"%s\": leaf %" PRIu32 " of its map is another one", file->path,
                         wanted->number);
    return request->fn(wanted->file, leaf, walker->number, request->context, err);
}

static bool read_leaves(struct walker *walker, size_t index, struct error *err)
{
    struct walk *walk = walker->walk;
    struct wanted *wanted;
    size_t count;

    if (!spool_take(walk->leaves, index, &walker->wanted, err))
        return false;
    count = walker->wanted.length / sizeof *wanted;
    if (count == 0)
        return true;
    wanted = (struct wanted *)(void *)walker->wanted.data;
    qsort(wanted, count, sizeof *wanted, compare_wanted);
    for (size_t i = 0; i < count; i++)
        if (!workers_check(walker->workers, err) ||
            !read_leaf(walker, &wanted[i], &walk->packs[index]->pack, err))
            return false;
    return true;
}

static bool read_pack(struct walker *walker, size_t index, struct error *err)
{
    struct walk *walk = walker->walk;
    const struct refs_pack *pack = walk->packs[index];

    walker->frame.pack.number = 0;
    if (!workers_check(walker->workers, err) ||
        !pack_fetch(walk->request->repository, pack, &walker->pack, err))
        return false;
    if (!walk->again) {
        if (!read_roots(walker, &pack->pack, err))
            return false;
        mark_rooted(walk, index);
        if (!wait_for_roots(walker, index, err))
            return false;
        progress_add(pack->size);
    }
    return read_leaves(walker, index, err);
}

/* From the last pack to the first. */
static bool take_pack(struct walk *walk, size_t *index)
{
    bool taken;

    pthread_mutex_lock(&walk->mutex);
    taken = walk->taken < walk->count;
    if (taken)
        *index = walk->count - 1 - walk->taken++;
    pthread_mutex_unlock(&walk->mutex);
    return taken;
}

static bool work(struct workers *workers, int number, void *context, struct error *err)
{
    struct walker walker = {.walk = context,
                            .workers = workers,
                            .number = number,
                            .decompress = decompress_new(),
                            .leaf = mem_alloc(sizeof(struct map_leaf))};
    void *raw = NULL;
    bool ok = mem_try_alloc(&raw, MAP_ITEM_MAXIMUM, err);
    size_t index;

    walker.raw = raw;
    while (ok && take_pack(walker.walk, &index))
        if (!walker.walk->again || spool_bytes(walker.walk->leaves, index) > 0)
            ok = read_pack(&walker, index, err);
    decompress_free(walker.decompress);
    buffer_free(&walker.pack);
    buffer_free(&walker.wanted);
    free(walker.leaf);
    free(raw);
    return ok;
}

static void list_packs(struct walk *walk)
{
    const struct refs *refs = walk->request->refs;

    walk->packs = mem_calloc(refs->count, sizeof(struct refs_pack *));
    for (size_t i = 0; i < refs->count; i++)
        if (refs->packs[i].kind == REFS_MAP)
            walk->packs[walk->count++] = &refs->packs[i];
}

static int compare_roots(const void *a, const void *b, void *context)
{
    const struct walk *walk = context;
    const struct map_place *left = &file_at(walk, *(const uint32_t *)a)->map;
    const struct map_place *right = &file_at(walk, *(const uint32_t *)b)->map;
    const int packs = layout_compare_packs(&left->frame.pack, &right->frame.pack);

    if (packs != 0)
        return packs;
    if (left->frame.offset != right->frame.offset)
        return left->frame.offset < right->frame.offset ? -1 : 1;
    return (left->item_offset > right->item_offset) - (left->item_offset < right->item_offset);
}

static bool list_roots(struct walk *walk, struct error *err)
{
    const struct restore_plan *plan = walk->request->plan;
    size_t pack;

    walk->roots = mem_calloc(plan->file_count, sizeof *walk->roots);
    for (size_t i = 0; i < plan->file_count; i++) {
        if (plan->files[i].size == 0)
            continue;
        if (!find_pack(walk, &plan->files[i].map.frame.pack, &pack, err))
            return error_context(err, "file \"%s\"", plan->files[i].path);
        walk->roots[walk->root_count++] = (uint32_t)i;
    }
    if (walk->root_count > 0)
        qsort_r(walk->roots, walk->root_count, sizeof *walk->roots, compare_roots, walk);
    return true;
}

/* No more threads than packs: what there is of them, one after the other keeps what it has fetched. */
static bool run(struct walk *walk, struct error *err)
{
    const int jobs = walk->request->jobs;

    walk->taken = 0;
    return walk->count == 0 ||
           workers_run(walk->count < (size_t)jobs ? (int)walk->count : jobs, work, walk, err);
}

static bool any_left(const struct walk *walk)
{
    for (size_t i = 0; i < walk->count; i++)
        if (spool_bytes(walk->leaves, i) > 0)
            return true;
    return false;
}

bool map_walk(const struct map_walk_request *request, int fd, struct error *err)
{
    struct walk walk = {.request = request};
    pthread_condattr_t attributes;
    bool ok;

    list_packs(&walk);
    walk.leaves = spool_new(fd, walk.count);
    walk.known = mem_calloc(walk.count, sizeof *walk.known);
    pthread_mutex_init(&walk.mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&walk.turned, &attributes);
    pthread_condattr_destroy(&attributes);
    ok = list_roots(&walk, err) && run(&walk, err);
    if (ok && any_left(&walk)) {
        walk.again = true;
        ok = run(&walk, err);
    }
    pthread_cond_destroy(&walk.turned);
    pthread_mutex_destroy(&walk.mutex);
    spool_free(walk.leaves);
    free(walk.known);
    free(walk.packs);
    free(walk.roots);
    return ok;
}

uint64_t map_walk_bytes(const struct refs *refs)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < refs->count; i++)
        if (refs->packs[i].kind == REFS_MAP)
            bytes += refs->packs[i].size;
    return bytes;
}
