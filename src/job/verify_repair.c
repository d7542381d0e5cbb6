/* verify_repair.c - bringing back what is damaged or missing */
#include "job/verify_repair.h"

#include <stdlib.h>
#include <string.h>

#include "job/verify_object.h"
#include "job/verify_wal.h"
#include "pgvigil/layout.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/object_copy.h"
#include "pgvigil/process.h"
#include "pgvigil/run.h"
#include "pgvigil/runs.h"
#include "pgvigil/wal_agreement.h"

#define SEGMENTS_TRIED 65536 /* of one stretch in one run */

struct repairing {
    struct verify_walk *walk;
    struct repository *siblings;
    struct verify_reader *reader;
};

/* The sibling's object is wrong, too: its own verification is to see to that, if it is still to come. */
static void doubt(struct verify_walk *walk, const struct repository *sibling, const char *object,
                  const struct error *why)
{
    struct error err = ERROR_INIT;

    walk->doubts =
        mem_grow(walk->doubts, walk->doubt_count, &walk->doubt_capacity, sizeof *walk->doubts);
    walk->doubts[walk->doubt_count++] = (struct verify_doubt){
        .config = sibling->config, .object = mem_strdup(object), .why = mem_strdup(why->message)};
    if (walk->memory != NULL &&
        !verify_memory_doubt(walk->memory, sibling->id, sibling->prefix, object, &err))
        log_error(LOG_WARNING, &err);
}

/* Is the sibling's object the one that belongs here? `wanted` is what the lists of packs, or this host's
 * memory, say of it. */
static bool prove_copy(const struct repairing *repairing, struct repository *sibling,
                       const struct verify_entry *wanted, struct error *err)
{
    struct verify_entry entry = *wanted;
    struct error why = ERROR_INIT;

    if (verify_object_read(sibling, &entry, repairing->reader, err))
        return true;
    if (err->code != ERROR_INTEGRITY)
        return false;
    entry = *wanted;
    entry.remembered = false; /* who differs from what was here may be right in its own place */
    if (!verify_object_read(sibling, &entry, repairing->reader, &why) &&
        why.code == ERROR_INTEGRITY)
        doubt(repairing->walk, sibling, wanted->name, &why);
    return false;
}

/* Removes the object if it is damaged; what another repair has put right meanwhile stays. So does what only differs
 * from what this host remembers: once WAL was moved away, a server may have archived other WAL under its name. */
static bool clear_place(const struct repairing *repairing, const struct verify_entry *wanted,
                        bool *sound, struct error *err)
{
    struct verify_walk *walk = repairing->walk;
    struct verify_entry entry = *wanted;
    char *full;
    bool ok;

    entry.remembered = false;
    *sound = verify_object_read(walk->repository, &entry, repairing->reader, err);
    if (*sound)
        return true;
    if (err->code == ERROR_NOT_FOUND) {
        error_clear(err);
        return true;
    }
    if (err->code != ERROR_INTEGRITY)
        return false;
    error_clear(err);
    full = repository_object_name(walk->repository, wanted->name);
    ok = store_remove(walk->repository->store, full, err);
    free(full);
    if (!ok) {
        error_context(err, "could not remove the damaged object");
        error_detail(err, "what is damaged has to make room for its copy: that needs the right to "
                          "delete objects (s3:DeleteObject)");
    }
    return ok;
}

/* One object from one sibling; true when it is back. */
static bool bring_back(const struct repairing *repairing, struct repository *sibling,
                       struct verify_entry *wanted, struct error *err)
{
    struct verify_walk *walk = repairing->walk;
    bool sound;

    if (!prove_copy(repairing, sibling, wanted, err) ||
        !clear_place(repairing, wanted, &sound, err))
        return false;
    if (!sound && !object_copy(sibling, walk->repository, wanted->name, err))
        return false;
    return verify_object_read(walk->repository, wanted, repairing->reader, err);
}

/* May another sibling do better? */
static bool is_own_failure(const struct error *err)
{
    return err->code == ERROR_INTEGRITY || err->code == ERROR_NOT_FOUND || err->code == ERROR_STORE;
}

/* Segments of another server would fit by their names alone: what both have before and behind them must be the
 * same, and their timeline's history. */
static bool check_neighbours(const struct repairing *repairing, struct repository *sibling,
                             const struct verify_finding *finding, struct error *err)
{
    const struct verify_walk *walk = repairing->walk;
    const uint32_t size = walk->survey->wal.segment_size;
    char before[WAL_NAME_SIZE], behind[WAL_NAME_SIZE], history[WAL_NAME_SIZE];
    uint32_t timeline;
    uint64_t first;

    if (size == 0 || !verify_wal_segment(walk, finding, &timeline, &first))
        return true;
    wal_segment_name(timeline, first > 0 ? first - 1 : 0, size, before);
    wal_segment_name(timeline, first + finding->count, size, behind);
    return (first == 0 || wal_agreement_check_file(walk->repository, sibling, before, err)) &&
           wal_agreement_check_file(walk->repository, sibling, behind, err) &&
           wal_agreement_check_file(walk->repository, sibling, wal_history_name(timeline, history),
                                    err);
}

/* True when it is back; else the reason is that of the first sibling that has such an object. */
static bool try_siblings(const struct repairing *repairing, struct verify_finding *finding,
                         struct verify_entry *wanted, struct error *err)
{
    struct error first = ERROR_INIT;

