/*
 * memory_store.h - a store in memory, for tests
 *
 * Behaves as store.h says, and as a bucket does: "a" and "a/b" may both exist. Closing it forgets
 * the objects.
 */
#ifndef PGVIGIL_TESTS_MEMORY_STORE_H
#define PGVIGIL_TESTS_MEMORY_STORE_H

#include "pgvigil/store.h"

struct store *memory_store_new(void);

/* From now on, everything but writing to and ending an open put fails with ERROR_STORE (true), or
 * works again (false). */
void memory_store_break(struct store *store, bool broken);

/* The next `count` of those operations fail with a transient ERROR_STORE. */
void memory_store_fail(struct store *store, int count);

/* The next commit stores, but says that it failed: its answer was lost. The next get fails half way. */
void memory_store_lose_answer(struct store *store);
void memory_store_cut_get(struct store *store);

#endif
