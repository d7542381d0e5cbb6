/* outage.c - which repository was found out of reach a moment ago */
#include "pgvigil/outage.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgvigil/buffer.h"
#include "pgvigil/clock.h"
#include "pgvigil/files.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"

#define RECENT (60 * CLOCK_SECOND)
#define PATIENCE (10 * CLOCK_SECOND)
#define NOTE_MAXIMUM ((size_t)4096)

static char *outage_path(const struct config *config, const char *repository)
{
    char *directory = files_join(config->state_dir, "down");
    char *path = files_join(directory, repository);

    free(directory);
    return path;
}

void outage_note(const struct config *config, const char *repository, const struct error *why)
{
    char *directory = files_join(config->state_dir, "down");
    char *path = files_join(directory, repository);
    char *text = mem_printf("%s\n%s\n", why->message, why->hint);
    struct error ignored = ERROR_INIT;

    if (!files_make_directories(directory, &ignored) ||
        !files_write(path, text, strlen(text), 0600, &ignored))
        log_debug("%s", ignored.message);
    free(text);
    free(path);
    free(directory);
}

void outage_end(const struct config *config, const char *repository)
{
    char *path = outage_path(config, repository);

    unlink(path);
    free(path);
}

/* A clock that was set back must not keep a repository out for long. */
bool outage_is_recent(const struct config *config, const char *repository)
{
    char *path = outage_path(config, repository);
    struct stat info;
    bool noted = stat(path, &info) == 0;
    int64_t age = noted ? clock_now() - (int64_t)info.st_mtim.tv_sec * CLOCK_SECOND : 0;

    free(path);
    return noted && age >= 0 && age < RECENT;
}

int64_t outage_deadline(const struct config *config, const char *repository, int64_t deadline)
{
    const int64_t soon = clock_monotonic() + PATIENCE;
    char *path = outage_path(config, repository);
    const bool noted = access(path, F_OK) == 0;

    free(path);
    if (!noted || config->repository_count < 2 || (deadline != 0 && deadline < soon))
        return deadline;
    return soon;
}

bool outage_open(const struct config *config, const struct config_repository *which,
                 struct repository **repository, struct error *err)
{
    if (!repository_open_until(config, which, outage_deadline(config, which->name, 0), repository,
                               err))
        return false;
    store_set_deadline((*repository)->store, 0);
    return true;
}

bool outage_error(const struct config *config, const char *repository, struct error *err)
{
    char *path = outage_path(config, repository);
    struct buffer text = BUFFER_INIT;
    struct error ignored = ERROR_INIT;
    const char *why, *hint;

    if (!files_read(path, NOTE_MAXIMUM, &text, &ignored))
        log_debug("%s", ignored.message);
    why = buffer_text(&text);
    hint = why + strcspn(why, "\n");
    error_set(err, ERROR_STORE, "repository \"%s\" did not answer a moment ago%s%.*s", repository,
              hint > why ? ": " : "", (int)(hint - why), why);
    hint += strspn(hint, "\n");
    error_hint(err, "%.*s", (int)strcspn(hint, "\n"), hint);
    buffer_free(&text);
    free(path);
    return false;
}