    for (struct repository *one = repairing->siblings; one != NULL; one = one->sibling) {
        error_clear(err);
        if (check_neighbours(repairing, one, finding, err) &&
            bring_back(repairing, one, wanted, err)) {
            if (finding->source == NULL)
                finding->source = mem_strdup(one->name);
            return true;
        }
        if (!is_own_failure(err))
            return false;
        if (first.code == ERROR_NONE ||
            (first.code == ERROR_NOT_FOUND && err->code != ERROR_NOT_FOUND))
            first = *err;
    }
    *err = first;
    return false;
}

/* An entry for an object that may be in no listing. */
static struct verify_entry wanted_entry(const struct repairing *repairing,
                                        const struct verify_finding *finding, char *name)
{
    const struct verify_entry *listed = verify_walk_find(repairing->walk, name);
    struct verify_entry wanted = {.name = name, .kind = finding->kind, .listed = finding->known};

    memcpy(wanted.listed_sha256, finding->sha256, sizeof wanted.listed_sha256);
    return listed != NULL ? *listed : wanted;
}

/* A damaged backup.json that has gone since it was read was removed by an expire: it must not come back. */
static bool was_removed(const struct repairing *repairing, const struct verify_finding *finding,
                        bool *removed, struct error *err)
{
    const struct repository *repository = repairing->walk->repository;
    struct store_info info;
    char *full;

    *removed = false;
    if (finding->kind != TRAILER_BACKUP)
        return true;
    full = repository_object_name(repository, finding->object);
    *removed = !store_stat(repository->store, full, &info, err);
    free(full);
    if (*removed && err->code != ERROR_NOT_FOUND)
        return false;
    error_clear(err);
    return true;
}

/* Of several segments the first. */
static void note_failure(struct verify_finding *finding, const struct error *err)
{
    if (finding->repair_failure != NULL)
        return;
    if (err->code == ERROR_NOT_FOUND)
        finding->repair_failure = mem_strdup("no other repository has it");
    else
        finding->repair_failure =
            mem_printf("%s%s%s", err->message, err->detail[0] != '\0' ? "; " : "", err->detail);
}

static bool repair_object(const struct repairing *repairing, struct verify_finding *finding,
                          char *name, struct error *err)
{
    struct verify_walk *walk = repairing->walk;
    struct verify_entry wanted = wanted_entry(repairing, finding, name);
    bool removed;

    if (finding->inherent) {
        finding->repair_failure = mem_strdup("its copies are the same");
        return true;
    }
    if (!was_removed(repairing, finding, &removed, err))
        return false;
    if (removed) {
        finding->repaired++; /* nothing is wrong any more */
        return true;
    }

    if (!try_siblings(repairing, finding, &wanted, err)) {
        note_failure(finding, err);
        error_clear(err);
        return true;
    }
    finding->repaired++;
    verify_walk_remember(walk, &wanted);
    return true;
}

/* Missing segments one by one. */
static bool repair_stretch(const struct repairing *repairing, struct verify_finding *finding,
                           struct error *err)
{
    struct verify_walk *walk = repairing->walk;
    const uint32_t size = walk->survey->wal.segment_size;
    uint32_t timeline;
    uint64_t first;

    if (size == 0 || !verify_wal_segment(walk, finding, &timeline, &first))
        return true;
    for (uint64_t i = 0; i < finding->count && i < SEGMENTS_TRIED; i++) {
        char file[WAL_NAME_SIZE], object[LAYOUT_NAME_SIZE];

        layout_wal_segment(wal_segment_name(timeline, first + i, size, file), object);
        if (!process_check(err) || !repair_object(repairing, finding, object, err))
            return false;
    }
    return true;
}

/* A backup.json is what makes a backup, so that it comes back when all else of it has. */
static bool repair_all(const struct repairing *repairing, bool records, struct error *err)
{
    struct verify_cluster *result = repairing->walk->result;
    bool ok = true;

    for (size_t i = 0; ok && i < result->finding_count; i++) {
        struct verify_finding *finding = &result->findings[i];

        if (!verify_is_open(finding) || (finding->kind == TRAILER_BACKUP) != records)
            continue;
        ok = process_check(err) &&
             (finding->count > 1 ? repair_stretch(repairing, finding, err)
                                 : repair_object(repairing, finding, finding->object, err));
    }
    return ok;
}

static bool any_open(const struct verify_cluster *result)
{
    for (size_t i = 0; i < result->finding_count; i++)
        if (verify_is_open(&result->findings[i]))
            return true;
    return false;
}

bool verify_repair(struct verify_walk *walk, struct repository *siblings, struct error *err)
{
    struct repairing repairing = {.walk = walk, .siblings = siblings};
    struct run *run;
    bool ok, over;

    if (!any_open(walk->result) || siblings == NULL)
        return true;
    /* So that whoever looks sees why an object went away and came back; an expire must not take it for
     * gone in between. */
    if (!run_begin(walk->repository, "verify", 0, &run, err))
        return false;
    repairing.reader = verify_object_reader();
    ok = runs_await_expire(walk->repository, run, &over, err) &&
         (over || runs_refuse_expire(walk->repository, err)) &&
         repair_all(&repairing, false, err) && repair_all(&repairing, true, err);
    verify_object_free_reader(repairing.reader);
    run_end(run);
    return ok;
}
