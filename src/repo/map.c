/*
 * map.c - the binary form of maps, and writing them
 */
#include "pgvigil/map.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/bytes.h"
#include "pgvigil/mem.h"

#define LEAF_MAGIC 0x3146564Cu /* "LVF1" */
#define ROOT_MAGIC 0x3152564Cu /* "LVR1" */
#define LEAF_MINIMUM (4 + 8 + 4 + 2 + 2)
#define RUN_BYTES (8 + 4 + 4 + 4 + 2 + 2)
#define PLACE_BYTES (8 + 4 + 4 + 4 + 4 + 4)
#define ROOT_LEAVES_MAXIMUM ((uint32_t)(MAP_FILE_SIZE_MAXIMUM / PACK_BLOCK / MAP_LEAF_BLOCKS))

uint64_t map_key(const char *path, const unsigned char secret[DIGEST_SECRET_SIZE])
{
    return digest_block(path, strlen(path), secret);
}

uint32_t map_leaf_count(uint64_t file_size)
{
    const uint64_t leaf_bytes = (uint64_t)MAP_LEAF_BLOCKS * PACK_BLOCK;

    return (uint32_t)((file_size + leaf_bytes - 1) / leaf_bytes);
}

static void encode_frame(const struct pack_frame *frame, struct buffer *out)
{
    buffer_append_u64(out, (uint64_t)frame->pack.run);
    buffer_append_u32(out, frame->pack.number);
    buffer_append_u32(out, frame->offset);
    buffer_append_u32(out, frame->length);
}

/* A frame's place must be sane before anybody fetches by it. */
static bool decode_frame(struct bytes_reader *reader, struct pack_frame *frame)
{
    frame->pack.run = (int64_t)bytes_take_u64(reader);
    frame->pack.number = bytes_take_u32(reader);
    frame->offset = bytes_take_u32(reader);
    frame->length = bytes_take_u32(reader);
    return !reader->failed && frame->pack.run >= 0 && frame->offset < PACK_SIZE &&
           frame->length <= PACK_SIZE - frame->offset;
}

void map_encode_leaf(const struct map_leaf *leaf, struct buffer *out)
{
    buffer_append_u32(out, LEAF_MAGIC);
    buffer_append_u64(out, leaf->key);
    buffer_append_u32(out, leaf->number);
    buffer_append_u16(out, leaf->blocks);
    buffer_append_u16(out, leaf->runs);
    for (size_t i = 0; i < leaf->blocks; i++)
        buffer_append_u64(out, leaf->digests[i]);
    for (size_t i = 0; i < leaf->runs; i++) {
        encode_frame(&leaf->run[i].frame, out);
        buffer_append_u16(out, leaf->run[i].first);
        buffer_append_u16(out, leaf->run[i].count);
    }
}

void map_encode_root(const struct map_root *root, struct buffer *out)
{
    buffer_append_u32(out, ROOT_MAGIC);
    buffer_append_u64(out, root->key);
    buffer_append_u64(out, root->file_size);
    buffer_append_u32(out, root->leaf_count);
    for (size_t i = 0; i < root->leaf_count; i++) {
        encode_frame(&root->leaves[i].frame, out);
        buffer_append_u32(out, root->leaves[i].item_offset);
        buffer_append_u32(out, root->leaves[i].item_length);
    }
}

static bool run_sane(const struct map_run *run, size_t blocks_left)
{
    if (run->count == 0 || run->count > blocks_left)
        return false;
    if (run->frame.pack.number == 0)
        return run->frame.pack.run == 0 && run->frame.offset == 0 && run->frame.length == 0 &&
               run->first == 0;
    return run->frame.length > 0 && run->first + (size_t)run->count <= PACK_FRAME_BLOCKS;
}

bool map_decode_leaf(const void *bytes, size_t length, struct map_leaf *leaf, struct error *err)
{
    struct bytes_reader reader = {.at = bytes, .left = length};
    size_t covered = 0;

    if (length < LEAF_MINIMUM || bytes_take_u32(&reader) != LEAF_MAGIC)
        return error_set(err, ERROR_INTEGRITY, "damaged map: no leaf where one should be");
    leaf->key = bytes_take_u64(&reader);
    leaf->number = bytes_take_u32(&reader);
    leaf->blocks = bytes_take_u16(&reader);
    leaf->runs = bytes_take_u16(&reader);
    if (leaf->blocks == 0 || leaf->blocks > MAP_LEAF_BLOCKS || leaf->runs == 0 ||
        leaf->runs > leaf->blocks || leaf->number >= ROOT_LEAVES_MAXIMUM)
        return error_set(err, ERROR_INTEGRITY, "damaged map: leaf with impossible counts");
    if (reader.left != leaf->blocks * (size_t)8 + leaf->runs * (size_t)RUN_BYTES)
        return error_set(err, ERROR_INTEGRITY, "damaged map: leaf of a wrong length");
    for (size_t i = 0; i < leaf->blocks; i++)
        leaf->digests[i] = bytes_take_u64(&reader);
    for (size_t i = 0; i < leaf->runs; i++) {
        struct map_run *run = &leaf->run[i];
        bool placed = decode_frame(&reader, &run->frame);

        run->first = bytes_take_u16(&reader);
        run->count = bytes_take_u16(&reader);
        if (!placed || !run_sane(run, leaf->blocks - covered))
            return error_set(err, ERROR_INTEGRITY, "damaged map: leaf with an impossible run");
        covered += run->count;
    }
    if (covered != leaf->blocks)
        return error_set(err, ERROR_INTEGRITY, "damaged map: leaf does not cover its blocks");
    return true;
}

