/* archive_push.c - pgvigil archive-push PATH */
#include <stddef.h>

#include "cmd/cmd.h"
#include "pgvigil/log.h"
#include "pgvigil/ship.h"

static const struct option push_table[] = {{.name = NULL}};

static const struct options push_options = {
    .command = "archive-push",
    .synopsis = "archive-push PATH",
    .summary = "Stores one WAL file in the repositories and ends with 0 only once it is durable "
               "there.",
    .table = push_table,
    .operands_minimum = 1,
    .operands_maximum = 1,
    .notes = "In postgresql.conf:\n"
             "  archive_mode = on\n"
             "  archive_command = 'pgvigil -c NAME archive-push \"%p\"'\n"
             "\n"
             "PATH is relative to the data directory, which is the current directory then. A file "
             "that is\nthere already with the same content is success, with another content an "
             "error.\n"
             "\n"
             "Exit code: 0 stored; 2 usage or configuration, 3 environment, 4 integrity. "
             "PostgreSQL tries\nagain after each failure.",
};

static int push_file(const struct config *config, const char *path)
{
    struct error err = ERROR_INIT;
    enum wal_outcome outcome;

    if (!ship_file(config, path, &outcome, &err))
        return cmd_fail(&err);
    if (outcome == WAL_ALREADY_THERE)
        log_info("\"%s\" was archived already", path);
    else
        log_debug("\"%s\" was archived", path);
    return 0;
}

/* PostgreSQL restarts its archiver at exit codes of 126 and more: those of error.h are below. */
int cmd_archive_push(const char *config_name, int argc, char **argv)
{
    struct error err = ERROR_INIT;
    const char *path;
    size_t count;
    struct config *config;
    int status;

    if (!cmd_begin(&push_options, argc, argv, &path, &count, &status))
        return status;
    if (!cmd_load_config(config_name, &config, &err))
        return cmd_fail(&err);
    status = push_file(config, path);
    config_free(config);
    return status;
}
