/*
 * pack.h - packs: objects full of zstd frames
 *
 * A frame holds up to 256 KiB of raw bytes: up to 32 blocks of one file, or items (leaves and
 * roots) of maps. Who writes knows a frame's place at once: its pack gets its number when it is
 * begun. Each worker fills a pack of its own in memory and stores it when it is full; so memory is
 * packs in flight times PACK_SIZE.
 */
#ifndef PGVIGIL_PACK_H
#define PGVIGIL_PACK_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/decompress.h"
#include "pgvigil/layout.h"
#include "pgvigil/refs.h"
#include "pgvigil/repository.h"

#define PACK_SIZE ((size_t)32 * 1024 * 1024) /* at most, trailer included */
#define PACK_FRAME_RAW ((size_t)256 * 1024)  /* raw bytes of a frame at most */
#define PACK_BLOCK ((size_t)8192)
#define PACK_FRAME_BLOCKS (PACK_FRAME_RAW / PACK_BLOCK)

/* Where a frame lies. `length` is that of the compressed frame. */
struct pack_frame {
    struct layout_pack pack;
    uint32_t offset;
    uint32_t length;
};

/* What the pack writers of one run share: pack numbers and the list of packs stored. */
struct pack_set;
struct pack_set *pack_set_new(struct repository *repository, int64_t run);
void pack_set_free(struct pack_set *set);
/* `fn` is given each map pack when it is stored, by the thread that did it. Before any is. */
typedef bool (*pack_stored_fn)(const struct refs_pack *pack, const void *bytes, size_t length,
                               void *context, struct error *err);
void pack_set_on_map(struct pack_set *set, pack_stored_fn fn, void *context);
/* The packs stored so far, sorted; borrowed. Not while writers are at work. */
const struct refs *pack_set_refs(struct pack_set *set);

struct pack_writer;
bool pack_writer_new(struct pack_set *set, enum refs_kind kind, int level,
                     struct pack_writer **writer, struct error *err);
void pack_writer_free(struct pack_writer *writer); /* drops what was not flushed */
/* `fn` is told of each pack of this writer when it is stored. */
typedef void (*pack_noted_fn)(const struct refs_pack *pack, void *context);
void pack_writer_on_stored(struct pack_writer *writer, pack_noted_fn fn, void *context);

/* Compresses one frame of `length` raw bytes holding `blocks` blocks, of maps so many items. */
bool pack_writer_add(struct pack_writer *writer, const void *raw, size_t length, uint32_t blocks,
                     struct pack_frame *frame, struct error *err);
/* Stores the pack begun, if any. */
bool pack_writer_flush(struct pack_writer *writer, struct error *err);

/* Fetches a whole pack and proves it against its trailer and its line in refs. */
bool pack_fetch(struct repository *repository, const struct refs_pack *pack, struct buffer *buffer,
                struct error *err);

/* Decompresses the frame at `frame` of a fetched pack into raw; capacity is PACK_FRAME_RAW for
 * data, MAP_ITEM_MAXIMUM (map.h) for maps. */
bool pack_read_frame(const struct buffer *pack, const struct pack_frame *frame,
                     struct decompress_context *context, void *raw, size_t capacity,
                     size_t *raw_length, struct error *err);

#endif
