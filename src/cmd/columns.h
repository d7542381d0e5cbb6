/*
 * columns.h - tables for people: cells in columns as wide as their widest one
 */
#ifndef PGVIGIL_COLUMNS_H
#define PGVIGIL_COLUMNS_H

#include <stddef.h>

#include "pgvigil/buffer.h"

struct cmd_columns {
    size_t columns;
    const char *right; /* for each column 'r' if it is set flush right */
    char **cells;
    size_t count;
    size_t capacity;
};

/* The next cell, row by row; at most 255 bytes. */
void cmd_columns_add(struct cmd_columns *table, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Appends all rows, indented by four, and frees the cells. */
void cmd_columns_print(struct cmd_columns *table, struct buffer *out);

#endif
