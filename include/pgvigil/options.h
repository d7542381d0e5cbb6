/*
 * options.h - command-line options of a subcommand, from a table
 *
 * A command describes its options in a constant table; parsing, checking and the --help text come
 * from the same table. Long options only (--name VALUE or --name=VALUE), plus -h for --help;
 * "--" ends options; operands may stand anywhere. An option given twice is an error unless it
 * is OPTION_LIST. Everything wrong is ERROR_USAGE with a hint that names `pgvigil help <command>`.
 */
#ifndef PGVIGIL_OPTIONS_H
#define PGVIGIL_OPTIONS_H

#include <stddef.h>
#include <stdio.h>

#include "pgvigil/error.h"

enum option_kind {
    OPTION_FLAG,   /* target is bool * */
    OPTION_STRING, /* target is const char ** */
    OPTION_LIST,   /* target is struct option_list * */
    OPTION_COUNT   /* target is long *, a number from 1 to 1024 */
};

struct option_list {
    const char **values; /* borrowed from argv */
    size_t count;
};

struct option {
    const char *name; /* "target-time" */
    enum option_kind kind;
    void *target;
    const char *argument; /* "TIMESTAMP" for the help; NULL for a flag */
    const char *help;     /* one line */
};

struct options {
    const char *command;        /* "restore" */
    const char *synopsis;       /* "restore --to DIR [options]" */
    const char *summary;        /* one sentence */
    const struct option *table; /* ends with a NULL name */
    size_t operands_minimum;
    size_t operands_maximum;
    const char *notes; /* further help text, or NULL */
};

/*
 * Parses argv[1..argc). operands (an array of operands_maximum pointers) gets the operands,
 * borrowed from argv; *help becomes true for -h/--help, and nothing is checked then.
 */
bool options_parse(const struct options *options, int argc, char **argv, const char **operands,
                   size_t *operand_count, bool *help, struct error *err);

void options_print_help(const struct options *options, FILE *stream);
void options_free_list(struct option_list *list);

#endif
