/*
 * restore_instead.h - which backup would do in the place of one that is damaged
 *
 * Whoever waits for a restore and learns that an object is damaged wants to know how to go on.
 */
#ifndef PGVIGIL_RESTORE_INSTEAD_H
#define PGVIGIL_RESTORE_INSTEAD_H

#include "job/restore_target.h"
#include "pgvigil/refs.h"

struct restore_instead {
    struct repository *repository;
    const struct restore_request *request;
    const struct restore_target_choice *choice; /* what cannot be restored */
    const struct refs *refs;                    /* of that; empty if they cannot be read */
    int jobs;
    bool begun; /* something has been written by now */
};

/*
 * The hint for an error about what is damaged: the newest backup before the one chosen that needs nothing
 * of that, of which nothing is missing or known to be damaged, and from which the target is reached
 * (restore_target_choose) along the same timeline; or that none is known to be so. What such a backup
 * needs is looked for, not read.
 */
void restore_instead_hint(const struct restore_instead *instead, struct error *err);

#endif
