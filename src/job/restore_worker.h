/*
 * restore_worker.h - writing the blocks, with several threads
 */
#ifndef PGVIGIL_RESTORE_WORKER_H
#define PGVIGIL_RESTORE_WORKER_H

#include "job/restore_blocks.h"

/*
 * Each pack is fetched once, by one of `jobs` threads, and proven; each of its frames is decoded
 * once; each block is checked against its digest before it is written. Memory is one pack and one stretch a thread.
 * Blocks that are in the target already are left as they are, which needs no fetching; *kept is how many
 * bytes these are. Empties the list.
 */
bool restore_worker_run(const struct restore_plan *plan, const struct restore_blocks *blocks,
                        struct repository *repository, const struct refs *refs,
                        struct restore_tree *tree, int jobs, uint64_t *kept, struct error *err);

#endif
