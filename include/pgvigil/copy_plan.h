/*
 * copy_plan.h - what one repository has of a cluster and another lacks
 *
 * From listings and the lists of packs (refs.zst) of the backups that the other one lacks. It counts
 * what copy brings: not what is left of a run that never became a backup, nor what the other one's
 * retention would let go at once.
 */
#ifndef PGVIGIL_COPY_PLAN_H
#define PGVIGIL_COPY_PLAN_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/catalog.h"
#include "pgvigil/refs.h"
#include "pgvigil/repository.h"

struct expire_inventory;

/* Objects of the selected cluster. */
struct copy_objects {
    char **names;
    uint64_t *sizes; /* 0: not known */
    size_t count;
    size_t capacity;
    size_t size_capacity;
};

struct copy_plan {
    struct expire_inventory *source;    /* the repository that has it */
    const struct catalog *catalog;      /* of the source */
    const struct backup_info **backups; /* of these, what the other one lacks: oldest first */
    size_t backup_count;
    bool *lack_damaged;      /* of each damaged one of the catalog: the other one lacks it */
    struct copy_objects wal; /* WAL files that the other one lacks, ascending by name */
    uint64_t objects;        /* all of it, each counted once */
    uint64_t bytes;          /* of WAL and packs */
    size_t conflicts;        /* so many have another backup with the same id there, */
    struct error conflict;   /* the first of which is this */
    struct error
        parted; /* unless ERROR_NONE, both have WAL, of two servers: nothing is to be copied */
};

void copy_plan_add_object(struct copy_objects *objects, const char *name, uint64_t size);
void copy_plan_free_objects(struct copy_objects *objects);

/* Of the selected cluster of both. The backups are listed before the WAL: what they need is there. */
bool copy_plan_read(struct repository *from, struct repository *to, struct copy_plan *plan,
                    struct error *err);
void copy_plan_free(struct copy_plan *plan);

/* Has a person said that this backup is to be kept (`pgvigil keep`)? */
bool copy_plan_keeps(const struct copy_plan *plan, const struct backup_info *info);

/* The packs of a backup (refs is its list) that `to` lacks now, and its manifest. */
bool copy_plan_parts(struct repository *to, const struct backup_info *info, const struct refs *refs,
                     struct copy_objects *parts, struct error *err);

#endif
