/* apart.c - what pgvigil writes to, and data directories, lie apart */
#include "job/apart.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/mem.h"
#include "pgvigil/store.h"

bool apart_lies_in(const char *inner, const char *outer)
{
    const size_t length = strlen(outer);

    return strncmp(inner, outer, length) == 0 &&
           (inner[length] == '\0' || inner[length] == '/' || strcmp(outer, "/") == 0);
}

/* Of what is not there yet, the directory in which it would be made. */
static bool resolve(const char *path, char real[PATH_MAX])
{
    char *part = mem_strdup(path), *slash;
    bool found;

    while (!(found = realpath(part, real) != NULL) && (slash = strrchr(part, '/')) != NULL)
        slash[slash == part] = '\0';
    free(part);
    return found;
}

/* Is it, or would it be made, in there? */
static bool is_within(const char *place, const char *directory)
{
    char inner[PATH_MAX], outer[PATH_MAX];

    return place != NULL && realpath(directory, outer) != NULL && resolve(place, inner) &&
           apart_lies_in(inner, outer);
}

bool apart_from_data(const struct config *config, const char *data_directory, struct error *err)
{
    for (size_t i = 0; i < config->repository_count; i++) {
        const struct config_repository *repository = &config->repositories[i];

        if (!is_within(store_directory(repository->url), data_directory))
            continue;
        error_set(err, ERROR_CONFIG, "repository \"%s\" lies in data directory \"%s\"",
                  repository->name, data_directory);
        return error_hint(err, "what becomes of the one becomes of the other: move it to another "
                               "disk or machine, and its \"url\" with it");
    }
    if (!is_within(config->state_dir, data_directory))
        return true;
    error_set(err, ERROR_CONFIG, "the state directory \"%s\" lies in data directory \"%s\"",
              config->state_dir, data_directory);
    return error_hint(err, "move it elsewhere, and \"state_dir\" with it");
}

/* What a restore must not get into: a directory with all that is in it, or only what is in it. */
enum outside { OUTSIDE_ALL, OUTSIDE_CONTENTS };

static bool check_outside(const char *path, const char *directory, const char *what,
                          enum outside outside, struct error *err)
{
    char real[PATH_MAX];

    if (directory == NULL || realpath(directory, real) == NULL || !apart_lies_in(path, real) ||
        (outside == OUTSIDE_CONTENTS && strcmp(path, real) == 0))
        return true;
    error_set(err, ERROR_USAGE, "cannot restore to \"%s\": it lies in %s \"%s\"", path, what, real);
    return error_hint(err, "restore to a directory outside of it");
}

bool apart_from_restore(const struct config *config, const char *path, struct error *err)
{
    for (size_t i = 0; i < config->repository_count; i++)
        if (!check_outside(path, store_directory(config->repositories[i].url), "repository",
                           OUTSIDE_ALL, err))
            return false;
    return check_outside(path, config->state_dir, "the state directory", OUTSIDE_ALL, err) &&
           check_outside(path, config->pgdata, "data directory", OUTSIDE_CONTENTS, err);
}
