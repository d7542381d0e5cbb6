/*
 * restore_cluster.h - which of the clusters in the repositories is to be restored
 */
#ifndef PGVIGIL_RESTORE_CLUSTER_H
#define PGVIGIL_RESTORE_CLUSTER_H

#include "pgvigil/catalog.h"
#include "pgvigil/repository.h"
#include "pgvigil/restore.h"

/*
 * Of the clusters of this name the one that has the backup asked for, else the one whose newest fitting
 * backup is the newest of all: selects it, and gives its backups, of the repository and its siblings
 * together. *catalog is the caller's, also when
 * there is none that serves; it may be NULL then.
 */
bool restore_cluster_choose(struct repository *repository, const struct restore_request *request,
                            struct catalog **catalog, struct error *err);

/* A time is served by backups that ended before it; the rest is seen to when the WAL is known. */
bool restore_cluster_may_serve(const struct restore_request *request,
                               const struct backup_info *backup);

#endif
