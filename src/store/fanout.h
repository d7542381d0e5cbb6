/*
 * fanout.h - one store that writes into several at once
 *
 * For a run that stores the same objects in every repository: what is written is gathered once and
 * given to all members from the same memory, at the same time. Reading is each member's own matter,
 * and no driver's function here.
 *
 * A member that fails is left out from then on, with its error; the put goes on with the rest, and
 * fails once nobody is left, or when the process is to end. A put is STORE_TAKEN where any member
 * has the name already; fanout_outcome tells which.
 */
#ifndef PGVIGIL_STORE_FANOUT_H
#define PGVIGIL_STORE_FANOUT_H

#include "pgvigil/store.h"

/* The members are borrowed; url is for messages. */
struct store *fanout_new(struct store *const *members, size_t count, const char *url);

/* Why a member is left out; false, and err untouched, if it is not. */
bool fanout_failure(const struct store *fanout, size_t member, struct error *err);

/* What the last put came to in a member that is not left out; for one that puts one at a time. */
enum store_outcome fanout_outcome(const struct store *fanout, size_t member);

#endif
