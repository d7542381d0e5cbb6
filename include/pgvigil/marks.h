/*
 * marks.h - what may be deleted, and what must not
 *
 * Two switches for each run of a cluster in a repository, turned by storing ever new small objects,
 * so that whoever can only add objects can turn them too: "kept" (by a person, for a backup) and
 * "expired" (by expire: marked for deletion). docs/FORMAT.md: odd numbers turn a switch on, even
 * ones off, the highest counts; a number is claimed by creating its object only if there is none, so
 * no clock decides which note is the later one.
 *
 * The rule that makes deletion safe: who is going to build on a run's packs or read them writes its
 * begin note first (run.h), *then* reads the marks, and lets alone what is expired; expire writes its
 * marks, *then* reads begin notes and leases, and deletes only in a later run.
 */
#ifndef PGVIGIL_MARKS_H
#define PGVIGIL_MARKS_H

#include <stdint.h>

#include "pgvigil/repository.h"

struct marks;

/* All of them at this moment. Of one repository: a joint one cannot be read. */
bool marks_read(struct repository *repository, struct marks **marks, struct error *err);
void marks_free(struct marks *marks);

bool marks_kept(const struct marks *marks, int64_t run);
bool marks_expired(const struct marks *marks, int64_t run);
/* When the mark was stored, in microseconds since 1970 by the store's clock; 0 if not expired. */
int64_t marks_expired_at(const struct marks *marks, int64_t run);

/* The runs that have notes of either kind, ascending, each once; the caller frees the array. */
int64_t *marks_runs(const struct marks *marks, size_t *count);

enum marks_note { MARKS_KEEP, MARKS_UNKEEP, MARKS_EXPIRE, MARKS_UNEXPIRE };
enum marks_outcome { MARKS_TURNED, MARKS_AS_IT_WAS };

/* Turns a switch, durably. Two who turn it the same way at once both succeed. */
bool marks_write(struct repository *repository, int64_t run, enum marks_note note,
                 enum marks_outcome *outcome, struct error *err);

#endif
