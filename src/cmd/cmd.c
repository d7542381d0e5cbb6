/* cmd.c - the table of subcommands, and what they share */
#include "cmd/cmd.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/nearest.h"
#include "pgvigil/files.h"
#include "pgvigil/log.h"
#include "pgvigil/process.h"

const struct cmd cmd_table[] = {
    {"init", "set up what is missing: the state directory and the repositories", cmd_init},
    {"check", "prove the whole way from the server to the repositories", cmd_check},
    {"archive-push", "store one WAL file (archive_command)", cmd_archive_push},
    {"archive-get", "bring one WAL file back (restore_command)", cmd_archive_get},
    {"backup", "take a base backup", cmd_backup},
    {"copy", "bring repositories level", cmd_copy},
    {"expire", "remove what retention lets go", cmd_expire},
    {"keep", "exempt a backup from expiry", cmd_keep},
    {"unkeep", "let a kept backup expire again", cmd_unkeep},
    {"list", "show backups, WAL and gaps in it", cmd_list},
    {"restore", "bring a data directory back, at any moment", cmd_restore},
    {"verify", "check what is stored, and repair it from other repositories", cmd_verify},
    {"keygen", "make a private key and its certificate, to encrypt repositories", cmd_keygen},
    {"version", "show the version of pgvigil and of its libraries", cmd_version},
    {"help", "show this text, or that of a command", cmd_help},
    {NULL, NULL, NULL},
};

const struct cmd *cmd_find(const char *name)
{
    for (const struct cmd *cmd = cmd_table; cmd->name; cmd++)
        if (strcmp(cmd->name, name) == 0)
            return cmd;
    return NULL;
}

int cmd_unknown(const char *name)
{
    struct nearest nearest = NEAREST_INIT(name);
    struct error err = ERROR_INIT;

    for (const struct cmd *cmd = cmd_table; cmd->name; cmd++)
        nearest_offer(&nearest, cmd->name);
    error_set(&err, ERROR_USAGE, "there is no command \"%s\"", name);
    if (nearest.best)
        error_hint(&err, "perhaps you meant \"%s\"; \"pgvigil help\" lists all", nearest.best);
    else
        error_hint(&err, "\"pgvigil help\" lists the commands");
    return cmd_fail(&err);
}

int cmd_fail(const struct error *err)
{
    log_error(LOG_ERROR, err);
    return error_exit_code(err->code);
}

bool cmd_begin(const struct options *options, int argc, char **argv, const char **operands,
               size_t *operand_count, int *status)
{
    struct error err = ERROR_INIT;
    size_t none;
    bool help;

    if (!options_parse(options, argc, argv, operands, operand_count ? operand_count : &none, &help,
                       &err)) {
        *status = cmd_fail(&err);
        return false;
    }
    if (help) {
        options_print_help(options, stdout);
        *status = 0;
    }
    return !help;
}

static bool cmd_refuse_root(const struct config *config, const char *why, struct error *err)
{
    error_set(err, ERROR_USAGE, "refusing to run as root: %s", why);
    error_detail(err, "configuration \"%s\", data directory \"%s\", state directory \"%s\"",
                 config->path, config->pgdata ? config->pgdata : "(not set)", config->state_dir);
    return error_hint(err, "run it as the user that PostgreSQL runs as, for example: sudo -u "
                           "postgres pgvigil ...");
}

/* The state directory's owner is as good as the data directory's, unless it is root: PostgreSQL
 * does not run as root, so that one was made by mistake. */
static bool cmd_become_state_owner(const struct config *config, struct error *err)
{
    struct stat info;

    if (stat(config->state_dir, &info) == 0 && info.st_uid == 0)
        return cmd_refuse_root(config, "the state directory belongs to root", err);
    if (process_become_owner(config->state_dir, err))
        return true;
    return err->code == ERROR_NOT_FOUND
               ? cmd_refuse_root(config,
                                 "neither data directory nor state directory is there to "
                                 "tell whom the files are to belong to",
                                 err)
               : false;
}

static bool cmd_become_owner(const struct config *config, struct error *err)
{
    struct stat info;

    if (geteuid() != 0)
        return true;
    if (config->pgdata) {
        if (stat(config->pgdata, &info) == 0 && info.st_uid == 0)
            return cmd_refuse_root(config, "the data directory belongs to root", err);
        if (process_become_owner(config->pgdata, err))
            return true;
        if (err->code != ERROR_NOT_FOUND)
            return false;
        error_clear(err);
    }
    return cmd_become_state_owner(config, err);
}

bool cmd_load_config(const char *config_name, struct config **config, struct error *err)
{
    char *path;

    if (!config_find(config_name, &path, err))
        return false;
    bool ok = config_load(path, config, err);
    free(path);
    if (ok && !cmd_become_owner(*config, err)) {
        config_free(*config);
        *config = NULL;
        ok = false;
    }
    return ok;
}

/* On a new host, after a disaster, nothing may be there yet but the configuration. */
bool cmd_load_config_to_read(const char *config_name, struct config **config, struct error *err)
{
    const char *state_dir;
    struct error why = ERROR_INIT;

    if (!cmd_load_config(config_name, config, err))
        return false;
    state_dir = (*config)->state_dir;
    if (files_make_directories(state_dir, &why) &&
        (access(state_dir, W_OK | X_OK) == 0 ||
         error_set_errno(&why, "could not write to directory \"%s\"", state_dir)))
        return true;
    (*config)->stateless = true;
    error_context(&why, "going on without the state directory");
    process_hint_directory(state_dir, &why);
    log_error(LOG_WARNING, &why);
    return true;
}
