/*
 * verify_blocks.h - the digests of the blocks in packs, to be held against what maps say of them
 *
 * A pack can be whole by its trailer and still hold another block than the map says. So of each data pack
 * that is read, whoever reads it notes here the digests of its blocks, and the maps are read after that.
 * What is noted, 1/1000 of what is read, lies in a file without a name in the state directory; memory does
 * not grow with it.
 *
 * Digests need the secret of the backups that the pack belongs to. Packs of backups whose maps are not read
 * in this run, and those that nobody here has a key for, are not noted.
 */
#ifndef PGVIGIL_VERIFY_BLOCKS_H
#define PGVIGIL_VERIFY_BLOCKS_H

#include "job/verify_walk.h"
#include "pgvigil/map.h"

struct verify_blocks;
bool verify_blocks_new(const char *state_dir, struct verify_blocks **blocks, struct error *err);
void verify_blocks_free(struct verify_blocks *blocks);

/* A copy of a secret, which lasts as long as `blocks`. One thread. */
const unsigned char *verify_blocks_secret(struct verify_blocks *blocks,
                                          const unsigned char secret[DIGEST_SECRET_SIZE]);

/* What one thread gathers of one pack. */
struct verify_blocks_pack {
    struct buffer frames;
    struct buffer digests;
    uint32_t count; /* of digests */
};
void verify_blocks_begin(struct verify_blocks_pack *pack);
void verify_blocks_frame(struct verify_blocks_pack *pack, uint32_t offset, uint32_t length,
                         const void *raw, size_t raw_length, const unsigned char *secret);
/* Keeps it; sets the entry's `digests` and `frames`. Any thread. */
bool verify_blocks_keep(struct verify_blocks *blocks, const struct verify_blocks_pack *pack,
                        struct verify_entry *entry, struct error *err);
void verify_blocks_free_pack(struct verify_blocks_pack *pack);

/* Are these the blocks, `run->count` of them, that the pack of `entry` has at this place? Any thread.
 * ERROR_INTEGRITY says what is wrong, and sets *at to the block, counted from the first. */
bool verify_blocks_check(const struct verify_blocks *blocks, const struct verify_entry *entry,
                         const struct map_run *run, const uint64_t *digests, uint32_t *at,
                         struct error *err);

#endif
