/*
 * restore_blocks.h - which blocks of which pack go where
 *
 * Maps say for each file where its blocks lie; a restore wants to know for each pack where its blocks
 * go, so that each is fetched once. The list, 1/500 of the cluster's size at worst, is kept in files
 * without names on the target's file system, mapped into memory and sorted by pack.
 */
#ifndef PGVIGIL_RESTORE_BLOCKS_H
#define PGVIGIL_RESTORE_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

#include "job/restore_plan.h"
#include "job/restore_tree.h"
#include "pgvigil/refs.h"
#include "pgvigil/repository.h"

/* Consecutive blocks of one file that lie one behind the other in one frame. */
struct restore_blocks_run {
    uint64_t digest;         /* index of the first block's digest */
    uint32_t file;           /* index in the plan */
    uint32_t block;          /* of the file */
    uint32_t pack;           /* index in refs, or refs->count: zeros, which lie nowhere */
    uint32_t offset, length; /* of the frame */
    uint16_t first, count;   /* blocks in the frame */
};

struct restore_blocks {
    struct restore_blocks_run *runs;
    uint64_t
        *starts; /* runs of pack i are those from starts[i] to before starts[i + 1]; and of zeros */
    const uint64_t *digests;
    uint64_t bytes;                     /* to be written */
    uint64_t *root_bytes;               /* for restore_tree_check_space */
    size_t runs_mapped, digests_mapped; /* bytes */
};

/* Reads all maps of the plan's files, and checks them against the plan and refs. Blocks of zeros are
 * checked and left out where a new file is one hole. */
bool restore_blocks_read(const struct restore_plan *plan, struct repository *repository,
                         const struct refs *refs, struct restore_tree *tree, size_t root_count,
                         struct restore_blocks *blocks, struct error *err);
void restore_blocks_free(struct restore_blocks *blocks);

/* Bytes of `count` blocks from `block` on of a file: the last one may be short. */
size_t restore_blocks_bytes(const struct restore_plan_file *file, uint32_t block, uint32_t count);

#endif
