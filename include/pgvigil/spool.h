/*
 * spool.h - many lists that grow side by side in one file without a name
 *
 * Sorting more than fits into memory: records are added to the list they belong to, in any order and by
 * any thread, and each list, which does fit, is read back as a whole. Memory is a buffer for each list,
 * at most 64 MB together (unless there are more than 16,384 lists), and what is being read.
 */
#ifndef PGVIGIL_SPOOL_H
#define PGVIGIL_SPOOL_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/buffer.h"
#include "pgvigil/error.h"

struct spool;

/* Takes the descriptor over: an empty file, open for reading and writing. */
struct spool *spool_new(int fd, size_t lists);
void spool_free(struct spool *spool);

/* Appends to a list. What one call adds stays together. Any thread. */
bool spool_add(struct spool *spool, size_t list, const void *data, size_t length,
               struct error *err);

/* Takes all that is in a list out of it, into a buffer that is cleared before. Any thread. */
bool spool_take(struct spool *spool, size_t list, struct buffer *out, struct error *err);

uint64_t spool_bytes(struct spool *spool, size_t list);

#endif
