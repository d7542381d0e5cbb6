/* verify_backup.c - what backups need, held against what is there */
#include "job/verify_backup.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "job/verify_blocks.h"
#include "job/verify_map.h"
#include "pgvigil/layout.h"
#include "pgvigil/manifest.h"
#include "pgvigil/mem.h"
#include "pgvigil/pack.h"
#include "pgvigil/process.h"
#include "pgvigil/refs.h"

/* Damage that is not in the listing is told once, here or when the object is read. */
static void blame_once(struct verify_walk *walk, enum trailer_kind kind, const char *name,
                       const unsigned char *sha256, const struct error *why)
{
    const struct verify_entry *entry = verify_walk_find(walk, name);
    struct verify_finding *finding;

    if (entry != NULL && entry->blamed)
        return;
    finding =
        verify_walk_blame(walk, entry == NULL ? VERIFY_MISSING : VERIFY_DAMAGED, kind, name, why);
    finding->known = sha256 != NULL;
    if (finding->known)
        memcpy(finding->sha256, sha256, sizeof finding->sha256);
}

/* What is said elsewhere of an object's stored bytes. */
static void expect(struct verify_entry *entry, const unsigned char *sha256)
{
    entry->listed = true;
    memcpy(entry->listed_sha256, sha256, sizeof entry->listed_sha256);
}

static bool has_part(struct verify_walk *walk, int64_t run, enum trailer_kind kind,
                     const char *name, const unsigned char *sha256)
{
    struct verify_entry *entry = verify_walk_find(walk, name);
    char text[CLOCK_COMPACT_SIZE];
    struct error why;

    if (entry != NULL) {
        expect(entry, sha256);
        return true;
    }
    error_set(&why, ERROR_INTEGRITY, "backup %s needs it", layout_run_text(run, text));
    blame_once(walk, kind, name, sha256, &why);
    return false;
}

/* Two lists of packs that both ascend become one; a pack of which they say different things is damage of
 * the list that was read later. */
static bool merge(struct refs *all, const struct refs *more, struct error *err)
{
    struct refs merged = REFS_INIT;
    size_t i = 0, j = 0;
    bool same = true;

    while (i < all->count || j < more->count) {
        const int order = i == all->count ? 1
                          : j == more->count
                              ? -1
                              : layout_compare_packs(&all->packs[i].pack, &more->packs[j].pack);

        if (order == 0)
            same = same && all->packs[i].size == more->packs[j].size &&
                   memcmp(all->packs[i].sha256, more->packs[j].sha256, DIGEST_SHA256_SIZE) == 0;
        refs_add(&merged, order <= 0 ? &all->packs[i] : &more->packs[j]);
        i += order <= 0;
        j += order >= 0;
    }
    refs_free(all);
    *all = merged;
    return same || error_set(err, ERROR_INTEGRITY,
                             "it says other sizes or digests of packs than earlier backups do");
}

/* The list of packs of one backup, if it is sound; else that is noted. */
static bool take_list(struct verify_walk *walk, const struct backup_info *info, struct refs *all,
                      struct error *err)
{
    struct refs refs = REFS_INIT;
    char name[LAYOUT_NAME_SIZE];
    bool ok;

    layout_refs(info->run, name);
    if (!has_part(walk, info->run, TRAILER_REFS, name, info->refs_sha256))
        return true;
    ok = refs_fetch(walk->repository, info->run, info->refs_sha256, &refs, err) &&
         merge(all, &refs, err);
    refs_free(&refs);
    if (ok || err->code != ERROR_INTEGRITY)
        return ok;
    blame_once(walk, TRAILER_REFS, name, info->refs_sha256, err);
    error_clear(err);
    return true;
}

static void check_pack(struct verify_walk *walk, const struct refs_pack *pack)
{
    char name[LAYOUT_NAME_SIZE];
    struct verify_entry *entry = verify_walk_find(walk, layout_pack(&pack->pack, name));
    struct error why;

    if (entry == NULL) {
        error_set(&why, ERROR_INTEGRITY, "backups need it");
        blame_once(walk, TRAILER_PACK, name, pack->sha256, &why);
        return;
    }
    expect(entry, pack->sha256);
    if (entry->size == pack->size)
        return;
    error_set(&why, ERROR_INTEGRITY, "it has %" PRIu64 " bytes, the lists of packs say %" PRIu64,
              entry->size, pack->size);
    blame_once(walk, TRAILER_PACK, name, pack->sha256, &why);
}

