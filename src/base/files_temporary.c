/* files_temporary.c - files without a name, which go with their last descriptor; a directory for some */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "pgvigil/files.h"

#define PREFIX FILES_TEMPORARY "directory-"
#define LEFT_BEHIND 60 /* seconds */

const char *files_temporary_place(void)
{
    const char *directory = getenv("TMPDIR");

    return directory && directory[0] == '/' ? directory : "/var/tmp";
}

static bool is_orphan(int directory, const char *name)
{
    int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat status;

    if (fd < 0)
        return false;
    bool orphan = fstat(fd, &status) == 0 && (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode)) &&
                  status.st_uid == geteuid() && time(NULL) - status.st_mtime > LEFT_BEHIND &&
                  flock(fd, LOCK_EX | LOCK_NB) == 0;
    close(fd);
    return orphan;
}

void files_temporary_sweep(const char *directory, const char *prefix)
{
    DIR *entries = opendir(directory);
    struct error ignored = ERROR_INIT;
    struct dirent *entry;

    if (!entries)
        return;
    while ((entry = readdir(entries))) {
        char *path = files_join(directory, entry->d_name);

        if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0 &&
            is_orphan(dirfd(entries), entry->d_name))
            (void)!files_remove_tree(path, &ignored);
        free(path);
    }
    closedir(entries);
}

bool files_temporary_directory(char **path, int *lock, struct error *err)
{
    const char *place = files_temporary_place();

    files_temporary_sweep(place, PREFIX);
    *path = files_join(place, PREFIX "XXXXXX");
    if (mkdtemp(*path)) {
        *lock = open(*path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        /* Where a directory cannot be locked (NFS), nobody who sweeps can lock it either. */
        if (*lock >= 0) {
            (void)flock(*lock, LOCK_EX);
            return true;
        }
        rmdir(*path);
    }
    error_set_errno(err, "could not make a temporary directory in \"%s\"", place);
    free(*path);
    *path = NULL;
    return error_hint(err, "TMPDIR may name another directory");
}

bool files_temporary(const char *directory, int *fd, struct error *err)
{
    char *path = files_join(directory, FILES_TEMPORARY "XXXXXX");

    *fd = mkostemp(path, O_CLOEXEC);
    if (*fd < 0)
        error_set_errno(err, "could not create a file in directory \"%s\"", directory);
    else
        unlink(path);
    free(path);
    return *fd >= 0;
}

bool files_temporary_write(int fd, const void *data, size_t length, uint64_t offset,
                           struct error *err)
{
    const unsigned char *bytes = data;

    while (length > 0) {
        const ssize_t done = pwrite(fd, bytes, length, (off_t)offset);

        if (done > 0) {
            bytes += done;
            length -= (size_t)done;
            offset += (uint64_t)done;
        } else if (done == 0 || errno != EINTR) {
            if (done == 0)
                errno = ENOSPC;
            return error_set_errno(err, "could not write a temporary file");
        }
    }
    return true;
}

bool files_temporary_read(int fd, void *data, size_t length, uint64_t offset, struct error *err)
{
    unsigned char *bytes = data;

    while (length > 0) {
        const ssize_t done = pread(fd, bytes, length, (off_t)offset);

        if (done > 0) {
            bytes += done;
            length -= (size_t)done;
            offset += (uint64_t)done;
        } else if (done == 0) {
            return error_set(err, ERROR_SYSTEM, "a temporary file ends at %" PRIu64, offset);
        } else if (errno != EINTR) {
            return error_set_errno(err, "could not read a temporary file");
        }
    }
    return true;
}
