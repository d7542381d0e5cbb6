#include "support/key_files.h"

#include <check.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pgvigil/files.h"
#include "pgvigil/mem.h"

char *key_files_path(const char *directory, const char *name, const char *suffix)
{
    return mem_printf("%s/%s%s", directory, name, suffix);
}

void key_files_make(const char *directory, const char *name, enum keypair_kind kind,
                    const char *passphrase)
{
    char *key = key_files_path(directory, name, ".key");
    char *crt = key_files_path(directory, name, ".crt");
    struct buffer private_key = BUFFER_INIT, certificate = BUFFER_INIT;
    struct error err = ERROR_INIT;

    ck_assert_msg(keypair_make(kind, name, passphrase, &private_key, &certificate, &err), "%s",
                  err.message);
    ck_assert(files_write(key, private_key.data, private_key.length, 0600, &err));
    ck_assert(files_write(crt, certificate.data, certificate.length, 0644, &err));
    buffer_free(&certificate);
    buffer_free(&private_key);
    free(crt);
    free(key);
}

#define ARGUMENTS_MAXIMUM 32

void key_files_openssl(struct buffer *output, ...)
{
    char *arguments[ARGUMENTS_MAXIMUM] = {(char *)"openssl"}, part[4096];
    posix_spawn_file_actions_t actions;
    int ends[2], status;
    ssize_t got;
    va_list list;
    pid_t pid;

    va_start(list, output);
    for (size_t i = 1; i < ARGUMENTS_MAXIMUM && (i == 1 || arguments[i - 1]); i++)
        arguments[i] = va_arg(list, char *);
    va_end(list);
    ck_assert_int_eq(pipe(ends), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    posix_spawn_file_actions_addclose(&actions, ends[1]);
    ck_assert_int_eq(posix_spawnp(&pid, "openssl", &actions, NULL, arguments, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    while ((got = read(ends[0], part, sizeof(part))) > 0)
        buffer_append(output, part, (size_t)got);
    close(ends[0]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
