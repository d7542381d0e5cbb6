/*
 * cmd.h - the subcommands
 *
 * A command turns arguments into a request, runs a job, and prints what came of it: data to stdout,
 * messages to stderr. It returns the process's exit code; nothing below it exits.
 */
#ifndef PGVIGIL_CMD_H
#define PGVIGIL_CMD_H

#include <stdbool.h>

#include "pgvigil/config.h"
#include "pgvigil/error.h"
#include "pgvigil/options.h"

struct cmd {
    const char *name;
    const char *summary;
    /* argv[0] is the command's name; config_name is what -c said, or NULL. */
    int (*run)(const char *config_name, int argc, char **argv);
};

/* All commands in the order of the help; ends with a NULL name. */
extern const struct cmd cmd_table[];
const struct cmd *cmd_find(const char *name);

int cmd_init(const char *config_name, int argc, char **argv);
int cmd_check(const char *config_name, int argc, char **argv);
int cmd_archive_push(const char *config_name, int argc, char **argv);
int cmd_archive_get(const char *config_name, int argc, char **argv);
int cmd_backup(const char *config_name, int argc, char **argv);
int cmd_copy(const char *config_name, int argc, char **argv);
int cmd_expire(const char *config_name, int argc, char **argv);
int cmd_keep(const char *config_name, int argc, char **argv);
int cmd_unkeep(const char *config_name, int argc, char **argv);
int cmd_list(const char *config_name, int argc, char **argv);
int cmd_restore(const char *config_name, int argc, char **argv);
int cmd_verify(const char *config_name, int argc, char **argv);
int cmd_keygen(const char *config_name, int argc, char **argv);
int cmd_version(const char *config_name, int argc, char **argv);
int cmd_help(const char *config_name, int argc, char **argv);

/* What a backup ends with, where retention is configured; what fails is only logged. */
void cmd_expire_after_backup(const struct config *config);

/* Logs that there is no such command, with the one that may have been meant; returns 2. */
int cmd_unknown(const char *name);

/* Logs err and returns its exit code. */
int cmd_fail(const struct error *err);

/*
 * What every command begins with: parses the options, prints help when asked. A command without
 * operands gives NULL for both pointers. Returns true to go on,
 * false with *status set when the command is to end.
 */
bool cmd_begin(const struct options *options, int argc, char **argv, const char **operands,
               size_t *operand_count, int *status);

/*
 * Finds and loads the configuration. As root the process then becomes the owner of the data
 * directory (or, where that is gone, of the state directory), so that nothing root-owned is left
 * behind; refused when neither tells whom to become. The caller frees *config.
 */
bool cmd_load_config(const char *config_name, struct config **config, struct error *err);
/* The same for a command that only reads: without a state directory it goes on, with a warning. */
bool cmd_load_config_to_read(const char *config_name, struct config **config, struct error *err);

#endif
