/*
 * lock.h - one of a kind at a time on this host
 *
 * flock(2) on <state_dir>/lock/<name>.lock, which holds the pid and command of the holder, so that
 * the refused one can name it. The lock goes with the process, however that ends.
 */
#ifndef PGVIGIL_LOCK_H
#define PGVIGIL_LOCK_H

#include "pgvigil/error.h"

struct lock;

/* ERROR_BUSY, naming pid, command and since when, if somebody holds it. */
bool lock_take(const char *state_dir, const char *name, const char *command, struct lock **lock,
               struct error *err);
void lock_release(struct lock *lock);

#endif
