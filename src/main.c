/* main.c - global options, dispatch to the subcommand, exit code */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"

#define EXIT_ENVIRONMENT 3
#define EXIT_CANNOT_TELL 126 /* archive-get's, see fetch.h */

struct global {
    const char *config;
    bool verbose;
    bool help;
    bool version;
    int next; /* index of the first argument that is no global option */
};

static void *main_crypto_alloc(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return mem_alloc(size);
}

static void *main_crypto_realloc(void *pointer, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return mem_realloc(pointer, size);
}

static void main_crypto_free(void *pointer, const char *file, int line)
{
    (void)file;
    (void)line;
    free(pointer);
}

/* These libraries do worse than fail when they get no memory: jansson calls good JSON bad or writes
 * where it must not, OpenSSL crashes if it happens while it starts. So the process ends before. */
static void main_share_memory(void)
{
    json_set_alloc_funcs(mem_alloc, free);
    CRYPTO_set_mem_functions(main_crypto_alloc, main_crypto_realloc, main_crypto_free);
}

/* A file opened later must not become standard output or error by accident. Standard output that
 * was closed is replaced by one that cannot be written, so that losing data does not look right. */
static void main_fill_descriptors(void)
{
    static const int flags[] = {O_RDONLY, O_RDONLY, O_WRONLY};

    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", flags[fd]) != fd)
            _exit(EXIT_ENVIRONMENT);
}

/* "--config VALUE", "--config=VALUE" or "-c VALUE". *taken is false if it is none of these. */
static bool main_take_config(struct global *global, int argc, char **argv, bool *taken,
                             struct error *err)
{
    const char *argument = argv[global->next];
    const char *value = NULL;

    *taken = true;
    if (strncmp(argument, "--config=", strlen("--config=")) == 0) {
        value = argument + strlen("--config=");
    } else if (strcmp(argument, "--config") == 0 || strcmp(argument, "-c") == 0) {
        if (++global->next == argc)
            return error_set(err, ERROR_USAGE, "option \"%s\" needs a value (NAME or FILE)",
                             argument);
        value = argv[global->next];
    } else {
        *taken = false;
        return true;
    }
    if (*value == '\0')
        return error_set(err, ERROR_USAGE, "option \"--config\" has an empty value");
    global->config = value;
    process_set_configuration(value);
    return true;
}

static bool main_parse(struct global *global, int argc, char **argv, struct error *err)
{
    bool taken;

    for (global->next = 1; global->next < argc && argv[global->next][0] == '-'; global->next++) {
        const char *argument = argv[global->next];

        if (!main_take_config(global, argc, argv, &taken, err))
            return false;
        if (taken)
            continue;
        if (strcmp(argument, "-v") == 0 || strcmp(argument, "--verbose") == 0)
            global->verbose = true;
        else if (strcmp(argument, "-h") == 0 || strcmp(argument, "--help") == 0)
            global->help = true;
        else if (strcmp(argument, "--version") == 0)
            global->version = true;
        else {
            error_set(err, ERROR_USAGE, "unknown option \"%s\"", argument);
            return error_hint(err, "\"pgvigil help\" shows the options; those of a command stand "
                                   "behind its name");
        }
    }
    return true;
}

static int main_run(const char *config, const char *name, int argc, char **argv)
{
    const struct cmd *cmd = cmd_find(name);

    return cmd ? cmd->run(config, argc, argv) : cmd_unknown(name);
}

static int main_dispatch(const struct global *global, int argc, char **argv)
{
    char help[] = "help", version[] = "version";
    char *helping[] = {help, NULL}, *versioning[] = {version, NULL};
    struct error err = ERROR_INIT;

    if (global->verbose)
        log_set_level(LOG_DEBUG);
    if (global->help)
        return cmd_help(global->config, 1, helping);
    if (global->version)
        return cmd_version(global->config, 1, versioning);
    if (global->next < argc)
        return main_run(global->config, argv[global->next], argc - global->next,
                        argv + global->next);
    error_set(&err, ERROR_USAGE, "a command is missing");
    error_hint(&err, "\"pgvigil help\" lists the commands");
    return cmd_fail(&err);
}

/*
 * PostgreSQL would take a mistyped restore_command's exit code for "there is no such file" and end
 * recovery: what looks as if archive-get was meant must not do that. `next` is where the command
 * stands, or 0 where that could not be found out.
 */
static bool main_wants_archive_get(int next, int argc, char **argv)
{
    static const char name[] = "archive-g";

    for (int i = next > 0 ? next : 1; i < argc && (next == 0 || i == next); i++)
        if (strncmp(argv[i], name, sizeof(name) - 1) == 0)
            return true;
    return false;
}

/* Output that did not get where it was to go is no success. */
static int main_check_output(int status)
{
    struct error err = ERROR_INIT;

    if (fflush(stdout) != 0)
        error_set_errno(&err, "could not write to standard output");
    else if (ferror(stdout))
        error_set(&err, ERROR_SYSTEM, "could not write to standard output");
    else
        return status;
    cmd_fail(&err);
    return status == 0 ? EXIT_ENVIRONMENT : status;
}

int main(int argc, char **argv)
{
    struct global global = {.config = NULL};
    struct error err = ERROR_INIT;
    int status;

    main_fill_descriptors();
    main_share_memory();
    umask(077);
    signal(SIGPIPE, SIG_IGN);
    if (main_wants_archive_get(0, argc, argv))
        mem_set_failure_status(EXIT_CANNOT_TELL);
    if (main_parse(&global, argc, argv, &err)) {
        status = main_dispatch(&global, argc, argv);
    } else {
        status = cmd_fail(&err);
        global.next = 0;
    }
    status = main_check_output(status);
    if (status > 1 && main_wants_archive_get(global.next, argc, argv))
        return EXIT_CANNOT_TELL;
    return status;
}
