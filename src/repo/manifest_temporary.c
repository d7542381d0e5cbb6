/*
 * manifest_temporary.c - where SQLite has a manifest open
 *
 * SQLite opens by name, so the file has one until then, and is locked as long. The next manifest
 * sweeps what a killed process has left: files that nobody has locked.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "repo/manifest_schema.h"

#define PREFIX "manifest-"

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
        files_temporary_sweep(folder, PREFIX);
        ok = create(folder, path, fd, err);
    }
    free(folder);
    return ok;
}
