/*
 * backup_leaf.c - one leaf of a file: what of it is new, and storing that
 */
#include "job/backup_leaf.h"

#include <stdlib.h>
#include <string.h>

#include "pgvigil/mem.h"
#include "pgvigil/page.h"
#include "pgvigil/progress.h"

/* Where a block lies: pack.number 0 is nowhere, as it is zeros. */
struct place {
    struct pack_frame frame;
    uint16_t first; /* index in the frame */
};

/* An earlier leaf of the same blocks: of no blocks if there is none. */
struct earlier {
    struct map_leaf leaf;
    struct place places[MAP_LEAF_BLOCKS];
};

struct backup_leaf {
    struct backup_reading *reading;
    struct pack_writer *pack;
    struct map_cache_reader *reader; /* of the base's maps, or NULL */
    struct map_leaf leaf;            /* the new one */
    struct place places[MAP_LEAF_BLOCKS];
    struct buffer item;
    unsigned char *frame; /* blocks that do not lie side by side */
    bool stored;          /* something of the new one was */
    struct buffer noted;  /* such leaves since the last pack was stored */

    const struct backup_file *file; /* whose root this is, or NULL */
    struct map_root root;
    struct earlier old;         /* the base's */
    struct earlier interrupted; /* of the backup that was interrupted */
};

static void note_pack(const struct refs_pack *pack, void *context)
{
    struct backup_leaf *leaf = context;

    if (leaf->reading->takeover->unfinished != NULL)
        unfinished_add(leaf->reading->takeover->unfinished, pack, &leaf->noted);
    buffer_clear(&leaf->noted);
}

static void note_leaf(struct backup_leaf *leaf)
{
    if (leaf->reading->takeover->unfinished != NULL)
        unfinished_put_leaf(leaf->reading->takeover->unfinished, &leaf->item, &leaf->noted);
}

bool backup_leaf_new(struct backup_reading *reading, struct backup_leaf **leaf, struct error *err)
{
    struct backup_leaf *made = mem_calloc(1, sizeof *made);

    made->reading = reading;
    made->frame = mem_alloc(PACK_FRAME_RAW);
    if (!pack_writer_new(reading->packs, REFS_DATA, reading->level, &made->pack, err) ||
        (reading->files->base->info != NULL &&
         !map_cache_reader_new(reading->cache, &made->reader, err))) {
        backup_leaf_free(made);
        return false;
    }
    pack_writer_on_stored(made->pack, note_pack, made);
    *leaf = made;
    return true;
}

void backup_leaf_free(struct backup_leaf *leaf)
{
    if (leaf == NULL)
        return;
    pack_writer_free(leaf->pack);
    map_cache_reader_free(leaf->reader);
    map_free_root(&leaf->root);
    buffer_free(&leaf->item);
    buffer_free(&leaf->noted);
    free(leaf->frame);
    free(leaf);
}

bool backup_leaf_flush(struct backup_leaf *leaf, struct error *err)
{
    return pack_writer_flush(leaf->pack, err);
}

/* The map of a file cannot be read: the file is as if the base did not have it. */
static bool doubt(struct backup_leaf *leaf, struct backup_file *file, struct error *err)
{
    if (err->code == ERROR_CANCELLED)
        return false;
    if (atomic_exchange(&file->base.known, false))
        backup_base_doubt(leaf->reading->files->base, file->path, err);
    error_clear(err);
    return true;
}

/* Has the base's root of this file at hand. */
static bool load_root(struct backup_leaf *leaf, const struct backup_file *file, struct error *err)
{
    const struct backup_file_base *base = &file->base;

    if (leaf->file == file)
        return true;
    leaf->file = NULL;
    map_free_root(&leaf->root);
    if (!map_cache_reader_root(leaf->reader, &base->root,
                               map_key(file->path, leaf->reading->files->secret), base->size,
                               &leaf->root, err))
        return false;
    leaf->file = file;
    return true;
}

static void find_places(struct earlier *earlier)
{
    size_t at = 0;

    for (size_t i = 0; i < earlier->leaf.runs; i++) {
        const struct map_run *run = &earlier->leaf.run[i];

        for (uint16_t j = 0; j < run->count; j++)
            earlier->places[at++] =
                (struct place){.frame = run->frame, .first = (uint16_t)(run->first + j)};
    }
}

static bool load_old(struct backup_leaf *leaf, const struct backup_file *file, uint32_t number,
                     struct error *err)
{
    if (!map_cache_reader_leaf(leaf->reader, &leaf->root.leaves[number], leaf->root.key, number,
                               file->base.size, &leaf->old.leaf, err))
        return false;
    find_places(&leaf->old);
    return true;
}

