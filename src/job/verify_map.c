/* verify_map.c - the maps of a backup, held against its packs */
#include "job/verify_map.h"

#include <inttypes.h>

#include "job/map_walk.h"
#include "job/restore_blocks.h"
#include "pgvigil/files.h"

struct checking {
    const struct restore_plan *plan;
    const struct refs *refs;
};

static bool check_zeros(const struct checking *checking, const struct restore_plan_file *file,
                        uint32_t block, uint32_t count, const uint64_t *digests, struct error *err)
{
    for (uint32_t i = 0; i < count; i++)
        if (!restore_blocks_zeros(checking->plan, file, block + i, 1, &digests[i]))
            return error_set(err, ERROR_INTEGRITY,
                             "block %" PRIu32 " of file \"%s\" is zeros by its map, but not by its "
                             "digest",
                             block + i, file->path);
    return true;
}

static bool check_frame(const struct checking *checking, const struct restore_plan_file *file,
                        const struct pack_frame *frame, struct error *err)
{
    const struct refs_pack *pack = refs_find(checking->refs, &frame->pack);
    char name[LAYOUT_NAME_SIZE];

    if (pack != NULL && pack->kind == REFS_DATA &&
        (uint64_t)frame->offset + frame->length <= pack->size - TRAILER_SIZE)
        return true;
    return error_set(
        err, ERROR_INTEGRITY,
        pack == NULL || pack->kind != REFS_DATA
            ? "blocks of file \"%s\" lie in \"%s\", which is no data pack of the backup"
            : "blocks of file \"%s\" lie in \"%s\", but behind its end",
        file->path, layout_pack(&frame->pack, name));
}

static bool check_leaf(uint32_t index, const struct map_leaf *leaf, int thread, void *context,
                       struct error *err)
{
    const struct checking *checking = context;
    const struct restore_plan_file *file = &checking->plan->files[index];
    uint32_t at = 0; /* in the leaf */

    (void)thread;
    for (size_t i = 0; i < leaf->runs; i++) {
        const struct map_run *run = &leaf->run[i];
        const bool ok = run->frame.pack.number == 0
                            ? check_zeros(checking, file, leaf->number * MAP_LEAF_BLOCKS + at,
                                          run->count, &leaf->digests[at], err)
                            : check_frame(checking, file, &run->frame, err);

        if (!ok)
            return false;
        at += run->count;
    }
    return true;
}

bool verify_map_check(const struct verify_walk *walk, struct manifest *manifest,
                      const struct refs *refs, struct error *err)
{
    struct restore_plan plan = RESTORE_PLAN_INIT;
    struct checking checking = {.plan = &plan, .refs = refs};
    const struct map_walk_request request = {.repository = walk->repository,
                                             .plan = &plan,
                                             .refs = refs,
                                             .jobs = walk->jobs,
                                             .fn = check_leaf,
                                             .context = &checking};
    int fd;
    bool ok = restore_plan_read(&plan, manifest, err) &&
              files_temporary(walk->config->state_dir, &fd, err) && map_walk(&request, fd, err);

    restore_plan_free(&plan);
    return ok;
}