bool verify_backup_check_parts(struct verify_walk *walk, struct error *err)
{
    const struct catalog *catalog = walk->survey->catalog;
    struct refs all = REFS_INIT;
    char name[LAYOUT_NAME_SIZE];
    bool ok = true;

    walk->result->backups = catalog->count + catalog->damaged_count;
    for (size_t i = 0; i < catalog->damaged_count; i++)
        blame_once(walk, TRAILER_BACKUP, layout_backup(catalog->damaged[i].run, name), NULL,
                   &catalog->damaged[i].error);
    for (size_t i = 0; ok && i < catalog->count; i++) {
        const struct backup_info *info = catalog->backups[i];

        has_part(walk, info->run, TRAILER_MANIFEST, layout_manifest(info->run, name),
                 info->manifest_sha256);
        ok = process_check(err) && take_list(walk, info, &all, err);
    }
    for (size_t i = 0; ok && i < all.count; i++)
        check_pack(walk, &all.packs[i]);
    refs_free(&all);
    return ok;
}

/* The roots of all maps lie in map packs of the list. */
static bool check_row(const struct manifest_file *file, void *context, struct error *err)
{
    const struct refs *refs = context;
    const struct refs_pack *pack;
    char name[LAYOUT_NAME_SIZE];

    if (file->map.frame.pack.number == 0)
        return process_check(err);
    pack = refs_find(refs, &file->map.frame.pack);
    if (pack != NULL && pack->kind == REFS_MAP)
        return process_check(err);
    return error_set(err, ERROR_INTEGRITY,
                     "the map of file \"%s\" lies in \"%s\", which is no map pack of the backup",
                     file->path, layout_pack(&file->map.frame.pack, name));
}

/* The manifest's entry of a backup that can be looked into; else NULL. */
static struct verify_entry *find_sound(const struct verify_walk *walk, int64_t run)
{
    char name[LAYOUT_NAME_SIZE];
    const struct verify_entry *list = verify_walk_find(walk, layout_refs(run, name));
    struct verify_entry *manifest = verify_walk_find(walk, layout_manifest(run, name));

    return list == NULL || list->blamed || manifest == NULL || manifest->blamed ? NULL : manifest;
}

/* Was it not sound when it was read before? */
static bool is_suspect(const struct verify_entry *entry)
{
    return entry->kind == TRAILER_PACK &&
           (entry->suspect || (entry->remembered && entry->checked == 0));
}

/* What becomes of a backup's data packs in this run. */
struct outlook {
    bool any; /* is chosen */
    bool suspect;
    const unsigned char *secret; /* that is known from a backup that shares packs; or NULL */
};

static struct outlook look_ahead(const struct verify_walk *walk, const struct refs *refs)
{
    struct outlook outlook = {.any = false};
    char name[LAYOUT_NAME_SIZE];

    for (size_t i = 0; i < refs->count; i++) {
        const struct verify_entry *entry =
            verify_walk_find(walk, layout_pack(&refs->packs[i].pack, name));

        if (refs->packs[i].kind != REFS_DATA || entry == NULL || !entry->chosen)
            continue;
        outlook.any = true;
        outlook.suspect = outlook.suspect || is_suspect(entry);
        outlook.secret = outlook.secret != NULL ? outlook.secret : entry->secret;
    }
    return outlook;
}

/* NULL where the manifest cannot be read, which is told when its rows are. */
static bool find_secret(struct verify_walk *walk, const struct backup_info *info,
                        const unsigned char **secret, struct error *err)
{
    struct manifest *manifest;

    *secret = NULL;
    if (!manifest_fetch(walk->repository, info->run, info->manifest_sha256, walk->config->state_dir,
                        &manifest, err)) {
        const bool told = err->code == ERROR_INTEGRITY || err->code == ERROR_CONFIG ||
                          err->code == ERROR_NOT_FOUND;

        if (told)
            error_clear(err);
        return told;
    }
    *secret = verify_blocks_secret(walk->blocks, manifest_meta(manifest)->secret);
    manifest_free(manifest);
    return true;
}

