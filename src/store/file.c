/* file.c - the file store's table and its objects; file.h says how it works */
#include "store/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgvigil/files.h"
#include "pgvigil/mem.h"

#define SCHEME "file://"
#define TEMPORARY_DIRECTORY ".tmp"
#define TEMPORARY_NAME_SIZE 17      /* 16 hex digits */
#define LEFTOVER_AGE (24 * 60 * 60) /* s; no put lasts as long */
#define READ_SIZE ((size_t)256 * 1024)

struct file_put {
    struct store_put base;
    int root;
    int temporary_directory;
    int fd;
    bool broken; /* a write failed */
    char temporary[TEMPORARY_NAME_SIZE];
};

static struct file_store *file_store(struct store *store)
{
    return (struct file_store *)store;
}

static bool open_temporary_directory(int root, int *fd)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW;

    *fd = openat(root, TEMPORARY_DIRECTORY, flags);
    if (*fd >= 0 || errno != ENOENT)
        return *fd >= 0;
    if (mkdirat(root, TEMPORARY_DIRECTORY, 0700) != 0 && errno != EEXIST)
        return false;
    *fd = openat(root, TEMPORARY_DIRECTORY, flags);
    return *fd >= 0;
}

static bool create_temporary(struct file_put *put)
{
    uint64_t random;

    if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
        return false;
    snprintf(put->temporary, sizeof(put->temporary), "%016" PRIx64, random);
    put->fd = openat(put->temporary_directory, put->temporary,
                     O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    return put->fd >= 0;
}

/* Removes what killed processes left, once in the life of a store. Ages are by the file system's
 * clock. A failure is no concern of the put that happens to come first. */
static void sweep(struct file_store *store, const struct file_put *put)
{
    struct stat now, status;
    struct dirent *entry;
    DIR *stream;
    int fd;

    if (atomic_flag_test_and_set(&store->swept) || fstat(put->fd, &now) != 0)
        return;
    fd = openat(put->temporary_directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    stream = fdopendir(fd);
    if (!stream) {
        close(fd);
        return;
    }
    while ((entry = readdir(stream)) != NULL)
        if (fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(status.st_mode) && status.st_mtim.tv_sec < now.st_mtim.tv_sec - LEFTOVER_AGE)
            unlinkat(fd, entry->d_name, 0);
    closedir(stream);
}

static void put_free(struct file_put *put)
{
    if (put->fd >= 0)
        close(put->fd);
    if (put->temporary_directory >= 0)
        close(put->temporary_directory);
    close(put->root);
    free(put->base.name);
    free(put);
}

static bool put_begin(struct store *base, const char *name, struct store_put **result,
                      struct error *err)
{
    struct file_store *store = file_store(base);
    int root;

    if (!file_tree_open_root(store, &root, err))
        return false;

    struct file_put *put = mem_calloc(1, sizeof(*put));

    put->base.store = base;
    put->base.name = mem_strdup(name);
    put->root = root;
    put->temporary_directory = -1;
    put->fd = -1;
    if (!open_temporary_directory(root, &put->temporary_directory) || !create_temporary(put)) {
        file_tree_failed(store, "write", name, err);
        put_free(put);
        return false;
    }
    sweep(store, put);
    *result = &put->base;
    return true;
}

static bool put_write(struct store_put *base, const void *data, size_t length, struct error *err)
{
    struct file_put *put = (struct file_put *)base;
    const unsigned char *at = data;

    while (length > 0) {
        ssize_t written = write(put->fd, at, length);

        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0) {
            put->broken = true;
            return file_tree_failed(file_store(base->store), "write", base->name, err);
        }
        at += written;
        length -= (size_t)written;
    }
    return true;
}

/* Gives the temporary file its name, replacing nothing. */
static bool give_name(const struct file_put *put, int directory, const char *last)
{
    if (renameat2(put->temporary_directory, put->temporary, directory, last, RENAME_NOREPLACE) == 0)
        return true;
    if (errno != EINVAL && errno != ENOSYS)
        return false;
    /* The file system (NFS is one) cannot rename like that, but a link replaces nothing either. If
     * we are killed in between, the second name is swept as a leftover some day. */
    if (linkat(put->temporary_directory, put->temporary, directory, last, 0) != 0)
        return false;
    unlinkat(put->temporary_directory, put->temporary, 0);
    return true;
}

/* The name exists. That is an answer only if an object bears it. */
static bool name_is_taken(const struct file_put *put, int directory, const char *last,
                          struct error *err)
{
    struct stat status;

    if (fstatat(directory, last, &status, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT) /* it did exist, a moment ago */
            return true;
    } else if (S_ISREG(status.st_mode)) {
        return true;
    } else {
        errno = S_ISDIR(status.st_mode) ? EISDIR : S_ISLNK(status.st_mode) ? ELOOP : EEXIST;
    }
    return file_tree_failed(file_store(put->base.store), "write", put->base.name, err);
}

static bool publish(struct file_put *put, int directory, const char *last,
                    enum store_outcome *outcome, struct error *err)
{
    struct file_store *store = file_store(put->base.store);

    if (!give_name(put, directory, last)) {
        if (errno != EEXIST)
            return file_tree_failed(store, "write", put->base.name, err);
        *outcome = STORE_TAKEN;
        return name_is_taken(put, directory, last, err);
    }
    put->temporary[0] = '\0'; /* gone */
    *outcome = STORE_STORED;
    return fsync(directory) == 0 || file_tree_failed(store, "write", put->base.name, err);
}

static bool commit(struct file_put *put, enum store_outcome *outcome, struct error *err)
{
    struct file_store *store = file_store(put->base.store);
    const char *last;
    int directory;

    if (put->broken)
        return error_set(err, ERROR_STORE,
                         "could not write object \"%s\" in \"%s\": a part of it was not written",
                         put->base.name, store->base.url);
    if (fsync(put->fd) != 0)
        return file_tree_failed(store, "write", put->base.name, err);
    posix_fadvise(put->fd, 0, 0, POSIX_FADV_DONTNEED);

    if (!file_tree_walk(store, put->root, put->base.name, FILE_WAY_MAKE, "write", &directory, &last,
                        err))
        return false;

    bool done = publish(put, directory, last, outcome, err);

    close(directory);
    return done;
}

static void put_abort(struct store_put *base)
{
    struct file_put *put = (struct file_put *)base;

    if (put->temporary[0] != '\0')
        unlinkat(put->temporary_directory, put->temporary, 0);
    put_free(put);
}

static bool put_commit(struct store_put *base, enum store_outcome *outcome, struct error *err)
{
    bool done = commit((struct file_put *)base, outcome, err);

    put_abort(base); /* removes what did not get a name */
    return done;
}

/* Checks that what was found under an object's name is a file. */
static bool check_object(const struct file_store *store, const char *name, const char *doing,
                         const struct stat *status, struct error *err)
{
    if (S_ISREG(status->st_mode))
        return true;
    if (S_ISDIR(status->st_mode))
        return file_tree_absent(store, name, err);
    errno = S_ISLNK(status->st_mode) ? ELOOP : EBADF;
    return file_tree_failed(store, doing, name, err);
}

/* Opens an object to read, with the directory that holds it (both closed by the caller). */
static bool open_object(struct file_store *store, const char *name, enum file_way way,
                        const char *doing, int *directory, int *fd, struct stat *status,
                        struct error *err)
{
    const char *last;
    int root;

    if (!file_tree_open_root(store, &root, err))
        return false;

    bool found = file_tree_walk(store, root, name, way, doing, directory, &last, err);

    close(root);
    if (!found)
        return false;
    /* O_NONBLOCK has no meaning for files; without it a FIFO would keep us waiting. */
    *fd = openat(*directory, last, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (*fd < 0)
        found = errno == ENOENT ? file_tree_absent(store, name, err)
                                : file_tree_failed(store, doing, name, err);
    else if (fstat(*fd, status) != 0)
        found = file_tree_failed(store, doing, name, err);
    else
        found = check_object(store, name, doing, status, err);
    if (!found) {
        if (*fd >= 0)
            close(*fd);
        close(*directory);
    }
    return found;
}

static bool read_range(const struct file_store *store, const char *name, int fd, uint64_t offset,
                       uint64_t end, store_sink sink, void *context, struct error *err)
{
    size_t size = end - offset < READ_SIZE ? (size_t)(end - offset) : READ_SIZE;
    unsigned char *buffer = mem_alloc(size > 0 ? size : 1);
    char *path = mem_printf("%s/%s", store->root, name);
    bool done = true;

    while (done && offset < end) {
        size_t wanted = end - offset < size ? (size_t)(end - offset) : size;
        size_t got = 0;

        if (!files_pread_uncached(fd, path, buffer, wanted, offset, &got, err)) {
            err->code = ERROR_STORE;
            done =
                error_context(err, "could not read object \"%s\" in \"%s\"", name, store->base.url);
        } else if (got < wanted) {
            done = error_set(err, ERROR_STORE,
                             "object \"%s\" in \"%s\" became shorter while it was read", name,
                             store->base.url);
        } else {
            done = sink(buffer, got, context, err);
        }
        offset += got;
    }
    free(path);
    free(buffer);
    return done;
}

static bool get(struct store *base, const char *name, uint64_t offset, uint64_t length,
                store_sink sink, void *context, struct error *err)
{
    struct file_store *store = file_store(base);
    struct stat status;
    int directory, fd;
    bool done = true;

    if (!open_object(store, name, FILE_WAY_FOLLOW, "read", &directory, &fd, &status, err))
        return false;

    uint64_t size = (uint64_t)status.st_size;

    if (offset < size)
        done = read_range(store, name, fd, offset, length < size - offset ? offset + length : size,
                          sink, context, err);
    close(fd);
    close(directory);
    return done;
}

/* Finds the directory of an object from the root on. */
static bool find_directory(struct file_store *store, const char *name, const char *doing,
                           int *directory, const char **last, struct error *err)
{
    int root;

    if (!file_tree_open_root(store, &root, err))
        return false;

    bool found = file_tree_walk(store, root, name, FILE_WAY_FOLLOW, doing, directory, last, err);

    close(root);
    return found;
}

static bool stat_object(struct store *base, const char *name, struct store_info *info,
                        struct error *err)
{
    struct file_store *store = file_store(base);
    struct stat status;
    const char *last;
    int directory;
    bool found;

    if (!find_directory(store, name, "look up", &directory, &last, err))
        return false;
    if (fstatat(directory, last, &status, AT_SYMLINK_NOFOLLOW) == 0)
        found = check_object(store, name, "look up", &status, err);
    else
        found = errno == ENOENT ? file_tree_absent(store, name, err)
                                : file_tree_failed(store, "look up", name, err);
    close(directory);
    if (found)
        file_tree_info(&status, info);
    return found;
}

static bool sync_object(struct store *base, const char *name, struct error *err)
{
    struct file_store *store = file_store(base);
    struct stat status;
    int directory, fd;

    if (!open_object(store, name, FILE_WAY_SYNC, "sync", &directory, &fd, &status, err))
        return false;

    bool done =
        (fsync(fd) == 0 && fsync(directory) == 0) || file_tree_failed(store, "sync", name, err);

    close(fd);
    close(directory);
    return done;
}

static bool remove_object(struct store *base, const char *name, struct error *err)
{
    struct file_store *store = file_store(base);
    const char *last;
    int directory;

    if (!find_directory(store, name, "remove", &directory, &last, err)) {
        if (err->code != ERROR_NOT_FOUND)
            return false;
        error_clear(err);
        return true;
    }

    /* The directory is synced in any case: who removed the object before us may not have done it. A
     * directory of that name is no object, so there is none (EISDIR). */
    bool done = ((unlinkat(directory, last, 0) == 0 || errno == ENOENT || errno == EISDIR) &&
                 fsync(directory) == 0) ||
                file_tree_failed(store, "remove", name, err);

    close(directory);
    return done;
}

static bool create_place(struct store *store, struct error *err)
{
    return file_tree_create_root(file_store(store), err);
}

static void close_store(struct store *base)
{
    struct file_store *store = file_store(base);

    file_tree_forget(store);
    pthread_mutex_destroy(&store->lock);
    free(store->root);
    free(base->url);
    free(store);
}

static const struct store_driver driver = {
    .scheme = "file",
    .put_begin = put_begin,
    .put_write = put_write,
    .put_commit = put_commit,
    .put_abort = put_abort,
    .get = get,
    .stat = stat_object,
    .list = file_list,
    .sync = sync_object,
    .remove = remove_object,
    .create_place = create_place,
    .close = close_store,
};

bool file_open(const char *url, struct store **result, struct error *err)
{
    const char *path = url + strlen(SCHEME);
    size_t length = strlen(path);

    while (length > 1 && path[length - 1] == '/')
        length--;
    if (path[0] != '/' || length < 2) {
        error_set(err, ERROR_CONFIG, "\"%s\" does not name a directory for a repository", url);
        return error_hint(err, "write an absolute path behind \"file://\", as in "
                               "file:///var/lib/pgvigil");
    }

    struct file_store *store = mem_calloc(1, sizeof(*store));

    store->base.driver = &driver;
    store->base.url = mem_strdup(url);
    store->root = mem_strndup(path, length);
    atomic_flag_clear(&store->swept);
    pthread_mutex_init(&store->lock, NULL);
    *result = &store->base;
    return true;
}
