/*
 * backup_refs.c - which packs a backup needs, and how much of each
 */
#include "job/backup_refs.h"

#include <stdlib.h>

#include "pgvigil/mem.h"
#include "pgvigil/process.h"

struct counting {
    const struct backup_files *files;
    struct map_cache_reader *reader;
    struct refs all; /* the run's own packs and those built on, sorted; live is what is counted */
    struct refs_pack *last;
    struct map_leaf leaf;
};

static bool use_pack(struct counting *counting, const struct layout_pack *pack, enum refs_kind kind,
                     uint32_t count, struct error *err)
{
    char name[LAYOUT_NAME_SIZE];

    if (counting->last == NULL || layout_compare_packs(&counting->last->pack, pack) != 0) {
        const struct refs_pack *found = refs_find(&counting->all, pack);

        counting->last = found != NULL ? counting->all.packs + (found - counting->all.packs) : NULL;
    }
    if (counting->last == NULL || counting->last->kind != kind ||
        count > counting->last->blocks - counting->last->live)
        return error_set(err, ERROR_INTEGRITY, "a map leads to \"%s\", which has no such part",
                         layout_pack(pack, name));
    counting->last->live += count;
    return true;
}

static bool count_leaf(struct counting *counting, const struct backup_file *file,
                       const struct map_root *root, uint32_t number, struct error *err)
{
    const struct map_leaf *leaf = &counting->leaf;

    if (!map_cache_reader_leaf(counting->reader, &root->leaves[number], root->key, number,
                               file->size, &counting->leaf, err))
        return false;
    for (size_t i = 0; i < leaf->runs; i++)
        if (leaf->run[i].frame.pack.number != 0 &&
            !use_pack(counting, &leaf->run[i].frame.pack, REFS_DATA, leaf->run[i].count, err))
            return false;
    return true;
}

static bool count_file(struct counting *counting, const struct backup_file *file, struct error *err)
{
    struct map_root root;
    bool ok;

    if (!map_cache_reader_root(counting->reader, &file->root,
                               map_key(file->path, counting->files->secret), file->size, &root,
                               err))
        return false;
    ok = use_pack(counting, &file->root.frame.pack, REFS_MAP, 1, err);
    for (uint32_t i = 0; ok && i < root.leaf_count; i++)
        ok = use_pack(counting, &root.leaves[i].frame.pack, REFS_MAP, 1, err);
    for (uint32_t i = 0; ok && i < root.leaf_count; i++)
        ok = count_leaf(counting, file, &root, i, err);
    map_free_root(&root);
    return ok;
}

static bool count_files(struct counting *counting, struct error *err)
{
    for (size_t i = 0; i < counting->files->count; i++) {
        const struct backup_file *file = &counting->files->files[i];

        if (file->gone || file->size == 0)
            continue;
        if (!process_check(err))
            return false;
        if (!count_file(counting, file, err))
            return err->code == ERROR_CANCELLED ? false
                                                : error_context(err, "file \"%s\"", file->path);
    }
    return true;
}

static void add_packs(struct refs *all, const struct refs *some)
{
    for (size_t i = 0; i < some->count; i++) {
        refs_add(all, &some->packs[i]);
        all->packs[all->count - 1].live = 0;
    }
}

bool backup_refs_count(const struct backup_files *files, struct map_cache *cache,
                       const struct refs *own, const struct refs *taken_over, struct refs *refs,
                       struct error *err)
{
    struct counting *counting = mem_calloc(1, sizeof *counting);
    const int64_t run = own->count > 0 ? own->packs[0].pack.run : 0;
    bool ok;

    counting->files = files;
    add_packs(&counting->all, own);
    add_packs(&counting->all, &files->base->refs);
    add_packs(&counting->all, taken_over);
    refs_sort(&counting->all);
    ok = map_cache_reader_new(cache, &counting->reader, err) && count_files(counting, err);
    *refs = (struct refs)REFS_INIT;
    for (size_t i = 0; ok && i < counting->all.count; i++)
        if (counting->all.packs[i].live > 0 || counting->all.packs[i].pack.run == run)
            refs_add(refs, &counting->all.packs[i]);
    refs_free(&counting->all);
    map_cache_reader_free(counting->reader);
    free(counting);
    return ok;
}
