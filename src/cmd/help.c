/* help.c - pgvigil help [COMMAND] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"
#include "pgvigil/mem.h"

static const struct option help_table[] = {{.name = NULL}};

static const struct options help_options = {
    .command = "help",
    .synopsis = "help [COMMAND]",
    .summary = "Lists the commands, or explains one.",
    .table = help_table,
    .operands_maximum = 1,
};

static void help_list(void)
{
    int width = 0;

    for (const struct cmd *cmd = cmd_table; cmd->name; cmd++)
        if ((int)strlen(cmd->name) > width)
            width = (int)strlen(cmd->name);

    printf("pgvigil ships WAL, takes backups and restores one PostgreSQL cluster.\n\n"
           "Usage: pgvigil [-c NAME|FILE] COMMAND [options]\n\nCommands:\n");
    for (const struct cmd *cmd = cmd_table; cmd->name; cmd++)
        printf("  %-*s  %s\n", width, cmd->name, cmd->summary);
    printf("\nOptions:\n"
           "  -c, --config NAME|FILE  the configuration: NAME stands for " CONFIG_DIRECTORY
           "/NAME.conf\n"
           "                          (default: the environment's PGVIGIL_CONFIG, or the only\n"
           "                          *.conf in " CONFIG_DIRECTORY ")\n"
           "  -v, --verbose           log what goes on\n"
           "  -h, --help              show this text\n"
           "  --version               show the version\n"
           "\n\"pgvigil help COMMAND\" explains a command.\n");
}

int cmd_help(const char *config_name, int argc, char **argv)
{
    char option[] = "--help";
    const char *name;
    size_t count;
    int status;

    if (!cmd_begin(&help_options, argc, argv, &name, &count, &status))
        return status;
    if (count == 0) {
        help_list();
        return 0;
    }
    const struct cmd *cmd = cmd_find(name);
    if (!cmd)
        return cmd_unknown(name);
    char *command = mem_strdup(name);
    char *arguments[] = {command, option, NULL};
    status = cmd->run(config_name, 2, arguments);
    free(command);
    return status;
}
