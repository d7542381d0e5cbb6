/*
 * relay.h - one thread that takes the pieces of a stream in their order while their owner goes on
 *
 * For the second half of the work on a stream (digesting it, writing it out) while the first half
 * (decompressing it, compressing it) goes on with the next piece. One piece at a time is under way. A
 * stream of less than RELAY_INLINE bytes is not worth a thread: the caller works on it.
 */
#ifndef PGVIGIL_RELAY_H
#define PGVIGIL_RELAY_H

#include <stddef.h>

#include "pgvigil/error.h"

#define RELAY_INLINE ((size_t)512 * 1024)

struct relay;

typedef bool (*relay_fn)(const void *data, size_t length, void *context, struct error *err);

struct relay *relay_new(relay_fn fn, void *context);

/* Waits for the piece before, then hands this one over: its bytes must stay until the next
 * relay_hand or relay_wait has returned. After a piece that failed there is only that error. */
bool relay_hand(struct relay *relay, const void *data, size_t length, struct error *err);
/* True once all pieces have been worked on. From then on the caller may use what fn used. */
bool relay_wait(struct relay *relay, struct error *err);
/* Waits for the piece under way; NULL is fine. */
void relay_free(struct relay *relay);

#endif
