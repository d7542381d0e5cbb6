/* clusters.c - whose objects a repository holds */
#include "pgvigil/clusters.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/buffer.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"

#define NAMED 10 /* in a hint */

struct clusters {
    const char *wanted;
    struct buffer names;
    size_t count;
    bool there;
};

static bool clusters_take(const char *folder, size_t length, void *context)
{
    struct clusters *clusters = context;

    clusters->there =
        strlen(clusters->wanted) == length && strncmp(clusters->wanted, folder, length) == 0;
    if (!clusters->there && clusters->count++ < NAMED)
        buffer_append_format(&clusters->names, "%s\"%.*s\"", clusters->count > 1 ? ", " : "",
                             (int)length, folder);
    return !clusters->there;
}

bool clusters_hint(struct repository *repository, struct error *err)
{
    struct clusters clusters = {.wanted = repository->cluster, .names = BUFFER_INIT};
    struct error ignored = ERROR_INIT;
    bool others = repository_walk_folders(repository, "", clusters_take, &clusters, &ignored) &&
                  !clusters.there && clusters.count > 0;

    if (others)
        error_hint(
            err,
            "is \"name\" in section [cluster] right? The repository has nothing of a cluster "
            "\"%s\", but of %s%s",
            clusters.wanted, buffer_text(&clusters.names),
            clusters.count > NAMED ? ", and others" : "");
    buffer_free(&clusters.names);
    return others;
}

bool clusters_doubt(struct repository *repository)
{
    struct error err = ERROR_INIT;

    error_set(&err, ERROR_NOT_FOUND, "nothing of this cluster is in repository \"%s\"",
              repository->name);
    if (!clusters_hint(repository, &err))
        return false;
    log_error(LOG_WARNING, &err);
    return true;
}

/* The number that a folder of the cluster is named for, 0 if it is none. */
static uint64_t parse_identifier(const char *folder, size_t length)
{
    char again[24];
    uint64_t number = 0;

    if (length == 0 || length > 20)
        return 0;
    for (size_t i = 0; i < length; i++) {
        if (folder[i] < '0' || folder[i] > '9')
            return 0;
        number = number * 10 + (uint64_t)(folder[i] - '0');
    }
    /* An overflow or a leading zero does not come back the same. */
    snprintf(again, sizeof(again), "%" PRIu64, number);
    return strlen(again) == length && memcmp(again, folder, length) == 0 ? number : 0;
}

static int compare_identifiers(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;

    return (*left > *right) - (*left < *right);
}

struct identifiers {
    uint64_t *list;
    size_t count, capacity;
};

static bool take_identifier(const char *folder, size_t length, void *context)
{
    struct identifiers *taken = context;
    const uint64_t identifier = parse_identifier(folder, length);

    if (identifier != 0) {
        taken->list = mem_grow(taken->list, taken->count, &taken->capacity, sizeof(*taken->list));
        taken->list[taken->count++] = identifier;
    }
    return true;
}

bool clusters_identifiers(struct repository *repository, uint64_t **identifiers, size_t *count,
                          struct error *err)
{
    struct identifiers taken = {.list = NULL};
    char *prefix = mem_printf("%s/", repository->cluster);
    bool ok = repository_walk_folders(repository, prefix, take_identifier, &taken, err);

    free(prefix);
    if (!ok) {
        free(taken.list);
        taken = (struct identifiers){.list = NULL};
    }
    if (taken.count > 0)
        qsort(taken.list, taken.count, sizeof(*taken.list), compare_identifiers);
    *identifiers = taken.list;
    *count = taken.count;
    return ok;
}
