/* verify_map.c - the maps of a backup, held against its packs */
#include "job/verify_map.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "job/map_walk.h"
#include "job/restore_blocks.h"
#include "job/verify_blocks.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"

struct checking {
    struct verify_walk *walk;
    const struct restore_plan *plan;
    const struct refs *refs;
    struct verify_entry **noted; /* for each pack of refs: what is noted of its blocks, or NULL */
};

static void find_noted(struct checking *checking)
{
    const struct refs *refs = checking->refs;
    char name[LAYOUT_NAME_SIZE];

    checking->noted = mem_calloc(refs->count + 1, sizeof(struct verify_entry *));
    for (size_t i = 0; i < refs->count; i++) {
        struct verify_entry *entry =
            verify_walk_find(checking->walk, layout_pack(&refs->packs[i].pack, name));

        if (entry != NULL && entry->frames > 0 &&
            memcmp(entry->secret, checking->plan->secret, DIGEST_SECRET_SIZE) == 0)
            checking->noted[i] = entry;
    }
}

/* One finding for each pack, whatever else is wrong with it. */
static void blame_pack(const struct checking *checking, struct verify_entry *entry,
                       const struct error *why)
{
    struct verify_walk *walk = checking->walk;

    pthread_mutex_lock(&walk->mutex);
    if (!entry->blamed)
        verify_walk_blame(walk, VERIFY_DAMAGED, TRAILER_PACK, entry->name, why)->inherent = true;
    pthread_mutex_unlock(&walk->mutex);
}

/* Blocks as they were read. */
static bool check_blocks(const struct checking *checking, const struct restore_plan_file *file,
                         const struct map_run *run, uint32_t block, const uint64_t *digests,
                         struct error *err)
{
    const struct refs_pack *pack = refs_find(checking->refs, &run->frame.pack);
    struct verify_entry *entry = checking->noted[pack - checking->refs->packs];
    uint32_t at;

    if (entry == NULL || verify_blocks_check(checking->walk->blocks, entry, run, digests, &at, err))
        return true;
    if (err->code != ERROR_INTEGRITY)
        return false;
    error_context(err, "block %" PRIu32 " of file \"%s\" is not what its map says", block + at,
                  file->path);
    blame_pack(checking, entry, err);
    error_clear(err);
    return true;
}

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
        const uint32_t block = leaf->number * MAP_LEAF_BLOCKS + at;
        const uint64_t *digests = &leaf->digests[at];
        const bool ok = run->frame.pack.number == 0
                            ? check_zeros(checking, file, block, run->count, digests, err)
                            : check_frame(checking, file, &run->frame, err) &&
                                  check_blocks(checking, file, run, block, digests, err);

        if (!ok)
            return false;
        at += run->count;
    }
    return true;
}

bool verify_map_check(struct verify_walk *walk, struct manifest *manifest, const struct refs *refs,
                      struct error *err)
{
    struct restore_plan plan = RESTORE_PLAN_INIT;
    struct checking checking = {.walk = walk, .plan = &plan, .refs = refs};
    const struct map_walk_request request = {.repository = walk->repository,
                                             .plan = &plan,
                                             .refs = refs,
                                             .jobs = walk->jobs,
                                             .fn = check_leaf,
                                             .context = &checking};
    int fd;
    bool ok = restore_plan_read(&plan, manifest, err) &&
              files_temporary(walk->config->state_dir, &fd, err);

    if (ok) {
        find_noted(&checking);
        ok = map_walk(&request, fd, err);
        free(checking.noted);
    }
    restore_plan_free(&plan);
    return ok;
}
