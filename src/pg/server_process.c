/*
 * server_process.c - does a server run in a data directory?
 */
#include "pgvigil/server_process.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgvigil/buffer.h"
#include "pgvigil/error.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"

#define PIDFILE_MAXIMUM ((size_t)64 * 1024)
#define COMMAND_MAXIMUM ((size_t)64) /* the kernel gives 16 bytes */

/* *same is set only if it can be seen where the process works: mostly it is ours, or we are root. */
static bool works_in(long pid, const struct stat *directory, bool *same)
{
    char path[64];
    struct stat status;

    snprintf(path, sizeof path, "/proc/%ld/cwd", pid);
    if (stat(path, &status) != 0)
        return false;
    *same = status.st_dev == directory->st_dev && status.st_ino == directory->st_ino;
    return true;
}

/* A number may have been given to another process since. Number 1, where it is not ours, is no server:
 * that would not run as root. */
static bool is_running(long pid, const struct stat *directory)
{
    bool same;

    if (pid <= 0 || pid > INT_MAX || pid == getpid() ||
        (kill((pid_t)pid, 0) != 0 && (errno != EPERM || pid == 1)))
        return false;
    return !works_in(pid, directory, &same) || same;
}

/* As its postmaster.pid has it; a standalone backend makes its number negative. */
static long noted_pid(const char *directory)
{
    char *path = files_join(directory, "postmaster.pid");
    struct buffer text = BUFFER_INIT;
    struct error ignored = ERROR_INIT;
    long pid = 0;

    if (files_read(path, PIDFILE_MAXIMUM, &text, &ignored))
        pid = strtol(buffer_text(&text), NULL, 10);
    buffer_free(&text);
    free(path);
    return pid < 0 ? -pid : pid;
}

/* By the name of its program. A shell or psql that was started in the directory is none. */
static bool is_server(long pid)
{
    char *path = mem_printf("/proc/%ld/comm", pid);
    struct buffer text = BUFFER_INIT;
    struct error ignored = ERROR_INIT;
    const bool is = files_read(path, COMMAND_MAXIMUM, &text, &ignored) &&
                    (strstr(buffer_text(&text), "postgres") != NULL ||
                     strstr(buffer_text(&text), "postmaster") != NULL);

    buffer_free(&text);
    free(path);
    return is;
}

static long find_process(const struct stat *directory)
{
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    long found = 0;

    while (processes != NULL && found == 0 && (entry = readdir(processes)) != NULL) {
        const long pid = strtol(entry->d_name, NULL, 10);
        bool same;

        if (pid > 0 && works_in(pid, directory, &same) && same && is_server(pid))
            found = pid;
    }
    if (processes != NULL)
        closedir(processes);
    return found;
}

long server_process_find(const char *directory)
{
    const long noted = noted_pid(directory);
    struct stat status;

    if (stat(directory, &status) != 0)
        return 0;
    return is_running(noted, &status) ? noted : find_process(&status);
}
