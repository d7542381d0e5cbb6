/* file_tree.c - the file store's directories: opening, making, making durable */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"
#include "store/file.h"

#define DIRECTORY_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC)

static const char *hint_for(int error_number)
{
    switch (error_number) {
    case ENOSPC:
    case EDQUOT:
        return "make room on that file system, or raise the quota";
    case EACCES:
    case EPERM:
        return "everything in the repository's directory must belong to the user that pgvigil runs "
               "as";
    case EROFS:
        return "the file system is mounted read-only, perhaps by the kernel after an error: see "
               "its log";
    case EIO:
        return "the disk or its connection may be failing: see the kernel's log";
    case ESTALE:
    case ENOTCONN:
    case EHOSTDOWN:
        return "the network file system has lost its server or directory: mount it again";
    case ELOOP:
        return "symbolic links inside a repository are not followed: use a bind mount for the "
               "whole of it";
    case EXDEV:
        return "a repository must lie within one file system";
    case EMFILE:
    case ENFILE:
        return "raise the limit of open files (ulimit -n)";
    default:
        return NULL;
    }
}

static bool blame_store(int error_number, struct error *err)
{
    const char *hint = hint_for(error_number);

    err->code = ERROR_STORE;
    return hint ? error_hint(err, "%s", hint) : false;
}

bool file_tree_failed(const struct file_store *store, const char *doing, const char *name,
                      struct error *err)
{
    int error_number = errno;

    error_set_errno(err, "could not %s object \"%s\" in \"%s\"", doing, name, store->base.url);
    return blame_store(error_number, err);
}

bool file_tree_absent(const struct file_store *store, const char *name, struct error *err)
{
    return error_set(err, ERROR_NOT_FOUND, "object \"%s\" does not exist in \"%s\"", name,
                     store->base.url);
}

void file_tree_info(const struct stat *status, struct store_info *info)
{
    info->size = (uint64_t)status->st_size;
    info->modified = (int64_t)status->st_mtim.tv_sec * 1000000 + status->st_mtim.tv_nsec / 1000;
}

/* Is it the directory that was opened first? */
static bool check_root(struct file_store *store, int root, struct error *err)
{
    struct stat status;
    bool same;

    if (fstat(root, &status) != 0) {
        error_set_errno(err, "could not look up directory \"%s\"", store->root);
        return blame_store(errno, err);
    }
    pthread_mutex_lock(&store->lock);
    if (!store->root_seen) {
        store->root_seen = true;
        store->root_device = status.st_dev;
        store->root_inode = status.st_ino;
    }
    same = store->root_device == status.st_dev && store->root_inode == status.st_ino;
    pthread_mutex_unlock(&store->lock);
    if (same)
        return true;
    error_set(err, ERROR_STORE, "directory \"%s\" of repository \"%s\" is another one than before",
              store->root, store->base.url);
    return error_hint(err, "was its file system mounted or unmounted just now?");
}

bool file_tree_open_root(struct file_store *store, int *root, struct error *err)
{
    *root = open(store->root, DIRECTORY_FLAGS);
    if (*root >= 0) {
        if (check_root(store, *root, err))
            return true;
        close(*root);
        return false;
    }

    int error_number = errno;

    if (error_number == ENOENT) {
        error_set(err, ERROR_STORE, "directory \"%s\" of repository \"%s\" does not exist",
                  store->root, store->base.url);
        return error_hint(err, "is its file system mounted? A new repository is made by `%s init`",
                          process_command());
    }
    error_set_errno(err, "could not open directory \"%s\" of repository \"%s\"", store->root,
                    store->base.url);
    return blame_store(error_number, err);
}

/* Opens one component. Where it is no directory errno tells what it is: ENOENT for an object, which
 * has nothing below it, ELOOP for a symbolic link. */
