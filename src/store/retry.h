/*
 * retry.h - a store that tries again
 *
 * Around any store. What failed with an error that says it is transient is tried again, after a wait
 * that doubles each time, of which a random half is left out so that many hosts do not come back at
 * once; or as long as the other side asked for. It ends with the time for one request, with the
 * store's deadline, or with SIGTERM; the last error then says how often and how long.
 *
 * A put whose outcome was lost may meet its own object: what is there is compared, so that the
 * answer is the same as if nothing had been lost. A get goes on where it broke off, a list behind
 * the last name.
 */
#ifndef PGVIGIL_STORE_RETRY_H
#define PGVIGIL_STORE_RETRY_H

#include "pgvigil/store.h"

/* Takes `inner` over. timeout: microseconds for one request with all its attempts. */
struct store *retry_new(struct store *inner, int64_t timeout);

#endif