static void want_blocks(const struct verify_walk *walk, const struct refs *refs,
                        const unsigned char *secret)
{
    char name[LAYOUT_NAME_SIZE];

    for (size_t i = 0; i < refs->count; i++) {
        struct verify_entry *entry =
            verify_walk_find(walk, layout_pack(&refs->packs[i].pack, name));

        if (refs->packs[i].kind == REFS_DATA && entry != NULL && entry->secret == NULL)
            entry->secret = secret;
    }
}

static bool choose_maps(struct verify_walk *walk, const struct backup_info *info,
                        struct verify_entry *manifest, bool newest, struct error *err)
{
    struct refs refs = REFS_INIT;
    bool ok = refs_fetch(walk->repository, info->run, info->refs_sha256, &refs, err);

    if (!ok && (err->code == ERROR_INTEGRITY || err->code == ERROR_NOT_FOUND)) {
        error_clear(err); /* told when it is read */
        return true;
    }
    if (ok) {
        struct outlook outlook = look_ahead(walk, &refs);

        manifest->mapped = walk->request->extent == VERIFY_ALL || outlook.suspect ||
                           (newest && (manifest->chosen || outlook.any));
        if (manifest->mapped && outlook.any && outlook.secret == NULL)
            ok = find_secret(walk, info, &outlook.secret, err);
        if (manifest->mapped)
            want_blocks(walk, &refs, outlook.secret);
    }
    refs_free(&refs);
    return ok;
}

bool verify_backup_choose_maps(struct verify_walk *walk, struct error *err)
{
    const struct catalog *catalog = walk->survey->catalog;
    bool each = walk->request->extent == VERIFY_ALL, newest = true;
    bool ok = verify_blocks_new(walk->config->state_dir, &walk->blocks, err);

    for (size_t i = 0; i < walk->count; i++)
        each = each || is_suspect(&walk->entries[i]);
    for (size_t i = catalog->count; ok && (each || newest) && i-- > 0;) {
        struct verify_entry *manifest = find_sound(walk, catalog->backups[i]->run);

        if (manifest == NULL)
            continue;
        ok = process_check(err) && choose_maps(walk, catalog->backups[i], manifest, newest, err);
        newest = false;
    }
    return ok;
}

enum extent { ROWS, ROWS_AND_MAPS };

static bool check_manifest(struct verify_walk *walk, const struct backup_info *info,
                           enum extent extent, struct error *err)
{
    struct manifest *manifest = NULL;
    struct refs refs = REFS_INIT;
    bool ok = refs_fetch(walk->repository, info->run, info->refs_sha256, &refs, err) &&
              manifest_fetch(walk->repository, info->run, info->manifest_sha256,
                             walk->config->state_dir, &manifest, err) &&
              manifest_each(manifest, MANIFEST_BY_PATH, check_row, &refs, err) &&
              (extent == ROWS || verify_map_check(walk, manifest, &refs, err));

    manifest_free(manifest);
    refs_free(&refs);
    return ok;
}

/* Is it damage of a map pack, which was not due yet? */
static const struct refs_pack *find_damaged(struct verify_walk *walk, const struct refs *refs,
                                            const char *message)
{
    const struct refs_pack *found = NULL;
    struct buffer bytes = BUFFER_INIT;
    struct error ignored = ERROR_INIT;
    char name[LAYOUT_NAME_SIZE];

    for (size_t i = 0; i < refs->count && found == NULL; i++)
        if (refs->packs[i].kind == REFS_MAP &&
            strstr(message, layout_pack(&refs->packs[i].pack, name)) != NULL &&
            !pack_fetch(walk->repository, &refs->packs[i], &bytes, &ignored) &&
            ignored.code == ERROR_INTEGRITY)
            found = &refs->packs[i];
    buffer_free(&bytes);
    return found;
}

