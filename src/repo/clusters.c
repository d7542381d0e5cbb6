/* clusters.c - whose objects a repository holds */
#include "pgvigil/clusters.h"

#include <string.h>

#include "pgvigil/buffer.h"

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
