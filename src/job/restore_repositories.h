/*
 * restore_repositories.h - which repositories a restore reads from
 */
#ifndef PGVIGIL_RESTORE_REPOSITORIES_H
#define PGVIGIL_RESTORE_REPOSITORIES_H

#include "pgvigil/repository.h"
#include "pgvigil/restore.h"

/* So long one is waited for without which the others can do. */
#define RESTORE_REPOSITORIES_PATIENCE (5 * CLOCK_SECOND)

/*
 * Opens the one asked for, alone; or the first of the configuration that is not to be done without, and the
 * others as its siblings. One of these that cannot be opened is left out with a warning, whose hint says
 * when recovery will not be able to do without it as well. The caller closes the first.
 */
bool restore_repositories_open(const struct config *config, const struct restore_request *request,
                               struct repository **first, struct error *err);

/* One of the list is asked before the others from now on, and named in messages. */
void restore_repositories_put_first(struct repository **list, struct repository *one);

#endif
