/*
 * restore_instead.c - which backup would do in the place of one that is damaged
 */
#include "job/restore_instead.h"

#include <stdlib.h>
#include <string.h>

#include "pgvigil/catalog.h"
#include "pgvigil/clock.h"
#include "pgvigil/known_damage.h"
#include "pgvigil/layout.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/object.h"
#include "pgvigil/process.h"

/* A message about a pack names it. */
static const struct refs_pack *named(const struct refs *refs, const struct error *why)
{
    char name[LAYOUT_NAME_SIZE];

    for (size_t i = 0; i < refs->count; i++)
        if (strstr(why->message, layout_pack(&refs->packs[i].pack, name)) != NULL)
            return &refs->packs[i];
    return NULL;
}

/* Without a pack known to be the damaged one it may be any of them. */
static bool does_without(const struct refs *other, const struct refs *refs,
                         const struct refs_pack *damaged)
{
    if (damaged != NULL)
        return refs_find(other, &damaged->pack) == NULL;
    for (size_t i = 0; i < refs->count; i++)
        if (refs_find(other, &refs->packs[i].pack) != NULL)
            return false;
    return true;
}

static bool has_manifest(struct repository *repository, const struct backup_info *backup)
{
    char name[LAYOUT_NAME_SIZE];
    struct error ignored = ERROR_INIT;
    struct trailer trailer;

    return object_trailer(repository, layout_manifest(backup->run, name), TRAILER_MANIFEST,
                          &trailer, &ignored) &&
           memcmp(trailer.stored_sha256, backup->manifest_sha256, DIGEST_SHA256_SIZE) == 0;
}

static bool has_packs(struct repository *repository, const struct refs *refs)
{
    bool *lacking = mem_calloc(refs->count, sizeof *lacking);
    struct error ignored = ERROR_INIT;
    size_t count;
    const bool has = refs_find_lacking(repository, refs, lacking, &count, &ignored) && count == 0;

    free(lacking);
    return has;
}

static bool is_known_damaged(const struct repository *repository, const struct backup_info *backup)
{
    struct known_damage known;
    bool is;

    known_damage_read(repository, &known);
    is = known_damage_of(&known, backup->run) > 0;
    known_damage_free(&known);
    return is;
}

/* One of the repositories has all of it. */
static bool is_there(struct repository *repository, const struct backup_info *backup,
                     const struct refs *refs)
{
    for (; repository != NULL; repository = repository->sibling)
        if (!is_known_damaged(repository, backup) && has_manifest(repository, backup) &&
            has_packs(repository, refs))
            return true;
    return false;
}

static bool is_sound(const struct restore_instead *instead, const struct refs_pack *damaged,
                     const struct backup_info *backup)
{
    struct error ignored = ERROR_INIT;
    struct refs refs;
    bool sound;

    if (!refs_fetch(instead->repository, backup->run, backup->refs_sha256, &refs, &ignored))
        return false;
    sound =
        does_without(&refs, instead->refs, damaged) && is_there(instead->repository, backup, &refs);
    refs_free(&refs);
    return sound;
}

static bool reaches_target(const struct restore_instead *instead, const struct backup_info *backup)
{
    struct restore_request request = *instead->request;
    struct restore_target_choice choice = {.backup = NULL};
    struct error ignored = ERROR_INIT;
    bool reaches;

    request.backup = backup->run;
    reaches =
        restore_target_choose(instead->repository, &request, instead->jobs, &choice, &ignored) &&
        choice.timeline == instead->choice->timeline;
    restore_target_free(&choice);
    return reaches;
}

static const struct backup_info *newest_before(const struct catalog *catalog, uint64_t lsn)
{
    const struct backup_info *newest = NULL;

    for (size_t i = 0; i < catalog->count; i++) {
        const struct backup_info *backup = catalog->backups[i];

        if (backup->stop_lsn < lsn && (newest == NULL || backup->stop_lsn > newest->stop_lsn))
            newest = backup;
    }
    return newest;
}

/* Its run, or 0. */
static int64_t find(const struct restore_instead *instead, const struct error *why)
{
    const struct refs_pack *damaged = named(instead->refs, why);
    const struct backup_info *backup = instead->choice->backup;
    struct error ignored = ERROR_INIT;
    struct catalog *catalog;
    int64_t run = 0;

    log_info("looking for another backup that does without what is damaged");
    if (!catalog_read_all(instead->repository, &catalog, &ignored))
        return 0;
    while (run == 0 && process_check(&ignored) &&
           (backup = newest_before(catalog, backup->stop_lsn)) != NULL)
        if (is_sound(instead, damaged, backup) && reaches_target(instead, backup))
            run = backup->run;
    catalog_free(catalog);
    return run;
}

void restore_instead_hint(const struct restore_instead *instead, struct error *err)
{
    const struct restore_request *request = instead->request;
    const char *target = request->target == RESTORE_IMMEDIATE
                             ? "ends earlier"
                             : "gets to the same target with more WAL to replay";
    const char *again = !instead->begun ? ""
                        : request->mode == RESTORE_DELTA
                            ? ", which goes on from what is there"
                            : ", which removes what it restored so far";
    const int64_t other = find(instead, err);
    char run[CLOCK_COMPACT_SIZE];

    layout_run_text(other, run);
    if (other != 0)
        error_hint(err,
                   "backup %s does without it, and %s: run the restore again with --backup %s%s",
                   run, target, run, again);
    else
        error_hint(err, "no older backup is known to do without it; `%s list` shows what there is",
                   process_command());
}
