/*
 * manifest_temporary.c - where SQLite has a manifest open
 *
 * SQLite opens by name, so the file has one until then, and is locked as long. The next manifest
 * sweeps what a killed process has left: files that nobody has locked. A minute is let pass as a
 * new file is there for an instant before it is locked.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "repo/manifest_schema.h"

#define PREFIX "manifest-"
#define LEFT_BEHIND 60 /* seconds */

static bool is_orphan(int directory, const char *name)
{
    int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat status;

    if (fd < 0)
        return false;
    bool orphan = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
                  time(NULL) - status.st_mtime > LEFT_BEHIND && flock(fd, LOCK_EX | LOCK_NB) == 0;
    close(fd);
    return orphan;
}

/* Whatever cannot be removed is in nobody's way. */
static void sweep(const char *directory)
{
    DIR *entries = opendir(directory);
    struct dirent *entry;

    if (!entries)
        return;
    while ((entry = readdir(entries)))
        if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) == 0 &&
            is_orphan(dirfd(entries), entry->d_name))
            unlinkat(dirfd(entries), entry->d_name, 0);
    closedir(entries);
}

static bool create(const char *folder, char **path, int *fd, struct error *err)
{
    *path = files_join(folder, PREFIX "XXXXXX");
    *fd = mkostemp(*path, O_CLOEXEC);
    if (*fd >= 0 && flock(*fd, LOCK_EX) == 0)
        return true;
    error_set_errno(err, "could not create a file in \"%s\"", folder);
    if (*fd >= 0) {
        unlink(*path);
        close(*fd);
        *fd = -1;
    }
    free(*path);
    *path = NULL;
    return false;
}

bool manifest_temporary(const char *directory, char **path, int *fd, struct error *err)
{
    char *folder = files_join(directory, "tmp");
    bool ok = files_make_directories(folder, err);

    *fd = -1;
    *path = NULL;
    if (ok) {
        sweep(folder);
        ok = create(folder, path, fd, err);
    }
    free(folder);
    return ok;
}
