/*
 * wal_union.h - the WAL of a repository and its siblings, taken together
 *
 * Recovery gets each file from the first repository that has it whole (archive-get asks all of them), so
 * what it can reach is what all of them have between them. A sibling that does not answer, or whose WAL
 * cannot be told, is left out with a warning, and not asked again; of the first one that is an error.
 */
#ifndef PGVIGIL_WAL_UNION_H
#define PGVIGIL_WAL_UNION_H

#include "pgvigil/wal_archive.h"

struct wal_union_member {
    struct repository *repository;
    struct wal_ranges ranges;
};

struct wal_union {
    struct wal_union_member *members; /* those that answered, the first one first */
    size_t count;
    struct wal_ranges ranges; /* of segments that any of them has; sizes and times are not told */
};

/* Lists all of them at the same time, and once: they may grow afterwards. */
bool wal_union_list(struct repository *repository, struct wal_union *all, struct error *err);
void wal_union_free(struct wal_union *all);

/* Who is to be asked for a segment: `preferred` unless only others have it, of them one within reach. */
struct repository *wal_union_holder(const struct wal_union *all, struct repository *preferred,
                                    uint32_t timeline, uint64_t segment);

/* As wal_archive_timelines, in no order, and _history and _has_later of all of them. */
bool wal_union_timelines(struct repository *repository, uint32_t **timelines, size_t *count,
                         struct error *err);
bool wal_union_history(struct repository *repository, uint32_t timeline, struct history *history,
                       bool *known, struct error *err);
bool wal_union_has_any(struct repository *repository, uint32_t timeline, bool *any,
                       struct error *err);

#endif
