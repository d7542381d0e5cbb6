/*
 * verify_blocks.c - the digests of the blocks in packs, to be held against what maps say of them
 *
 * Of each pack: a record for each frame, ascending by offset, then all digests, u64 each.
 */
#include "job/verify_blocks.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgvigil/bytes.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"

struct frame {
    uint32_t offset, length; /* in the pack */
    uint32_t first, count;   /* of its digests */
};

struct verify_blocks {
    int fd;
    atomic_ullong end;
    unsigned char **secrets;
    size_t count, capacity;
};

bool verify_blocks_new(const char *state_dir, struct verify_blocks **blocks, struct error *err)
{
    int fd;

    if (!files_temporary(state_dir, &fd, err))
        return false;
    *blocks = mem_calloc(1, sizeof **blocks);
    (*blocks)->fd = fd;
    return true;
}

void verify_blocks_free(struct verify_blocks *blocks)
{
    if (blocks == NULL)
        return;
    for (size_t i = 0; i < blocks->count; i++)
        free(blocks->secrets[i]);
    free(blocks->secrets);
    close(blocks->fd);
    free(blocks);
}

const unsigned char *verify_blocks_secret(struct verify_blocks *blocks,
                                          const unsigned char secret[DIGEST_SECRET_SIZE])
{
    blocks->secrets =
        mem_grow(blocks->secrets, blocks->count, &blocks->capacity, sizeof *blocks->secrets);
    blocks->secrets[blocks->count] = mem_alloc(DIGEST_SECRET_SIZE);
    memcpy(blocks->secrets[blocks->count], secret, DIGEST_SECRET_SIZE);
    return blocks->secrets[blocks->count++];
}

void verify_blocks_begin(struct verify_blocks_pack *pack)
{
    buffer_clear(&pack->frames);
    buffer_clear(&pack->digests);
    pack->count = 0;
}

void verify_blocks_frame(struct verify_blocks_pack *pack, uint32_t offset, uint32_t length,
                         const void *raw, size_t raw_length, const unsigned char *secret)
{
    struct frame frame = {.offset = offset, .length = length, .first = pack->count};

    for (size_t at = 0; at < raw_length; at += PACK_BLOCK) {
        const size_t left = raw_length - at;

        buffer_append_u64(&pack->digests,
                          digest_block((const unsigned char *)raw + at,
                                       left < PACK_BLOCK ? left : PACK_BLOCK, secret));
        frame.count++;
    }
    pack->count += frame.count;
    buffer_append(&pack->frames, &frame, sizeof frame);
}

bool verify_blocks_keep(struct verify_blocks *blocks, const struct verify_blocks_pack *pack,
                        struct verify_entry *entry, struct error *err)
{
    const uint64_t at = atomic_fetch_add(&blocks->end, pack->frames.length + pack->digests.length);

    if (!files_temporary_write(blocks->fd, pack->frames.data, pack->frames.length, at, err) ||
        !files_temporary_write(blocks->fd, pack->digests.data, pack->digests.length,
                               at + pack->frames.length, err))
        return false;
    entry->digests = at;
    entry->frames = (uint32_t)(pack->frames.length / sizeof(struct frame));
    return true;
}

void verify_blocks_free_pack(struct verify_blocks_pack *pack)
{
    buffer_free(&pack->frames);
    buffer_free(&pack->digests);
}

static bool read_frame(const struct verify_blocks *blocks, const struct verify_entry *entry,
                       uint32_t number, struct frame *frame, struct error *err)
{
    return files_temporary_read(blocks->fd, frame, sizeof *frame,
                                entry->digests + number * sizeof *frame, err);
}

/* The last frame that begins at this offset or before. */
static bool find_frame(const struct verify_blocks *blocks, const struct verify_entry *entry,
                       uint32_t offset, struct frame *frame, struct error *err)
{
    uint32_t low = 0, high = entry->frames;

    while (high - low > 1) {
        const uint32_t middle = low + (high - low) / 2;

        if (!read_frame(blocks, entry, middle, frame, err))
            return false;
        if (frame->offset <= offset)
            low = middle;
        else
            high = middle;
    }
    return read_frame(blocks, entry, low, frame, err);
}

bool verify_blocks_check(const struct verify_blocks *blocks, const struct verify_entry *entry,
                         const struct map_run *run, const uint64_t *digests, uint32_t *at,
                         struct error *err)
{
    unsigned char found[PACK_FRAME_BLOCKS * 8];
    struct frame frame;

    *at = 0;
    if (!find_frame(blocks, entry, run->frame.offset, &frame, err))
        return false;
    if (frame.offset != run->frame.offset || frame.length != run->frame.length)
        return error_set(err, ERROR_INTEGRITY, "there is no such frame");
    if ((uint32_t)run->first + run->count > frame.count)
        return error_set(err, ERROR_INTEGRITY, "the frame has only %" PRIu32 " blocks",
                         frame.count);
    if (!files_temporary_read(blocks->fd, found, run->count * (size_t)8,
                              entry->digests + entry->frames * sizeof frame +
                                  (uint64_t)(frame.first + run->first) * 8,
                              err))
        return false;
    for (; *at < run->count; ++*at)
        if (bytes_get_u64(found + *at * (size_t)8) != digests[*at])
            return error_set(err, ERROR_INTEGRITY, "it has another digest");
    return true;
}