static bool place_sane(const struct map_place *place)
{
    return place->frame.pack.number != 0 && place->frame.length > 0 && place->item_length > 0 &&
           place->item_offset < MAP_ITEM_MAXIMUM &&
           place->item_length <= MAP_ITEM_MAXIMUM - place->item_offset;
}

bool map_decode_root(const void *bytes, size_t length, struct map_root *root, struct error *err)
{
    struct bytes_reader reader = {.at = bytes, .left = length};

    root->leaves = NULL;
    if (bytes_take_u32(&reader) != ROOT_MAGIC || reader.failed)
        return error_set(err, ERROR_INTEGRITY, "damaged map: no root where one should be");
    root->key = bytes_take_u64(&reader);
    root->file_size = bytes_take_u64(&reader);
    root->leaf_count = bytes_take_u32(&reader);
    if (reader.failed || root->file_size == 0 || root->file_size > MAP_FILE_SIZE_MAXIMUM ||
        root->leaf_count != map_leaf_count(root->file_size) ||
        reader.left != root->leaf_count * (size_t)PLACE_BYTES)
        return error_set(err, ERROR_INTEGRITY, "damaged map: root with impossible counts");
    root->leaves = mem_calloc(root->leaf_count, sizeof *root->leaves);
    for (size_t i = 0; i < root->leaf_count; i++) {
        struct map_place *place = &root->leaves[i];
        bool placed = decode_frame(&reader, &place->frame);

        place->item_offset = bytes_take_u32(&reader);
        place->item_length = bytes_take_u32(&reader);
        if (!placed || !place_sane(place)) {
            map_free_root(root);
            return error_set(err, ERROR_INTEGRITY, "damaged map: root with an impossible leaf");
        }
    }
    return true;
}

void map_free_root(struct map_root *root)
{
    free(root->leaves);
    root->leaves = NULL;
}

/* An item waits in the open frame until that is written. */
struct pending {
    void *owner;
    uint32_t slot;
    uint32_t offset;
    uint32_t length;
};

struct map_writer {
    struct pack_writer *pack;
    map_placed_fn placed;
    pthread_mutex_t mutex; /* recursive: `placed` adds items while a frame is being settled */
    struct buffer frame;
    struct pending *pending;
    size_t pending_count;
    size_t pending_capacity;
};

bool map_writer_new(struct pack_set *set, int level, map_placed_fn placed,
                    struct map_writer **writer, struct error *err)
{
    struct pack_writer *pack;
    pthread_mutexattr_t recursive;

    if (!pack_writer_new(set, REFS_MAP, level, &pack, err))
        return false;
    *writer = mem_calloc(1, sizeof **writer);
    (*writer)->pack = pack;
    (*writer)->placed = placed;
    pthread_mutexattr_init(&recursive);
    pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&(*writer)->mutex, &recursive);
    pthread_mutexattr_destroy(&recursive);
    return true;
}

void map_writer_free(struct map_writer *writer)
{
    if (writer == NULL)
        return;
    pack_writer_free(writer->pack);
    buffer_free(&writer->frame);
    free(writer->pending);
    pthread_mutex_destroy(&writer->mutex);
    free(writer);
}

/* Writes the open frame and tells every owner its place. The list is taken away first, as `placed`
 * may add items, which belong to the next frame. */
static bool write_frame(struct map_writer *writer, struct error *err)
{
    struct pending *settled = writer->pending;
    size_t count = writer->pending_count;
    struct map_place place;
    bool ok;

    if (count == 0)
        return true;
    ok = pack_writer_add(writer->pack, writer->frame.data, writer->frame.length, (uint32_t)count,
                         &place.frame, err);
    buffer_clear(&writer->frame);
    writer->pending = NULL;
    writer->pending_count = writer->pending_capacity = 0;
    for (size_t i = 0; ok && i < count; i++) {
        place.item_offset = settled[i].offset;
        place.item_length = settled[i].length;
        ok = writer->placed(settled[i].owner, settled[i].slot, &place, err);
    }
    free(settled);
    return ok;
}

static bool add_item(struct map_writer *writer, const void *item, size_t length, void *owner,
                     uint32_t slot, struct error *err)
{
    /* a loop, as settling a frame may put new items into the next one */
    while (writer->frame.length > 0 && writer->frame.length + length > PACK_FRAME_RAW)
        if (!write_frame(writer, err))
            return false;
    writer->pending = mem_grow(writer->pending, writer->pending_count, &writer->pending_capacity,
                               sizeof *writer->pending);
    writer->pending[writer->pending_count++] =
        (struct pending){.owner = owner,
                         .slot = slot,
                         .offset = (uint32_t)writer->frame.length,
                         .length = (uint32_t)length};
    buffer_append(&writer->frame, item, length);
    return writer->frame.length < PACK_FRAME_RAW || write_frame(writer, err);
}

bool map_writer_add(struct map_writer *writer, const void *item, size_t length, void *owner,
                    uint32_t slot, struct error *err)
{
    bool ok;

    if (length > MAP_ITEM_MAXIMUM)
        return error_set(err, ERROR_USAGE, "file is too large to be backed up");
    pthread_mutex_lock(&writer->mutex);
    ok = add_item(writer, item, length, owner, slot, err);
    pthread_mutex_unlock(&writer->mutex);
    return ok;
}

bool map_writer_finish(struct map_writer *writer, struct error *err)
{
    while (writer->pending_count > 0)
        if (!write_frame(writer, err))
            return false;
    return pack_writer_flush(writer->pack, err);
}
