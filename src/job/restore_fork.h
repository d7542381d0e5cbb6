/*
 * restore_fork.h - was another timeline current at the moment asked for?
 *
 * Between the moment that a restore went back to and its first transaction nobody wrote on the new
 * timeline, while the old one may have gone on. PostgreSQL gives for a time in between the state of
 * the fork, without a word.
 */
#ifndef PGVIGIL_RESTORE_FORK_H
#define PGVIGIL_RESTORE_FORK_H

#include "pgvigil/backup_info.h"
#include "pgvigil/restore.h"
#include "pgvigil/wal_scan.h"

struct restore_fork {
    uint32_t current; /* an ancestor, or one beside, written at that moment; 0: none is known */
    uint32_t next;    /* which parted from it, and had no transaction yet */
    uint64_t lsn;     /* where */
    bool left_known;
    int64_t left; /* end of the last transaction before that */
};

/* Only of a target by time without a timeline. What cannot be read tells nothing. `scan` is of the
 * timeline chosen. */
void restore_fork_find(struct repository *repository, struct wal_scan *scan,
                       const struct backup_info *backup, const struct restore_request *request,
                       int jobs, struct restore_fork *fork);

void restore_fork_warn(const struct restore_fork *fork, const struct restore_request *request);
/* Before the hint that is there; returns false. */
bool restore_fork_hint(const struct restore_fork *fork, struct error *err);

#endif
