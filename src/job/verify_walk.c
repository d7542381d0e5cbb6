/* verify_walk.c - what the parts of a verification share */
#include "job/verify_walk.h"

#include <stdlib.h>
#include <string.h>

#include "pgvigil/log.h"
#include "pgvigil/mem.h"

static int compare_names(const void *name, const void *entry)
{
    return strcmp(name, ((const struct verify_entry *)entry)->name);
}

struct verify_entry *verify_walk_find(const struct verify_walk *walk, const char *name)
{
    return walk->count == 0
               ? NULL
               : bsearch(name, walk->entries, walk->count, sizeof *walk->entries, compare_names);
}

void verify_walk_cost(struct verify_finding *finding, int64_t run)
{
    for (size_t i = 0; i < finding->backup_count; i++)
        if (finding->backups[i] == run)
            return;
    finding->backups = mem_grow(finding->backups, finding->backup_count, &finding->backup_capacity,
                                sizeof *finding->backups);
    finding->backups[finding->backup_count++] = run;
}

void verify_walk_remember(struct verify_walk *walk, const struct verify_entry *entry)
{
    const struct repository *repository = walk->repository;
    struct verify_memory_row row = {
        .object = entry->name, .size = entry->size, .checked = entry->checked};
    struct error err = ERROR_INIT;

    memcpy(row.sha256, entry->sha256, sizeof row.sha256);
    if (walk->memory == NULL ||
        verify_memory_note(walk->memory, repository->id, repository->prefix, &row, &err))
        return;
    error_context(&err, "what is verified will have to be read again");
    log_error(LOG_WARNING, &err);
    walk->memory = NULL;
}

void verify_walk_suspect(struct verify_walk *walk, struct verify_entry *entry)
{
    entry->checked = 0;
    if (entry->remembered)
        verify_walk_remember(walk, entry);
}

struct verify_finding *verify_walk_blame(struct verify_walk *walk, enum verify_fault fault,
                                         enum trailer_kind kind, const char *object,
                                         const struct error *why)
{
    struct verify_cluster *result = walk->result;
    struct verify_entry *entry = verify_walk_find(walk, object);

    if (entry != NULL && fault == VERIFY_DAMAGED)
        verify_walk_suspect(walk, entry);
    if (entry != NULL)
        entry->blamed = true;
    result->findings = mem_grow(result->findings, result->finding_count, &result->finding_capacity,
                                sizeof *result->findings);
    result->findings[result->finding_count++] =
        (struct verify_finding){.fault = fault,
                                .kind = kind,
                                .object = mem_strdup(object),
                                .count = 1,
                                .why = mem_strdup(why->message)};
    return &result->findings[result->finding_count - 1];
}

void verify_walk_free_finding(struct verify_finding *finding)
{
    free(finding->object);
    free(finding->last);
    free(finding->why);
    free(finding->source);
    free(finding->repair_failure);
    free(finding->backups);
    free(finding->lost);
}
