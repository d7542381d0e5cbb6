#include "syscalls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pgvigil/buffer.h"
#include "pgvigil/mem.h"

static struct {
    int error_number;
    int after;
} failures[2];

static char *recorded_root; /* NULL: no recording */
static struct buffer recorded;

void syscalls_fail(enum syscalls_call call, int error_number, int after)
{
    failures[call].error_number = error_number;
    failures[call].after = after;
}

void syscalls_record(const char *root)
{
    buffer_clear(&recorded);
    free(recorded_root);
    recorded_root = realpath(root, NULL);
}

char *syscalls_take(void)
{
    free(recorded_root);
    recorded_root = NULL;
    return buffer_take_text(&recorded);
}

static int fails(enum syscalls_call call)
{
    if (failures[call].error_number == 0 || failures[call].after-- > 0)
        return 0;
    failures[call].after = 0;
    errno = failures[call].error_number;
    return 1;
}

static void note(const char *what, int fd, const char *name)
{
    char *link = mem_printf("/proc/self/fd/%d", fd);
    char path[4096] = "";
    size_t root_length;

    if (recorded_root && readlink(link, path, sizeof(path) - 1) > 0) {
        root_length = strlen(recorded_root);
        if (strncmp(path, recorded_root, root_length) != 0)
            root_length = 0;
        buffer_append_format(&recorded, "%s %s%s%s\n", what, path + root_length,
                             name || path[root_length] == '\0' ? "/" : "", name ? name : "");
    }
    free(link);
}

int fsync(int fd)
{
    if (fails(SYSCALLS_FSYNC))
        return -1;

    int result = (int)syscall(SYS_fsync, fd);

    if (result == 0)
        note("fsync", fd, NULL);
    return result;
}

int renameat2(int old_directory, const char *old_name, int new_directory, const char *new_name,
              unsigned int flags)
{
    if (fails(SYSCALLS_RENAME))
        return -1;

    int result =
        (int)syscall(SYS_renameat2, old_directory, old_name, new_directory, new_name, flags);

    if (result == 0)
        note("rename", new_directory, new_name);
    return result;
}