static int open_component(int parent, const char *component)
{
    int fd = openat(parent, component, DIRECTORY_FLAGS | O_NOFOLLOW);
    struct stat status;

    if (fd >= 0 || errno != ENOTDIR)
        return fd;
    if (fstatat(parent, component, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return -1;
    errno = S_ISREG(status.st_mode) ? ENOENT : S_ISLNK(status.st_mode) ? ELOOP : ENOTDIR;
    return -1;
}

/* Opens one component, making it first where it is not there. */
static int make_component(int parent, const char *component)
{
    int fd = open_component(parent, component);

    if (fd >= 0 || errno != ENOENT)
        return fd;
    if (mkdirat(parent, component, 0700) != 0 && errno != EEXIST)
        return -1;
    return openat(parent, component, DIRECTORY_FLAGS | O_NOFOLLOW);
}

static bool is_known(struct file_store *store, const char *path, const struct stat *status)
{
    bool found = false;

    pthread_mutex_lock(&store->lock);
    for (unsigned i = 0; i < FILE_KNOWN_MAXIMUM && !found; i++) {
        const struct file_known *known = &store->known[i];

        found = known->path && known->device == status->st_dev && known->inode == status->st_ino &&
                strcmp(known->path, path) == 0;
    }
    pthread_mutex_unlock(&store->lock);
    return found;
}

static void remember(struct file_store *store, const char *path, const struct stat *status)
{
    char *copy = mem_strdup(path);

    pthread_mutex_lock(&store->lock);
    struct file_known *known = &store->known[store->known_next];
    store->known_next = (store->known_next + 1) % FILE_KNOWN_MAXIMUM;
    free(known->path);
    *known = (struct file_known){.path = copy, .device = status->st_dev, .inode = status->st_ino};
    pthread_mutex_unlock(&store->lock);
}

void file_tree_forget(struct file_store *store)
{
    for (unsigned i = 0; i < FILE_KNOWN_MAXIMUM; i++)
        free(store->known[i].path);
}

/* Makes the entry of an open directory in its parent durable, unless this store did so before. */
static bool sync_entry(struct file_store *store, int parent, int child, const char *path)
{
    struct stat status;

    if (fstat(child, &status) != 0)
        return false;
    if (is_known(store, path, &status))
        return true;
    if (fsync(parent) != 0)
        return false;
    remember(store, path, &status);
    return true;
}

/* Goes from an open directory to the one in it that ends path. Closes the parent. -1 and errno. */
static int step(struct file_store *store, int parent, const char *path, enum file_way way)
{
    const char *slash = strrchr(path, '/');
    const char *component = slash ? slash + 1 : path;
    int child = way == FILE_WAY_MAKE ? make_component(parent, component)
                                     : open_component(parent, component);
    bool done = child >= 0 && (way == FILE_WAY_FOLLOW || sync_entry(store, parent, child, path));
    int error_number = errno;

    close(parent);
    if (!done && child >= 0)
        close(child);
    errno = error_number;
    return done ? child : -1;
}

bool file_tree_walk(struct file_store *store, int root, const char *name, enum file_way way,
                    const char *doing, int *directory, const char **last, struct error *err)
{
    char path[STORE_NAME_MAXIMUM + 1];
    int fd = fcntl(root, F_DUPFD_CLOEXEC, 0);
    const char *slash = name;

    while (fd >= 0 && (slash = strchr(slash, '/')) != NULL) {
        size_t length = (size_t)(slash - name);

        memcpy(path, name, length);
        path[length] = '\0';
        fd = step(store, fd, path, way);
        slash++;
    }
    if (fd < 0)
        return errno == ENOENT && way != FILE_WAY_MAKE ? file_tree_absent(store, name, err)
                                                       : file_tree_failed(store, doing, name, err);

    const char *last_slash = strrchr(name, '/');

    *directory = fd;
    *last = last_slash ? last_slash + 1 : name;
    return true;
}

/* Those above the root may be closed to us, or lie on something that cannot be synced; then they
 * were not made by us either. */
static bool sync_above(char *path, struct error *err)
{
    char *slash;

    while ((slash = strrchr(path, '/')) != NULL) {
        slash[slash == path ? 1 : 0] = '\0';

        int fd = open(path, DIRECTORY_FLAGS);
        int failed = fd < 0 ? errno : fsync(fd) != 0 ? errno : 0;

        if (fd >= 0)
            close(fd);
        if (failed != 0 && failed != EACCES && failed != EINVAL && failed != EROFS) {
            errno = failed;
            error_set_errno(err, "could not sync directory \"%s\"", path);
            return blame_store(failed, err);
        }
        if (slash == path)
            break;
    }
    return true;
}

bool file_tree_create_root(struct file_store *store, struct error *err)
{
    int root;

    if (!files_make_directories(store->root, err)) {
        err->code = ERROR_STORE;
        return error_context(err, "could not make repository \"%s\"", store->base.url);
    }
    if (!file_tree_open_root(store, &root, err))
        return false;
    close(root);

    /* Also where it was there before: whoever made it may have been killed before its fsync. */
    char *path = mem_strdup(store->root);
    bool done = sync_above(path, err);

    free(path);
    return done;
}
