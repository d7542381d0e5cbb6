/*
 * directory_names.h - all names of one directory, sorted
 *
 * Part of scan.c: what one file is can depend on which others there are.
 */
#ifndef PGVIGIL_DIRECTORY_NAMES_H
#define PGVIGIL_DIRECTORY_NAMES_H

#include <stddef.h>

#include "pgvigil/error.h"

struct directory_names {
    char **names; /* bytewise ascending, without "." and ".." */
    size_t count;
    size_t capacity;
};

/* The open directory `fd` is read from its position; `path` is for messages. */
bool directory_names_read(int fd, const char *path, struct directory_names *names,
                          struct error *err);
void directory_names_free(struct directory_names *names);
bool directory_names_has(const struct directory_names *names, const char *name);

#endif
