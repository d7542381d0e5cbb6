/*
 * runs.h - what is under way in a repository, seen from outside
 *
 * Ages count by the store's clock: `now` is the time of an object that has just been stored there.
 * A run lives until it has said that it ended, or its newest sign of life is RUNS_PATIENCE old. That
 * is a lease more than it may commit for: its last request may still be on its way.
 */
#ifndef PGVIGIL_RUNS_H
#define PGVIGIL_RUNS_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/repository.h"
#include "pgvigil/run.h"

#define RUNS_PATIENCE (2 * RUN_LEASE)

struct runs_entry {
    int64_t run;
    bool lives;
    int64_t began; /* when its oldest note was stored, by the store's clock */
    int64_t seen;  /* the newest */

    /* Of living ones: */
    bool readable;            /* is its begin note there and sound? */
    char kind[RUN_KIND_SIZE]; /* "" if it cannot be read */
    char host[64];
    int64_t base;    /* 0: none */
    int64_t *claims; /* runs */
    size_t claim_count, claim_capacity;
};

struct runs {
    struct runs_entry *entries; /* ascending by run */
    size_t count;
    size_t capacity;
};

bool runs_read(struct repository *repository, int64_t now, struct runs *runs, struct error *err);
void runs_free(struct runs *runs);

/* NULL if there are no notes of it. */
const struct runs_entry *runs_find(const struct runs *runs, int64_t run);
/* Does a living run build on this one, or read it? The run that does, or NULL. */
const struct runs_entry *runs_holder(const struct runs *runs, int64_t run);
/* The first other living run of this kind, or one whose kind cannot be read; or NULL. */
const struct runs_entry *runs_living(const struct runs *runs, const char *kind, int64_t but);

/*
 * For who must not work at the same time as an expire, and has said in a begin note or mark that it is
 * there: waits for one that lives to end, for minutes. *over is false if it still lives. `own` is who waits;
 * NULL: no run, which has only this host's clock to tell what has died.
 */
bool runs_await_expire(struct repository *repository, const struct run *own, bool *over,
                       struct error *err);
/* The error for who did not wait any longer: ERROR_BUSY. */
bool runs_refuse_expire(const struct repository *repository, struct error *err);

#endif
