/*
 * run_timing.h - how a run keeps its lease; tests choose shorter times
 */
#ifndef PGVIGIL_RUN_TIMING_H
#define PGVIGIL_RUN_TIMING_H

#include "pgvigil/run.h"

struct run_timing {
    int64_t lease;   /* microseconds that it holds after a renewal */
    int64_t renewal; /* between renewals */
    int64_t retry;   /* after a renewal that failed */
};

bool run_begin_timed(struct repository *repository, const char *kind, int64_t base,
                     const struct run_timing *timing, struct run **run, struct error *err);

#endif
