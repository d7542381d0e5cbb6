/* absence.c - is it certain that a WAL file does not exist? */
#include "job/absence.h"

#include <inttypes.h>
#include <stdlib.h>

#include "pgvigil/clusters.h"
#include "pgvigil/layout.h"
#include "pgvigil/wal_archive.h"

static uint64_t absence_segment_end(const struct absence *absence)
{
    uint32_t size = absence->segment_size;

    return (wal_segment_number(&absence->name, size) + 1) * size;
}

static bool absence_gap(const struct absence *absence, const struct repository *repository,
                        uint32_t timeline, struct error *err)
{
    error_set(err, ERROR_INTEGRITY,
              "WAL segment \"%s\" is missing in repository \"%s\", although later WAL of timeline "
              "%" PRIu32 " is there",
              absence->file, repository->name, timeline);
    return error_hint(err, "recovery cannot go on past it: look for the segment in pg_wal of the "
                           "old primary and push it, or restore to a target before it");
}

/* Did a timeline leave the wanted one behind the end of the wanted segment? Then that segment
 * belongs to its history and must have been there. */
static bool absence_check_descendant(const struct absence *absence, struct repository *repository,
                                     uint32_t timeline, struct error *err)
{
    struct history history;
    bool known;

    if (!wal_archive_history(repository, timeline, &history, &known, err))
        return false;
    uint64_t left = history_switch_lsn(&history, absence->name.timeline);
    history_free(&history);
    return left < absence_segment_end(absence) || absence_gap(absence, repository, timeline, err);
}

static bool absence_check_descendants(const struct absence *absence, struct repository *repository,
                                      struct error *err)
{
    uint32_t *timelines;
    size_t count;
    bool ok = true;

    if (!wal_archive_timelines(repository, &timelines, &count, err))
        return false;
    for (size_t i = 0; ok && i < count; i++)
        if (timelines[i] > absence->name.timeline)
            ok = absence_check_descendant(absence, repository, timelines[i], err);
    free(timelines);
    return ok;
}

/* Does the wanted timeline begin only behind the end of the wanted segment? Any repository that has
 * its history can tell. */
static bool absence_is_before_timeline(const struct absence *absence, bool *before,
                                       struct error *err)
{
    const struct history_entry *parent;
    struct history history;
    bool known;

    *before = false;
    for (size_t i = 0; i < absence->count && !*before; i++) {
        if (!wal_archive_history(absence->repositories[i], absence->name.timeline, &history, &known,
                                 err))
            return false;
        parent = history_parent(&history);
        *before = parent != NULL && parent->switch_lsn >= absence_segment_end(absence);
        history_free(&history);
    }
    return true;
}

static bool absence_of_segment(const struct absence *absence, struct repository *repository,
                               struct error *err)
{
    bool has_later;

    if (!wal_archive_has_later(repository, absence->name.timeline, absence->file, &has_later, err))
        return false;
    if (has_later)
        return absence_gap(absence, repository, absence->name.timeline, err);
    return absence_check_descendants(absence, repository, err);
}

static bool absence_of_history(const struct absence *absence, struct repository *repository,
                               struct error *err)
{
    bool any;

    if (!wal_archive_has_later(repository, absence->name.timeline, NULL, &any, err))
        return false;
    return !any || error_set(err, ERROR_INTEGRITY,
                             "\"%s\" is missing in repository \"%s\", although WAL of timeline "
                             "%" PRIu32 " is there",
                             absence->file, repository->name, absence->name.timeline);
}

/* Recovery does not ask for other files. */
static bool is_asked_for(const struct absence *absence)
{
    return absence->name.kind == WAL_SEGMENT || absence->name.kind == WAL_HISTORY;
}

/* Is it certain by what this repository has? */
static bool absence_prove_by(const struct absence *absence, struct repository *repository,
                             struct error *err)
{
    if (!is_asked_for(absence))
        return true;
    return absence->name.kind == WAL_SEGMENT ? absence_of_segment(absence, repository, err)
                                             : absence_of_history(absence, repository, err);
}

/* Places where this cluster has never archived anything are no places to learn from: the cluster's name
 * may be mistyped. One of several may have been made a moment ago. */
static bool absence_check_any(const struct absence *absence, struct error *err)
{
    struct repository *first = absence->repositories[0];
    char name[STORE_NAME_MAXIMUM + 1];
    bool found = false;

    for (size_t i = 0; i < absence->count && !found; i++)
        if (!repository_first(absence->repositories[i], LAYOUT_WAL_PREFIX, NULL, name, &found, err))
            return false;
    if (found)
        return true;
    error_set(err, ERROR_STORE,
              "repository \"%s\" has no WAL at all of cluster \"%s\" with system identifier "
              "%" PRIu64,
              first->name, first->cluster, first->system_identifier);
    error_hint(err,
               "is this the right repository, and is \"name\" in section [cluster] the one that "
               "the WAL was archived under?");
    clusters_hint(first, err);
    return false;
}

bool absence_prove(const struct absence *absence, struct error *err)
{
    bool certain = false, ok = true;

    if (absence->name.kind == WAL_SEGMENT && !absence_is_before_timeline(absence, &certain, err))
        return false;
    for (size_t i = 0; ok && !certain && i < absence->count; i++)
        ok = absence_prove_by(absence, absence->repositories[i], err);
    return ok && (certain || !is_asked_for(absence) || absence_check_any(absence, err));
}
