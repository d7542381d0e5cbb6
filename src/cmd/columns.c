/* columns.c - tables for people */
#include "cmd/columns.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/mem.h"

void cmd_columns_add(struct cmd_columns *table, const char *format, ...)
{
    char text[256];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    table->cells = mem_grow(table->cells, table->count, &table->capacity, sizeof(*table->cells));
    table->cells[table->count++] = mem_strdup(text);
}

static int width_of(const struct cmd_columns *table, size_t column)
{
    size_t width = 0;

    for (size_t i = column; i < table->count; i += table->columns)
        if (strlen(table->cells[i]) > width)
            width = strlen(table->cells[i]);
    return (int)width;
}

/* Nothing trails behind a line's last text. */
static void print_row(const struct cmd_columns *table, size_t row, struct buffer *out)
{
    char *const *cells = &table->cells[row * table->columns];
    size_t columns = table->columns;

    while (columns > 0 && cells[columns - 1][0] == '\0')
        columns--;
    buffer_append_string(out, "    ");
    for (size_t i = 0; i < columns; i++) {
        int width = width_of(table, i);

        if (i + 1 == columns && table->right[i] != 'r')
            width = 0;
        buffer_append_format(out, "%s%*s", i > 0 ? "  " : "",
                             table->right[i] == 'r' ? width : -width, cells[i]);
    }
    buffer_append_string(out, "\n");
}

void cmd_columns_print(struct cmd_columns *table, struct buffer *out)
{
    for (size_t row = 0; row < table->count / table->columns; row++)
        print_row(table, row, out);
    for (size_t i = 0; i < table->count; i++)
        free(table->cells[i]);
    free(table->cells);
}
