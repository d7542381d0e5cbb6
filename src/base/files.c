/* files.c - files and directories of the local system */
#include "pgvigil/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "pgvigil/mem.h"

/* Linux 6.14; the headers of older distributions do not know it. */
#ifndef RWF_DONTCACHE
#define RWF_DONTCACHE 0x00000080
#endif

static int files_open(const char *path, int flags)
{
    int fd;

    do
        fd = open(path, flags | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    return fd;
}

/* The directory that `path` lies in, as dirname(3) understands it. The caller frees. */
static char *files_parent(const char *path)
{
    size_t length = strlen(path);

    while (length > 0 && path[length - 1] == '/')
        length--;
    while (length > 0 && path[length - 1] != '/')
        length--;
    if (length == 0)
        return mem_strdup(".");
    while (length > 1 && path[length - 1] == '/')
        length--;
    return mem_strndup(path, length);
}

bool files_read_fd(int fd, const char *path, void *data, size_t length, size_t *got,
                   struct error *err)
{
    size_t done = 0;

    while (done < length) {
        ssize_t count = read(fd, (char *)data + done, length - done);
        if (count == 0)
            break;
        if (count > 0)
            done += (size_t)count;
        else if (errno != EINTR)
            return error_set_errno(err, "could not read file \"%s\"", path);
    }
    *got = done;
    return true;
}

bool files_check_private(const char *path, const char *what, struct error *err)
{
    struct stat info;

    if (stat(path, &info) != 0) {
        error_set_errno(err, "could not stat %s \"%s\"", what, path);
        err->code = ERROR_CONFIG;
        return false;
    }

    const mode_t others = info.st_uid == 0 ? S_IWGRP | S_IXGRP | S_IRWXO : S_IRWXG | S_IRWXO;

    if ((info.st_mode & others) == 0)
        return true;
    error_set(err, ERROR_CONFIG, "%s \"%s\" can be used by others: its mode is %04o", what, path,
              (unsigned)(info.st_mode & 07777));
    return error_hint(err, "chmod 0600 \"%s\"; one that root owns may be 0640", path);
}

bool files_write_fd(int fd, const char *path, const void *data, size_t length, struct error *err)
{
    size_t done = 0;

    while (done < length) {
        ssize_t count = write(fd, (const char *)data + done, length - done);
        if (count > 0) {
            done += (size_t)count;
            continue;
        }
        if (count == 0)
            errno = ENOSPC;
        if (errno != EINTR)
            return error_set_errno(err, "could not write file \"%s\"", path);
    }
    return true;
}

static bool files_read_all(int fd, const char *path, size_t maximum, struct buffer *buffer,
                           struct error *err)
{
    struct stat info;
    size_t total = 0;

    if (fstat(fd, &info) != 0)
        return error_set_errno(err, "could not stat file \"%s\"", path);

    /* The size is only a first guess: files grow, and those of /proc have none. */
    size_t chunk =
        info.st_size > 0 && (uintmax_t)info.st_size <= maximum ? (size_t)info.st_size + 1 : 8192;
    for (;;) {
        size_t got;
        buffer_reserve(buffer, chunk);
        if (!files_read_fd(fd, path, buffer->data + buffer->length, chunk, &got, err))
            return false;
        if (got > maximum - total)
            return error_set(err, ERROR_SYSTEM, "file \"%s\" is larger than %zu bytes", path,
                             maximum);
        total += got;
        buffer->length += got;
        buffer->data[buffer->length] = '\0';
        if (got < chunk)
            return true;
        chunk = 64 * 1024;
    }
}

bool files_check_regular(int fd, const char *path, struct error *err)
{
    struct stat info;

    if (fstat(fd, &info) != 0)
        return error_set_errno(err, "could not stat file \"%s\"", path);
    return S_ISREG(info.st_mode) ||
           error_set(err, ERROR_SYSTEM, "could not read file \"%s\": it is %s", path,
                     S_ISDIR(info.st_mode) ? "a directory" : "not a regular file");
}

/* O_NONBLOCK in `flags`: what is not a regular file is refused. */
static bool files_read_by(int flags, const char *path, size_t maximum, struct buffer *buffer,
                          struct error *err)
{
    int fd = files_open(path, O_RDONLY | flags);
    size_t before = buffer->length;

    if (fd < 0) {
        bool absent = errno == ENOENT;
        error_set_errno(err, "could not open file \"%s\"", path);
        if (absent)
            err->code = ERROR_NOT_FOUND;
        return false;
    }
    bool ok = ((flags & O_NONBLOCK) == 0 || files_check_regular(fd, path, err)) &&
              files_read_all(fd, path, maximum, buffer, err);
    close(fd);
    if (!ok && buffer->data) {
        buffer->length = before;
        buffer->data[before] = '\0';
    }
    return ok;
}

bool files_read(const char *path, size_t maximum, struct buffer *buffer, struct error *err)
{
    return files_read_by(O_NONBLOCK, path, maximum, buffer, err);
}

bool files_read_stream(const char *path, size_t maximum, struct buffer *buffer, struct error *err)
{
    return files_read_by(0, path, maximum, buffer, err);
}

/* Whatever the temporary file holds is worthless until all of this has succeeded. */
static bool files_fill(int fd, const char *path, const void *data, size_t length, mode_t mode,
                       struct error *err)
{
    if (!files_write_fd(fd, path, data, length, err))
        return false;
    if (fchmod(fd, mode) != 0)
        return error_set_errno(err, "could not set permissions of file \"%s\"", path);
    if (fsync(fd) != 0)
        return error_set_errno(err, "could not fsync file \"%s\"", path);
    return true;
}

/* flags are renameat2's. */
static bool files_write_by(unsigned flags, const char *path, const void *data, size_t length,
                           mode_t mode, struct error *err)
{
    char *parent = files_parent(path);
    char *temporary = files_join(parent, FILES_TEMPORARY "XXXXXX");
    int fd = mkostemp(temporary, O_CLOEXEC);
    bool ok = false;

    if (fd < 0) {
        error_set_errno(err, "could not create a file in directory \"%s\"", parent);
        error_context(err, "could not write file \"%s\"", path);
        goto out;
    }
    ok = files_fill(fd, path, data, length, mode, err);
    if (close(fd) != 0 && ok)
        ok = error_set_errno(err, "could not close file \"%s\"", path);
    if (ok && renameat2(AT_FDCWD, temporary, AT_FDCWD, path, flags) != 0)
        ok = errno == EEXIST
                 ? error_set(err, ERROR_EXISTS, "file \"%s\" exists already", path)
                 : error_set_errno(err, "could not rename file \"%s\" to \"%s\"", temporary, path);
    if (ok)
        ok = files_sync(parent, err);
    else
        unlink(temporary);
out:
    free(temporary);
    free(parent);
    return ok;
}

bool files_write(const char *path, const void *data, size_t length, mode_t mode, struct error *err)
{
    return files_write_by(0, path, data, length, mode, err);
}

bool files_create(const char *path, const void *data, size_t length, mode_t mode, struct error *err)
{
    return files_write_by(RENAME_NOREPLACE, path, data, length, mode, err);
}

bool files_sync(const char *path, struct error *err)
{
    struct stat info;
    int fd = files_open(path, O_RDONLY);

    if (fd < 0)
        return error_set_errno(err, "could not open \"%s\"", path);
    bool ok = fsync(fd) == 0;
    if (!ok && errno == EINVAL) {
        /* Some file systems (FUSE, CIFS) know no fsync of a directory: there is nothing to lose. */
        ok = fstat(fd, &info) == 0 && S_ISDIR(info.st_mode);
        errno = EINVAL;
    }
    if (!ok)
        error_set_errno(err, "could not fsync \"%s\"", path);
    close(fd);
    return ok;
}

static bool files_is_directory(const char *path)
{
    struct stat info;

    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool files_make_directories(const char *path, struct error *err)
{
    if (files_is_directory(path))
        return true;

    char *parent = files_parent(path);
    bool ok = strcmp(parent, path) == 0 || files_make_directories(parent, err);
    if (ok && mkdir(path, 0700) != 0) {
        /* Somebody may have been quicker; the entry is made durable all the same. */
        int reason = errno;
        if (reason != EEXIST || !files_is_directory(path)) {
            errno = reason == EEXIST ? ENOTDIR : reason;
            ok = error_set_errno(err, "could not create directory \"%s\"", path);
        }
    }
    if (ok)
        ok = files_sync(parent, err);
    free(parent);
    return ok;
}

static bool files_remove_entry(int directory, const char *name, const char *path, dev_t device,
                               struct error *err);

/* One pass over an open directory's entries; *removed counts them. */
static bool files_remove_pass(DIR *stream, const char *path, dev_t device, size_t *removed,
                              struct error *err)
{
    *removed = 0;
    rewinddir(stream);
    for (;;) {
        errno = 0;
        struct dirent *entry = readdir(stream);
        if (!entry && errno != 0)
            return error_set_errno(err, "could not read directory \"%s\"", path);
        if (!entry)
            return true;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        char *inner = files_join(path, entry->d_name);
        bool ok = files_remove_entry(dirfd(stream), entry->d_name, inner, device, err);
        free(inner);
        if (!ok)
            return false;
        (*removed)++;
    }
}

static bool files_remove_contents(int fd, const char *path, dev_t device, struct error *err)
{
    DIR *stream = fdopendir(fd);
    size_t removed = 0;
    bool ok = true;

    if (!stream) {
        error_set_errno(err, "could not read directory \"%s\"", path);
        close(fd);
        return false;
    }
    /* Entries may be skipped when a directory changes under readdir: until nothing is left. */
    do {
        ok = files_remove_pass(stream, path, device, &removed, err);
    } while (ok && removed > 0);
    closedir(stream);
    return ok;
}

/* Device 0: this is the root of the tree, whose device counts from here on. */
static bool files_remove_entry(int directory, const char *name, const char *path, dev_t device,
                               struct error *err)
{
    struct stat info;

    if (unlinkat(directory, name, 0) == 0 || errno == ENOENT)
        return true;
    int reason = errno;
    if (reason != EISDIR && reason != EPERM)
        return error_set_errno(err, "could not remove file \"%s\"", path);

    int fd = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return true;
    if (fd < 0 && (errno == ENOTDIR || errno == ELOOP)) {
        errno = reason;
        return error_set_errno(err, "could not remove file \"%s\"", path);
    }
    if (fd < 0)
        return error_set_errno(err, "could not open directory \"%s\"", path);
    if (fstat(fd, &info) != 0) {
        error_set_errno(err, "could not stat directory \"%s\"", path);
        close(fd);
        return false;
    }
    if (device != 0 && info.st_dev != device) {
        close(fd);
        error_set(err, ERROR_SYSTEM, "could not remove directory \"%s\": it is a mount point",
                  path);
        return error_hint(err, "Unmount it, or remove by hand what is not wanted.");
    }
    if (!files_remove_contents(fd, path, info.st_dev, err))
        return false;
    if (unlinkat(directory, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
        return error_set_errno(err, "could not remove directory \"%s\"", path);
    return true;
}

bool files_remove_tree(const char *path, struct error *err)
{
    return files_remove_entry(AT_FDCWD, path, path, 0, err);
}

bool files_emptiness(const char *path, enum files_emptiness *result, struct error *err)
{
    DIR *stream = opendir(path);
    struct dirent *entry;

    if (!stream) {
        if (errno != ENOENT && errno != ENOTDIR)
            return error_set_errno(err, "could not open directory \"%s\"", path);
        struct stat info;
        *result = lstat(path, &info) == 0 ? FILES_NOT_DIRECTORY : FILES_ABSENT;
        return true;
    }
    do {
        errno = 0;
        entry = readdir(stream);
    } while (entry && (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0));
    bool ok = entry || errno == 0;
    if (ok)
        *result = entry ? FILES_NOT_EMPTY : FILES_EMPTY;
    else
        error_set_errno(err, "could not read directory \"%s\"", path);
    closedir(stream);
    return ok;
}

bool files_absolute(const char *path, char **absolute, struct error *err)
{
    if (path[0] == '\0')
        return error_set(err, ERROR_USAGE, "a path must not be empty");
    if (path[0] == '/') {
        *absolute = files_join(path, "");
        return true;
    }
    char *current = getcwd(NULL, 0);
    if (!current)
        return error_set_errno(err, "could not find out the current directory");
    while (path[0] == '.' && (path[1] == '/' || path[1] == '\0')) {
        path++;
        while (path[0] == '/')
            path++;
    }
    *absolute = files_join(current, path);
    free(current);
    return true;
}

char *files_join(const char *directory, const char *name)
{
    char *path = mem_printf("%s%s%s", directory, directory[0] && name[0] ? "/" : "", name);
    char *to = path;

    for (const char *from = path; *from != '\0'; from++) {
        if (*from != '/' || to == path || to[-1] != '/')
            *to++ = *from;
    }
    if (to > path + 1 && to[-1] == '/')
        to--;
    *to = '\0';
    return path;
}

static bool files_pread_loop(int fd, const char *path, void *data, size_t length, uint64_t offset,
                             size_t *got, struct error *err)
{
    size_t done = 0;

    while (done < length) {
        ssize_t count = pread(fd, (char *)data + done, length - done, (off_t)(offset + done));
        if (count == 0)
            break;
        if (count > 0)
            done += (size_t)count;
        else if (errno != EINTR)
            return error_set_errno(err, "could not read file \"%s\"", path);
    }
    *got = done;
    return true;
}

/*
 * For kernels and file systems without RWF_DONTCACHE. Pages that were not in the cache before the
 * read are dropped after it; runs of them, as a database's hot pages lie between cold ones. Reading
 * ahead is switched off for the descriptor, as its pages would be taken for others' next time.
 */
static bool files_pread_dropping(int fd, const char *path, void *data, size_t length,
                                 uint64_t offset, size_t *got, struct error *err)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const uint64_t start = offset - offset % page;
    const size_t pages = (size_t)((offset - start + length + page - 1) / page);
    unsigned char *resident = NULL;
    void *mapping = mmap(NULL, pages * page, PROT_READ, MAP_SHARED, fd, (off_t)start);

    if (mapping != MAP_FAILED) {
        resident = mem_alloc(pages);
        if (mincore(mapping, pages * page, resident) != 0)
            memset(resident, 1, pages);
        munmap(mapping, pages * page);
        posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    }
    bool ok = files_pread_loop(fd, path, data, length, offset, got, err);
    for (size_t i = 0; resident && i < pages;) {
        size_t run = 0;
        while (i + run < pages && !(resident[i + run] & 1))
            run++;
        if (run > 0)
            posix_fadvise(fd, (off_t)(start + i * page), (off_t)(run * page), POSIX_FADV_DONTNEED);
        i += run > 0 ? run : 1;
    }
    free(resident);
    return ok;
}

bool files_pread_uncached(int fd, const char *path, void *data, size_t length, uint64_t offset,
                          size_t *got, struct error *err)
{
    static atomic_bool refused; /* one file system's refusal makes do for all: it is only speed */
    size_t done = 0;

    if (offset > INT64_MAX - length || length > SSIZE_MAX)
        return error_set(err, ERROR_SYSTEM, "could not read file \"%s\": offset out of range",
                         path);

    while (done < length && !atomic_load_explicit(&refused, memory_order_relaxed)) {
        struct iovec part = {.iov_base = (char *)data + done, .iov_len = length - done};
        ssize_t count = preadv2(fd, &part, 1, (off_t)(offset + done), RWF_DONTCACHE);
        if (count > 0) {
            done += (size_t)count;
        } else if (count == 0) {
            *got = done;
            return true;
        } else if (errno == EOPNOTSUPP || errno == EINVAL || errno == ENOSYS) {
            atomic_store_explicit(&refused, true, memory_order_relaxed);
        } else if (errno != EINTR) {
            return error_set_errno(err, "could not read file \"%s\"", path);
        }
    }
    size_t more = 0;
    if (done < length && !files_pread_dropping(fd, path, (char *)data + done, length - done,
                                               offset + done, &more, err))
        return false;
    *got = done + more;
    return true;
}
