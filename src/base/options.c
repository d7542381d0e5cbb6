/* options.c - command-line options of a subcommand, from a table */
#include "pgvigil/options.h"

#include <stdlib.h>
#include <string.h>

#include "nearest.h"
#include "pgvigil/mem.h"
#include "pgvigil/units.h"

#define OPTIONS_COUNT_MAXIMUM 1024

/* While a command line is read. */
struct options_reader {
    const struct options *options;
    int argc;
    char **argv;
    int next;       /* index of the argument to read next */
    uint64_t *seen; /* one bit per row of the table */
};

static bool options_usage(const struct options *options, struct error *err)
{
    return error_hint(err, "See \"pgvigil help %s\".", options->command);
}

static bool options_is_help(const char *argument)
{
    return strcmp(argument, "-h") == 0 || strcmp(argument, "--help") == 0;
}

static bool options_asks_for_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (options_is_help(argv[i]))
            return true;
    }
    return false;
}

static bool options_unknown(const struct options *options, const char *argument, const char *name,
                            struct error *err)
{
    struct nearest nearest = NEAREST_INIT(name);

    for (const struct option *option = options->table; option->name; option++)
        nearest_offer(&nearest, option->name);
    error_set(err, ERROR_USAGE, "unknown option \"%s\"", argument);
    if (nearest.best)
        return error_hint(err, "Perhaps you meant \"--%s\"; see \"pgvigil help %s\".", nearest.best,
                          options->command);
    return options_usage(options, err);
}

static void options_append(struct option_list *list, const char *value)
{
    list->values = mem_realloc(list->values, (list->count + 1) * sizeof(*list->values));
    list->values[list->count++] = value;
}

static bool options_store(const struct options *options, const struct option *option,
                          const char *value, struct error *err)
{
    switch (option->kind) {
    case OPTION_FLAG:
        *(bool *)option->target = true;
        break;
    case OPTION_STRING:
        *(const char **)option->target = value;
        break;
    case OPTION_LIST:
        options_append(option->target, value);
        break;
    case OPTION_COUNT:
        if (!units_parse_integer(value, 1, OPTIONS_COUNT_MAXIMUM, option->target, err)) {
            error_context(err, "option \"--%s\"", option->name);
            err->code = ERROR_USAGE;
            return options_usage(options, err);
        }
        break;
    }
    return true;
}

/* The value after '=', or the next argument unless that looks like an option. */
static bool options_value(struct options_reader *reader, const struct option *option,
                          const char *equals, const char **value, struct error *err)
{
    *value = NULL;
    if (option->kind == OPTION_FLAG) {
        if (!equals)
            return true;
        error_set(err, ERROR_USAGE, "option \"--%s\" takes no value", option->name);
        return options_usage(reader->options, err);
    }
    if (equals) {
        *value = equals + 1;
        return true;
    }
    if (reader->next < reader->argc && strncmp(reader->argv[reader->next], "--", 2) != 0) {
        *value = reader->argv[reader->next++];
        return true;
    }
    error_set(err, ERROR_USAGE, "option \"--%s\" needs a value (%s)", option->name,
              option->argument);
    return options_usage(reader->options, err);
}

static bool options_take(struct options_reader *reader, const char *argument, struct error *err)
{
    const char *name = argument + 2;
    const char *equals = strchr(name, '=');
    char *key = equals ? mem_strndup(name, (size_t)(equals - name)) : mem_strdup(name);
    const struct option *option = reader->options->table;
    const char *value;

    while (option->name && strcmp(option->name, key) != 0)
        option++;
    if (!option->name) {
        options_unknown(reader->options, argument, key, err);
        free(key);
        return false;
    }
    free(key);

    const uint64_t bit = UINT64_C(1) << (option - reader->options->table) % 64;
    uint64_t *seen = &reader->seen[(option - reader->options->table) / 64];
    if ((*seen & bit) && option->kind != OPTION_LIST) {
        error_set(err, ERROR_USAGE, "option \"--%s\" was given twice", option->name);
        return options_usage(reader->options, err);
    }
    *seen |= bit;
    return options_value(reader, option, equals, &value, err) &&
           options_store(reader->options, option, value, err);
}

static bool options_check_operands(const struct options *options, size_t count, struct error *err)
{
    if (count >= options->operands_minimum)
        return true;
    error_set(err, ERROR_USAGE, "an argument is missing");
    return error_hint(err, "Usage: pgvigil %s", options->synopsis);
}

static bool options_read(struct options_reader *reader, const char **operands,
                         size_t *operand_count, struct error *err)
{
    const struct options *options = reader->options;
    bool ended = false;

    while (reader->next < reader->argc) {
        const char *argument = reader->argv[reader->next++];
        if (!ended && strcmp(argument, "--") == 0) {
            ended = true;
        } else if (!ended && strncmp(argument, "--", 2) == 0) {
            if (!options_take(reader, argument, err))
                return false;
        } else if (!ended && argument[0] == '-' && argument[1] != '\0') {
            return options_unknown(options, argument, argument + 1, err);
        } else if (*operand_count == options->operands_maximum) {
            error_set(err, ERROR_USAGE, "unexpected argument \"%s\"", argument);
            return error_hint(err, "Usage: pgvigil %s", options->synopsis);
        } else {
            operands[(*operand_count)++] = argument;
        }
    }
    return options_check_operands(options, *operand_count, err);
}

bool options_parse(const struct options *options, int argc, char **argv, const char **operands,
                   size_t *operand_count, bool *help, struct error *err)
{
    struct options_reader reader = {.options = options, .argc = argc, .argv = argv, .next = 1};
    size_t rows = 0;

    *operand_count = 0;
    *help = options_asks_for_help(argc, argv);
    if (*help)
        return true;
    while (options->table[rows].name)
        rows++;
    reader.seen = mem_calloc(rows / 64 + 1, sizeof(*reader.seen));
    bool ok = options_read(&reader, operands, operand_count, err);
    free(reader.seen);
    return ok;
}

/* Columns that "--name ARGUMENT" takes. */
static int options_width(const struct option *option)
{
    return (int)(2 + strlen(option->name) + (option->argument ? 1 + strlen(option->argument) : 0));
}

void options_print_help(const struct options *options, FILE *stream)
{
    static const struct option help = {.name = "help", .help = "show this text"};
    int width = options_width(&help);

    for (const struct option *option = options->table; option->name; option++)
        width = options_width(option) > width ? options_width(option) : width;

    fprintf(stream, "Usage: pgvigil %s\n\n%s\n\nOptions:\n", options->synopsis, options->summary);
    for (const struct option *option = options->table;; option++) {
        const struct option *row = option->name ? option : &help;
        fprintf(stream, "  --%s%s%s%*s  %s\n", row->name, row->argument ? " " : "",
                row->argument ? row->argument : "", width - options_width(row), "", row->help);
        if (!option->name)
            break;
    }
    if (options->notes)
        fprintf(stream, "\n%s\n", options->notes);
}

void options_free_list(struct option_list *list)
{
    if (!list)
        return;
    free(list->values);
    *list = (struct option_list){.values = NULL};
}