/* The same of leaf->interrupted. */
static void find_interrupted(struct backup_leaf *leaf)
{
    const struct backup_takeover *takeover = leaf->reading->takeover;

    if (takeover->packs.count > 0 && unfinished_find(takeover->unfinished, leaf->leaf.key,
                                                     leaf->leaf.number, &leaf->interrupted.leaf))
        find_places(&leaf->interrupted);
    else
        leaf->interrupted.leaf.blocks = 0;
}

/* Sets leaf->old to the base's leaf, of no blocks if it has none. */
static bool find_old(struct backup_leaf *leaf, struct backup_file *file, uint32_t number,
                     struct error *err)
{
    leaf->old.leaf.blocks = 0;
    if (!atomic_load(&file->base.known))
        return true;
    if (!load_root(leaf, file, err))
        return doubt(leaf, file, err);
    if (number >= leaf->root.leaf_count || load_old(leaf, file, number, err))
        return true;
    leaf->old.leaf.blocks = 0;
    return doubt(leaf, file, err);
}

static size_t block_length(size_t index, size_t length)
{
    size_t left = length - index * PACK_BLOCK;

    return left < PACK_BLOCK ? left : PACK_BLOCK;
}

static bool is_nowhere(const struct place *place)
{
    return place->frame.pack.number == 0;
}

/* Where this block, which is not of zeros, lay; or NULL. */
static const struct place *find_same(const struct earlier *earlier, size_t index, uint64_t digest)
{
    return index < earlier->leaf.blocks && earlier->leaf.digests[index] == digest &&
                   !is_nowhere(&earlier->places[index])
               ? &earlier->places[index]
               : NULL;
}

/* Where a block, not of zeros, may stay as the base has it there; or NULL. */
static const struct place *find_in_base(const struct backup_leaf *leaf, size_t index)
{
    const struct place *place = find_same(&leaf->old, index, leaf->leaf.digests[index]);

    return place != NULL && backup_base_lends(leaf->reading->files->base, &place->frame.pack)
               ? place
               : NULL;
}

/* The same for what the interrupted backup has stored. */
static const struct place *find_taken_over(const struct backup_leaf *leaf, size_t index)
{
    const struct place *place = find_same(&leaf->interrupted, index, leaf->leaf.digests[index]);

    return place != NULL && refs_find(&leaf->reading->takeover->packs, &place->frame.pack) != NULL
               ? place
               : NULL;
}

/* Stores the blocks listed as one frame. */
static bool store_frame(struct backup_leaf *leaf, const unsigned char *bytes, size_t length,
                        const uint16_t *blocks, size_t count, struct error *err)
{
    const unsigned char *from = bytes + blocks[0] * PACK_BLOCK;
    struct pack_frame frame;
    size_t used = 0;

    for (size_t i = 0; i < count; i++)
        used += block_length(blocks[i], length);
    if (blocks[count - 1] - blocks[0] + (size_t)1 != count) {
        for (size_t i = 0; i < count; i++)
            memcpy(leaf->frame + i * PACK_BLOCK, bytes + blocks[i] * PACK_BLOCK,
                   block_length(blocks[i], length));
        from = leaf->frame;
    }
    if (!pack_writer_add(leaf->pack, from, used, (uint32_t)count, &frame, err))
        return false;
    for (size_t i = 0; i < count; i++)
        leaf->places[blocks[i]] = (struct place){.frame = frame, .first = (uint16_t)i};
    leaf->stored = true;
    atomic_fetch_add(&leaf->reading->changed, used);
    return true;
}

/* Gives every block its place, storing what has none. `same` tells whether all are as they were. */
static bool place_blocks(struct backup_leaf *leaf, const unsigned char *bytes, size_t length,
                         bool *same, struct error *err)
{
    uint16_t fresh[PACK_FRAME_BLOCKS];
    size_t count = 0;

    *same = leaf->leaf.blocks == leaf->old.leaf.blocks;
    for (uint16_t i = 0; i < leaf->leaf.blocks; i++) {
        const struct place *place;

        if (page_is_zero(bytes + i * PACK_BLOCK, block_length(i, length))) {
            leaf->places[i] = (struct place){.first = 0};
            *same = *same && is_nowhere(&leaf->old.places[i]) &&
                    leaf->leaf.digests[i] == leaf->old.leaf.digests[i];
        } else if ((place = find_in_base(leaf, i)) != NULL) {
            leaf->places[i] = *place;
        } else if ((place = find_taken_over(leaf, i)) != NULL) {
            *same = false;
            leaf->places[i] = *place;
        } else {
            *same = false;
            fresh[count++] = i;
            if (count == PACK_FRAME_BLOCKS) {
                if (!store_frame(leaf, bytes, length, fresh, count, err))
                    return false;
                count = 0;
            }
        }
    }
    return count == 0 || store_frame(leaf, bytes, length, fresh, count, err);
}

