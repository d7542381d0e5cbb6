/*
 * clusters.h - whose objects a repository holds
 */
#ifndef PGVIGIL_CLUSTERS_H
#define PGVIGIL_CLUSTERS_H

#include "pgvigil/repository.h"

/* System identifiers that the cluster has objects under, ascending; the caller frees the array. */
bool clusters_identifiers(struct repository *repository, uint64_t **identifiers, size_t *count,
                          struct error *err);

/* For an error that says that there is nothing of the cluster: where a repository only has clusters of other
 * names, as with a mistyped one, a hint that says which; true then. Where that is not so or cannot be told
 * (not everybody may list all of a bucket), the error stays as it is. */
bool clusters_hint(struct repository *repository, struct error *err);

/* Of a repository that has nothing of the cluster: warns where it has of others, as above; true then. */
bool clusters_doubt(struct repository *repository);

#endif
