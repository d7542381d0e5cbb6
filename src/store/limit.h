/*
 * limit.h - a store that takes no more than so many bytes a second, both ways together
 *
 * Around any store. All threads share the limit. Names and sizes are not counted.
 */
#ifndef PGVIGIL_STORE_LIMIT_H
#define PGVIGIL_STORE_LIMIT_H

#include "pgvigil/store.h"

/* Takes `inner` over. rate: bytes a second, more than 0. */
struct store *limit_new(struct store *inner, uint64_t rate);

#endif
