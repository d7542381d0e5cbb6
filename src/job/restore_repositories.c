/* restore_repositories.c - which repositories a restore reads from */
#include "job/restore_repositories.h"

#include <string.h>

#include "pgvigil/buffer.h"
#include "pgvigil/clock.h"
#include "pgvigil/log.h"

static bool is_left_out(const struct restore_request *request, const char *name)
{
    for (size_t i = 0; request->without != NULL && request->without[i] != NULL; i++)
        if (strcmp(request->without[i], name) == 0)
            return true;
    return false;
}

static bool hint_repositories(const struct config *config, struct error *err)
{
    struct buffer names = BUFFER_INIT;

    for (size_t i = 0; i < config->repository_count; i++)
        buffer_append_format(&names, "%s%s", i ? ", " : "", config->repositories[i].name);
    error_hint(err, "the configuration has: %s", buffer_text(&names));
    buffer_free(&names);
    return false;
}

static const struct config_repository *find_repository(const struct config *config,
                                                       const char *name, struct error *err)
{
    for (size_t i = 0; i < config->repository_count; i++)
        if (strcmp(config->repositories[i].name, name) == 0)
            return &config->repositories[i];
    error_set(err, ERROR_USAGE, "there is no repository \"%s\" in \"%s\"", name, config->path);
    hint_repositories(config, err);
    return NULL;
}

/* archive-get asks all of them, by the rule that absence is certain only where fewer are silent than have to
 * have a file (fetch.c); what has to be mended is never passed over. */
struct silent {
    int count;
    struct buffer names; /* as options, without those that are left out already */
};

static void warn_of_silent(const struct config *config, const char *name, struct silent *silent,
                           struct error *why)
{
    const bool passes = why->code != ERROR_INTEGRITY && why->code != ERROR_CONFIG;

    silent->count++;
    buffer_append_format(&silent->names, " --without %s", name);
    if (!passes || silent->count >= config->archive.require)
        error_hint_also(why,
                        "recovery asks it, too, and stops at its end, if not before, as long as it"
                        " cannot be asked:%s restores without",
                        buffer_text(&silent->names));
    log_error(LOG_WARNING, why);
}

/* The others may help out where something is missing or damaged; one that does not answer is no
 * reason to wait. */
static void open_siblings(const struct config *config, const struct restore_request *request,
                          const struct config_repository *chosen, struct repository *first)
{
    struct repository **last = &first->sibling;
    struct silent silent = {.names = BUFFER_INIT};

    for (size_t i = 0; i < config->repository_count; i++)
        silent.count += is_left_out(request, config->repositories[i].name);
    for (size_t i = 0; i < config->repository_count; i++) {
        const struct config_repository *one = &config->repositories[i];
        struct error why = ERROR_INIT;

        if (one == chosen || is_left_out(request, one->name))
            continue;
        if (!repository_open_until(config, one, clock_monotonic() + RESTORE_REPOSITORIES_PATIENCE,
                                   last, &why)) {
            warn_of_silent(config, one->name, &silent, &why);
            continue;
        }
        store_set_deadline((*last)->store, 0);
        last = &(*last)->sibling;
    }
    buffer_free(&silent.names);
}

bool restore_repositories_open(const struct config *config, const struct restore_request *request,
                               struct repository **first, struct error *err)
{
    const struct config_repository *which = NULL;

    for (size_t i = 0; request->without != NULL && request->without[i] != NULL; i++)
        if (find_repository(config, request->without[i], err) == NULL)
            return false;
    if (request->repository != NULL) {
        which = find_repository(config, request->repository, err);
        if (which == NULL)
            return false;
    }
    for (size_t i = 0; which == NULL && i < config->repository_count; i++)
        if (!is_left_out(request, config->repositories[i].name))
            which = &config->repositories[i];
    if (which == NULL || is_left_out(request, which->name)) {
        error_set(err, ERROR_USAGE, "no repository is left to restore from");
        return hint_repositories(config, err);
    }
    if (!repository_open(config, which, first, err)) {
        if (request->repository == NULL && config->repository_count > 1 && err->detail[0] == '\0')
            error_detail(err, "to do without repository \"%s\", say --without %s", which->name,
                         which->name);
        return false;
    }
    if (request->repository == NULL)
        open_siblings(config, request, which, *first);
    return true;
}

void restore_repositories_put_first(struct repository **list, struct repository *one)
{
    struct repository **at = list;

    while (*at != one)
        at = &(*at)->sibling;
    *at = one->sibling;
    one->sibling = *list;
    *list = one;
}
