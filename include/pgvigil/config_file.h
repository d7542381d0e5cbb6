/*
 * config_file.h - the syntax of a configuration file
 *
 * INI: "[section]" or "[section NAME]", "key = value", comments from '#' or ';' at the start of a
 * line, blank lines. A value runs to the end of its line, without the blanks around it; it may be
 * put in double quotes to keep them. No length limit but the file's (1 MiB), no continuation lines,
 * no includes. NUL bytes and invalid UTF-8 are errors. Knows nothing of which keys exist: that is
 * config.h.
 */
#ifndef PGVIGIL_CONFIG_FILE_H
#define PGVIGIL_CONFIG_FILE_H

#include <stddef.h>

#include "pgvigil/error.h"

struct config_entry {
    const char *section; /* "repository" */
    const char *name;    /* "east", or NULL for a section without a name */
    const char *key;     /* NULL: the section's own line, reported before its keys */
    const char *value;   /* NULL with a NULL key */
    const char *path;
    int line; /* from 1 */
};

/* Called for each entry in order; returns false with err set to stop. */
typedef bool (*config_entry_fn)(const struct config_entry *entry, void *context, struct error *err);

/*
 * `text` needs no NUL at its end. Errors are ERROR_CONFIG, starting "<path>, line <n>: "; those of
 * fn get that start too, so that it need not know where it stands.
 */
bool config_file_parse(const char *path, const char *text, size_t length, config_entry_fn fn,
                       void *context, struct error *err);

#endif
