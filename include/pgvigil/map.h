/*
 * map.h - where the blocks of a file lie, and their digests
 *
 * Two levels: leaves of 256 blocks (2 MiB of the file) and a root that names the leaves. Both are
 * items in the frames of map packs. Every item carries the key of its file (the keyed digest of its
 * path), and a leaf its number, so that an item taken from the wrong place is noticed. The binary
 * form is in docs/FORMAT.md; little endian throughout.
 */
#ifndef PGVIGIL_MAP_H
#define PGVIGIL_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/buffer.h"
#include "pgvigil/error.h"
#include "pgvigil/pack.h"

#define MAP_LEAF_BLOCKS 256
/* An item larger than PACK_FRAME_RAW (the root of a file above 19 GB) gets a frame of its own. */
#define MAP_ITEM_MAXIMUM ((size_t)4 * 1024 * 1024)
#define MAP_FILE_SIZE_MAXIMUM (UINT64_C(256) << 30)

/* Where an item lies: the frame, and the item's bytes in the frame's raw bytes. */
struct map_place {
    struct pack_frame frame;
    uint32_t item_offset;
    uint32_t item_length;
};

/* Consecutive blocks of the file that lie one behind the other in one frame. */
struct map_run {
    struct pack_frame frame; /* pack.number 0: the blocks are all zeros and stored nowhere */
    uint16_t first;          /* index in the frame of the run's first block */
    uint16_t count;          /* >= 1 */
};

struct map_leaf {
    uint64_t key;
    uint32_t number; /* of the leaf in its file, from 0 */
    uint16_t blocks; /* 1..256; less than 256 only in the last leaf */
    uint16_t runs;
    uint64_t digests[MAP_LEAF_BLOCKS];
    struct map_run run[MAP_LEAF_BLOCKS];
};

struct map_root {
    uint64_t key;
    uint64_t file_size;
    uint32_t leaf_count;
    struct map_place *leaves;
};

/* The key of a file: digest_block of its path in the manifest. */
uint64_t map_key(const char *path, const unsigned char secret[DIGEST_SECRET_SIZE]);

uint32_t map_leaf_count(uint64_t file_size); /* 0 for an empty file, which has no map */

void map_encode_leaf(const struct map_leaf *leaf, struct buffer *out);
void map_encode_root(const struct map_root *root, struct buffer *out);

/* Strict, bounded; ERROR_INTEGRITY. The runs cover the leaf's blocks exactly. */
bool map_decode_leaf(const void *bytes, size_t length, struct map_leaf *leaf, struct error *err);
bool map_decode_root(const void *bytes, size_t length, struct map_root *root, struct error *err);
void map_free_root(struct map_root *root);

/*
 * Collects items into frames of map packs. Thread-safe. An item's place is known only when its
 * frame is written: `done` is called then, from whichever thread caused it, and may add further
 * items.
 */
struct map_writer;
typedef bool (*map_placed_fn)(void *owner, uint32_t slot, const struct map_place *place,
                              struct error *err);

bool map_writer_new(struct pack_set *set, int level, map_placed_fn placed,
                    struct map_writer **writer, struct error *err);
void map_writer_free(struct map_writer *writer);
bool map_writer_add(struct map_writer *writer, const void *item, size_t length, void *owner,
                    uint32_t slot, struct error *err);
/* Writes all that is pending, until nothing further is added by `placed`, and stores the pack. */
bool map_writer_finish(struct map_writer *writer, struct error *err);

#endif
