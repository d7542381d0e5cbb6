/* history_memory.c - timeline history files that this host has seen */
#include "job/history_memory.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/files.h"
#include "pgvigil/history.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"

#define HISTORY_MAXIMUM (1024 * 1024)

/* The caller frees both. */
static void memory_paths(const struct config *config, uint64_t system_identifier,
                         const struct wal_name *name, char **directory, char **path)
{
    char file[WAL_NAME_SIZE];

    *directory = mem_printf("%s/history/%" PRIu64, config->state_dir, system_identifier);
    *path = files_join(*directory, wal_history_name(name->timeline, file));
}

void history_memory_keep(const struct config *config, uint64_t system_identifier,
                         const struct wal_name *name, const struct buffer *text)
{
    struct buffer known = BUFFER_INIT;
    char *directory, *path;
    struct error err;

    memory_paths(config, system_identifier, name, &directory, &path);
    bool any = files_read(path, HISTORY_MAXIMUM, &known, &err);
    bool same = any && known.length == text->length &&
                memcmp(buffer_text(&known), buffer_text(text), text->length) == 0;
    if (any && !same)
        log_warning("the repository's history of timeline %" PRIu32
                    " is not the one this host has seen before; it is replaced in \"%s\"",
                    name->timeline, path);
    if (!same && !(files_make_directories(directory, &err) &&
                   files_write(path, text->data, text->length, 0600, &err))) {
        error_context(&err, "could not remember the history of timeline %" PRIu32, name->timeline);
        log_error(LOG_WARNING, &err);
    }
    buffer_free(&known);
    free(path);
    free(directory);
}

bool history_memory_recall(const struct config *config, uint64_t system_identifier,
                           const struct wal_name *name, struct buffer *text)
{
    char *directory, *path;
    struct history history;
    struct error err;

    memory_paths(config, system_identifier, name, &directory, &path);
    bool read = files_read(path, HISTORY_MAXIMUM, text, &err);
    bool good =
        read && history_parse(name->timeline, buffer_text(text), text->length, &history, &err);
    if (good)
        history_free(&history);
    else if (read || err.code != ERROR_NOT_FOUND)
        log_error(LOG_WARNING, &err);
    free(path);
    free(directory);
    return good;
}
