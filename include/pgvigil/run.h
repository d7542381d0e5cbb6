/*
 * run.h - a run: something under way that writes or holds objects
 *
 * A run's id is its UTC start in seconds, claimed by creating run/<id>/begin.json; a second one in
 * the same second takes the next free one. While it lives it renews its lease by ever new small
 * objects; expire leaves alone what a living run needs. A run whose lease has lapsed may not commit:
 * run_check tells. An end note says that nothing more is to be expected of it, so that nobody waits
 * for the lease to lapse.
 *
 * Who builds on a run's packs, or reads them, names that run as base or claims it, *then* reads the
 * marks (marks.h) and does without what is expired.
 */
#ifndef PGVIGIL_RUN_H
#define PGVIGIL_RUN_H

#include <stdint.h>

#include "pgvigil/repository.h"

#define RUN_LEASE (INT64_C(60) * 60 * 1000000)   /* microseconds a lease holds */
#define RUN_RENEWAL (INT64_C(10) * 60 * 1000000) /* between renewals */

struct run;

#define RUN_KIND_SIZE 16

/* `kind`: "backup"; "restore" and "read" (copying from here) read a backup; "copy" copies to here;
 * "expire". base is the run it builds on or reads, or 0. A thread renews the lease until run_end. */
bool run_begin(struct repository *repository, const char *kind, int64_t base, struct run **run,
               struct error *err);
int64_t run_id(const struct run *run);
/* When the run began by the store's clock, the only one that ages are judged by. Of one repository, not of
 * joined ones. */
bool run_began(const struct run *run, int64_t *moment, struct error *err);
/* Says that this run builds on, or reads, what another one has stored. */
bool run_claim(struct run *run, int64_t claimed, struct error *err);
/* ERROR_STORE when the lease could not be renewed in time. */
bool run_check(struct run *run, struct error *err);
/* Where the end note cannot be stored within seconds, the lease lapses instead. NULL is fine. */
void run_end(struct run *run);

#endif
