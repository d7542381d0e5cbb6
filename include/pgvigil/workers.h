/*
 * workers.h - a fixed number of threads for one piece of work, and cancellation
 *
 * workers_run starts `count` threads that each run fn once (they share the work through their
 * context), waits for all, and returns the first error any of them had. When one fails, or SIGTERM
 * or SIGINT came (process.h), workers_cancelled() turns true for the others, who end soon with
 * ERROR_CANCELLED, which never hides the first error.
 */
#ifndef PGVIGIL_WORKERS_H
#define PGVIGIL_WORKERS_H

#include "pgvigil/error.h"

struct workers;

typedef bool (*workers_fn)(struct workers *workers, int number, void *context, struct error *err);

bool workers_run(int count, workers_fn fn, void *context, struct error *err);

bool workers_cancelled(const struct workers *workers);

/* ERROR_CANCELLED into err (returning false) when cancelled, true otherwise. */
bool workers_check(const struct workers *workers, struct error *err);

#endif
