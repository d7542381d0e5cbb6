/*
 * lag.h - how far a repository is behind the others
 *
 * Compared with each of the others by what copy would bring (copy_plan.h); the one that has most of
 * what is lacking counts.
 */
#ifndef PGVIGIL_LAG_H
#define PGVIGIL_LAG_H

#include "pgvigil/repository.h"
#include "pgvigil/survey.h"

struct lag {
    const char *ahead; /* the repository that has it; NULL: nothing is lacking */
    uint64_t objects;  /* that are lacking, all in all */
    uint64_t bytes;    /* of WAL and packs among them */
    uint64_t backups;
    uint64_t wal_files;
    int64_t time; /* microseconds from the newest moment that can be restored from here to the
                     newest of any repository; 0: it is the newest; or one of LAG_TIME_* */
};

#define LAG_TIME_NOTHING (-1) /* nothing can be restored from here */
#define LAG_TIME_SEALED (-2) /* something is lacking, and WAL that would tell cannot be decrypted */

/* The newest moment that can be restored; INT64_MIN: none can. *sealed becomes true where that may
 * be later, and nobody can tell; else it stays. */
int64_t lag_newest_moment(const struct survey *survey, bool *sealed);

/* What `repository` lacks that one of the others (open, the same cluster selected) has. time is not
 * set. */
bool lag_read(struct repository *repository, struct repository *const *others, size_t count,
              struct lag *lag, struct error *err);

#endif
