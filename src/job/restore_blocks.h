/*
 * restore_blocks.h - which blocks of which pack go where
 *
 * Maps say for each file where its blocks lie; a restore wants to know for each pack where its blocks
 * go, so that each is fetched once. The list, 1/800 of the cluster's size or a little more, is kept in a
 * file without a name on the target's file system (spool.h), cut by stretches of consecutive packs, so
 * that memory holds one stretch for each thread and does not grow with the number of blocks.
 */
#ifndef PGVIGIL_RESTORE_BLOCKS_H
#define PGVIGIL_RESTORE_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

#include "job/restore_plan.h"
#include "job/restore_tree.h"
#include "pgvigil/refs.h"
#include "pgvigil/repository.h"
#include "pgvigil/spool.h"

/* Consecutive blocks of one file that lie one behind the other in one frame. */
struct restore_blocks_run {
    uint32_t file;                /* index in the plan */
    uint32_t block;               /* of the file */
    uint32_t pack;                /* index in refs, or refs->count: zeros, which lie nowhere */
    uint32_t offset, length;      /* of the frame */
    uint16_t first, count;        /* blocks in the frame */
    const unsigned char *digests; /* `count` of them, unaligned; borrowed from the stretch */
};

struct restore_blocks {
    struct spool *spool; /* a list for each stretch */
    size_t stretches;
    uint64_t bytes;       /* to be written */
    uint64_t *root_bytes; /* for restore_tree_check_space */
};

/* Reads all maps of the plan's files, and checks them against the plan and refs. Blocks of zeros are
 * checked and left out where a new file is one hole. */
bool restore_blocks_read(const struct restore_plan *plan, struct repository *repository,
                         const struct refs *refs, struct restore_tree *tree, size_t root_count,
                         int jobs, struct restore_blocks *blocks, struct error *err);
void restore_blocks_free(struct restore_blocks *blocks);

/* One stretch in memory: its runs by pack and place in it. */
struct restore_blocks_stretch {
    struct buffer bytes;
    struct restore_blocks_run *runs;
    size_t count;
};

/* Takes a stretch out of the list; what the struct, zeroed at first, held before is let go. */
bool restore_blocks_take(const struct restore_blocks *blocks, size_t stretch,
                         struct restore_blocks_stretch *into, struct error *err);
void restore_blocks_free_stretch(struct restore_blocks_stretch *stretch);

/* Bytes of `count` blocks from `block` on of a file: the last one may be short. */
size_t restore_blocks_bytes(const struct restore_plan_file *file, uint32_t block, uint32_t count);
/* Are these the digests of that many blocks of zeros? Nothing of them is stored, so that this is all there
 * is to check. */
bool restore_blocks_zeros(const struct restore_plan *plan, const struct restore_plan_file *file,
                          uint32_t block, uint32_t count, const uint64_t *digests);

#endif