/* What is wrong with rows and maps is told of the manifest, that leads to them, unless a pack is damaged. */
static void blame_maps(struct verify_walk *walk, const struct backup_info *info,
                       const struct error *why)
{
    const struct refs_pack *pack = NULL;
    struct refs refs = REFS_INIT;
    struct error ignored = ERROR_INIT;
    char name[LAYOUT_NAME_SIZE];

    if (refs_fetch(walk->repository, info->run, info->refs_sha256, &refs, &ignored))
        pack = find_damaged(walk, &refs, why->message);
    if (pack != NULL)
        blame_once(walk, TRAILER_PACK, layout_pack(&pack->pack, name), pack->sha256, why);
    else
        blame_once(walk, TRAILER_MANIFEST, layout_manifest(info->run, name), info->manifest_sha256,
                   why);
    refs_free(&refs);
}

bool verify_backup_check_maps(struct verify_walk *walk, struct error *err)
{
    const struct catalog *catalog = walk->survey->catalog;

    for (size_t i = catalog->count; i-- > 0;) {
        const struct backup_info *info = catalog->backups[i];
        const struct verify_entry *entry = find_sound(walk, info->run);

        if (entry == NULL || (!entry->chosen && !entry->mapped))
            continue;
        if (check_manifest(walk, info, entry->mapped ? ROWS_AND_MAPS : ROWS, err)) {
            walk->result->backups_mapped++;
            continue;
        }
        /* A pack or list that is gone has a finding of its own. */
        if (err->code != ERROR_INTEGRITY && err->code != ERROR_CONFIG &&
            err->code != ERROR_NOT_FOUND)
            return false;
        if (err->code == ERROR_INTEGRITY)
            blame_maps(walk, info, err);
        error_clear(err);
    }
    return true;
}

static bool any_pack(const struct verify_cluster *result)
{
    for (size_t i = 0; i < result->finding_count; i++)
        if (result->findings[i].kind == TRAILER_PACK && verify_is_open(&result->findings[i]))
            return true;
    return false;
}

/* The backups that need a pack which is damaged or missing. */
static bool count_packs(struct verify_walk *walk, const struct backup_info *info, struct error *err)
{
    struct verify_cluster *result = walk->result;
    struct refs refs = REFS_INIT;
    struct layout_pack pack;

    if (!refs_fetch(walk->repository, info->run, info->refs_sha256, &refs, err)) {
        if (err->code != ERROR_INTEGRITY)
            return false;
        error_clear(err); /* it has a finding of its own */
        return true;
    }
    for (size_t i = 0; i < result->finding_count; i++) {
        struct verify_finding *finding = &result->findings[i];

        if (finding->kind == TRAILER_PACK && verify_is_open(finding) &&
            layout_parse_pack(finding->object, &pack) && refs_find(&refs, &pack) != NULL)
            verify_walk_cost(finding, info->run);
    }
    refs_free(&refs);
    return true;
}

static void count_own(struct verify_finding *finding, int64_t run)
{
    char name[LAYOUT_NAME_SIZE];

    if (strcmp(finding->object, layout_backup(run, name)) == 0 ||
        strcmp(finding->object, layout_refs(run, name)) == 0 ||
        strcmp(finding->object, layout_manifest(run, name)) == 0)
        verify_walk_cost(finding, run);
}

bool verify_backup_count_costs(struct verify_walk *walk, struct error *err)
{
    const struct catalog *catalog = walk->survey->catalog;
    struct verify_cluster *result = walk->result;
    const bool packs = any_pack(result);

    for (size_t i = 0; i < result->finding_count; i++) {
        if (!verify_is_open(&result->findings[i]))
            continue;
        for (size_t j = 0; j < catalog->count; j++)
            count_own(&result->findings[i], catalog->backups[j]->run);
        for (size_t j = 0; j < catalog->damaged_count; j++)
            count_own(&result->findings[i], catalog->damaged[j].run);
    }
    for (size_t i = 0; packs && i < catalog->count; i++)
        if (!count_packs(walk, catalog->backups[i], err))
            return false;
    return true;
}
