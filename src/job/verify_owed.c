/* verify_owed.c - what a repository lacks only until a debt to it is paid */
#include "job/verify_owed.h"

#include <stdlib.h>
#include <string.h>

#include "pgvigil/debt.h"
#include "pgvigil/layout.h"
#include "pgvigil/mem.h"

static bool take(const char *object, bool *forget, void *context, struct error *err)
{
    struct verify_owed *owed = context;
    char file[WAL_NAME_SIZE];
    struct wal_name parsed;

    (void)err;
    *forget = false;
    if (!layout_parse_wal(object, file, &parsed) ||
        (parsed.kind != WAL_SEGMENT && parsed.kind != WAL_HISTORY))
        return true;
    owed->objects = mem_grow(owed->objects, owed->count, &owed->capacity, sizeof(*owed->objects));
    owed->objects[owed->count++] = mem_strdup(object);
    return true;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

bool verify_owed_read(struct verify_owed *owed, const struct repository *repository,
                      struct error *err)
{
    bool ok;

    /* Nobody is left who could pay: the others were given up. */
    if (repository->all->repository_count < 2)
        return true;
    ok = debt_review(repository->all, repository->name, repository->system_identifier, take, owed,
                     err);
    if (owed->count > 1)
        qsort(owed->objects, owed->count, sizeof(*owed->objects), compare);
    return ok;
}

void verify_owed_free(struct verify_owed *owed)
{
    for (size_t i = 0; i < owed->count; i++)
        free(owed->objects[i]);
    free(owed->objects);
    *owed = (struct verify_owed){.objects = NULL};
}

const char *verify_owed_after(const struct verify_owed *owed, const char *object)
{
    size_t low = 0, high = owed->count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;

        if (strcmp(owed->objects[middle], object) <= 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < owed->count ? owed->objects[low] : NULL;
}

bool verify_owed_has(const struct verify_owed *owed, const char *object)
{
    return owed->count > 0 &&
           bsearch(&object, owed->objects, owed->count, sizeof(*owed->objects), compare) != NULL;
}
