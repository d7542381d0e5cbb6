/*
 * map_walk.h - through the maps of all files of a backup, each map pack fetched once
 *
 * A root is written behind its leaves, so the map packs are gone through from the last to the first: the
 * roots in a pack tell which leaves of it, and of packs before it, are wanted. Several packs are worked on
 * at once. Should a root lie before one of its leaves, that leaf's pack is fetched a second time. Memory
 * is a pack for each thread, and does not grow with the number of leaves: their places are kept in a file
 * (spool.h).
 */
#ifndef PGVIGIL_MAP_WALK_H
#define PGVIGIL_MAP_WALK_H

#include "job/restore_plan.h"
#include "pgvigil/map.h"
#include "pgvigil/refs.h"
#include "pgvigil/repository.h"

/* Gets each leaf once, in any order, from thread 0 to jobs - 1; proven to be that of the file and of that
 * number. */
typedef bool (*map_walk_fn)(uint32_t file, const struct map_leaf *leaf, int thread, void *context,
                            struct error *err);

struct map_walk_request {
    struct repository *repository;
    const struct restore_plan *plan;
    const struct refs *refs;
    int jobs;
    map_walk_fn fn;
    void *context;
};

/* `fd` is an empty file for its lists, which it takes over. ERROR_INTEGRITY when a map is not that of its
 * file, or lies in no map pack of refs. The progress display advances by the sizes of map packs. */
bool map_walk(const struct map_walk_request *request, int fd, struct error *err);

/* Bytes of all map packs, for the progress display. */
uint64_t map_walk_bytes(const struct refs *refs);

#endif
