/* files_temporary.c - files without a name, which go with their last descriptor; a directory for some */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "pgvigil/files.h"

const char *files_temporary_place(void)
{
    const char *directory = getenv("TMPDIR");

    return directory && directory[0] == '/' ? directory : "/var/tmp";
}

bool files_temporary_directory(char **path, struct error *err)
{
    const char *place = files_temporary_place();

    *path = files_join(place, FILES_TEMPORARY "XXXXXX");
    if (mkdtemp(*path))
        return true;
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