static bool continues(const struct map_run *run, const struct place *place)
{
    return layout_compare_packs(&run->frame.pack, &place->frame.pack) == 0 &&
           run->frame.offset == place->frame.offset && run->frame.length == place->frame.length &&
           (is_nowhere(place) || run->first + run->count == place->first);
}

/* Places that follow each other become runs. */
static void gather_runs(struct backup_leaf *leaf)
{
    struct map_leaf *new = &leaf->leaf;

    new->runs = 0;
    for (size_t i = 0; i < new->blocks; i++) {
        const struct place *place = &leaf->places[i];

        if (new->runs > 0 && continues(&new->run[new->runs - 1], place))
            new->run[new->runs - 1].count++;
        else
            new->run[new->runs++] =
                (struct map_run){.frame = place->frame, .first = place->first, .count = 1};
    }
}

static bool write_leaf(struct backup_leaf *leaf, const struct map_leaf *what,
                       struct backup_file *file, struct error *err)
{
    buffer_clear(&leaf->item);
    map_encode_leaf(what, &leaf->item);
    return map_writer_add(leaf->reading->maps, leaf->item.data, leaf->item.length, file,
                          what->number, err);
}

bool backup_leaf_store(struct backup_leaf *leaf, struct backup_file *file, uint32_t number,
                       const unsigned char *bytes, size_t length, struct error *err)
{
    const unsigned char *secret = leaf->reading->files->secret;
    struct map_leaf *new = &leaf->leaf;
    bool same;

    new->key = map_key(file->path, secret);
    new->number = number;
    new->blocks = (uint16_t)((length + PACK_BLOCK - 1) / PACK_BLOCK);
    for (size_t i = 0; i < new->blocks; i++)
        new->digests[i] = digest_block(bytes + i * PACK_BLOCK, block_length(i, length), secret);
    leaf->stored = false;
    find_interrupted(leaf);
    if (!find_old(leaf, file, number, err) || !place_blocks(leaf, bytes, length, &same, err))
        return false;
    progress_add(length);
    if (same &&
        backup_base_lends(leaf->reading->files->base, &leaf->root.leaves[number].frame.pack))
        return backup_files_leaf_kept(file, number, &leaf->root.leaves[number], err);
    gather_runs(leaf);
    if (!write_leaf(leaf, new, file, err))
        return false;
    if (leaf->stored)
        note_leaf(leaf);
    return true;
}

static bool may_stay(const struct backup_leaf *leaf)
{
    for (size_t i = 0; i < leaf->old.leaf.runs; i++) {
        const struct layout_pack *pack = &leaf->old.leaf.run[i].frame.pack;

        if (pack->number != 0 && !backup_base_lends(leaf->reading->files->base, pack))
            return false;
    }
    return true;
}

/* Reads all of the file's map; *stays is false where one of its packs is mostly dead. */
static bool look_through(struct backup_leaf *leaf, const struct backup_file *file, bool *all_stay,
                         struct error *err)
{
    *all_stay = true;
    if (!load_root(leaf, file, err))
        return false;
    for (uint32_t i = 0; *all_stay && i < leaf->root.leaf_count; i++) {
        if (!load_old(leaf, file, i, err))
            return false;
        *all_stay = may_stay(leaf);
    }
    return true;
}

bool backup_leaf_keep_file(struct backup_leaf *leaf, struct backup_file *file, struct error *err)
{
    const struct backup_base *base = leaf->reading->files->base;
    bool all_stay;

    if (!look_through(leaf, file, &all_stay, err)) {
        file->base.unchanged = false;
        return doubt(leaf, file, err);
    }
    if (!all_stay) {
        file->base.unchanged = false;
        return true;
    }
    backup_files_begin_kept(file);
    for (uint32_t i = 0; i < leaf->root.leaf_count; i++) {
        const struct map_place *place = &leaf->root.leaves[i];

        if (backup_base_lends(base, &place->frame.pack)
                ? !backup_files_leaf_kept(file, i, place, err)
                : !load_old(leaf, file, i, err) || !write_leaf(leaf, &leaf->old.leaf, file, err))
            return false;
    }
    progress_add(file->size);
    return backup_files_end_kept(file, err);
}
