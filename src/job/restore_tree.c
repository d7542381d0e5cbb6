/*
 * restore_tree.c - directories and files of a restore
 */
#include "job/restore_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pgvigil/control.h"
#include "pgvigil/digest.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "pgvigil/units.h"

#define TABLESPACE_DIRECTORY "pg_tblspc/"
#define OPEN_ATTEMPTS 100

/* The target, or a tablespace. */
struct root {
    const char *path;
    int fd;
};

struct restore_tree {
    const struct restore_place *place;
    struct root *roots; /* the target, then the tablespaces in the place's order */
    size_t count;
    char *marker; /* its text */
    const char *marker_name;
};

static int open_beneath(int root, const char *path, int flags)
{
    const struct open_how how = {.flags = (uint64_t)(flags | O_CLOEXEC),
                                 .mode = flags & O_CREAT ? 0600 : 0,
                                 .resolve =
                                     RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};

    /* EAGAIN: something was renamed somewhere meanwhile, so that the kernel cannot be sure. */
    for (int i = 0; i < OPEN_ATTEMPTS; i++) {
        const long fd = syscall(SYS_openat2, root, path, &how, sizeof how);

        if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
            return (int)fd;
    }
    return -1;
}

/* "pg_tblspc/<oid>/..." of a tablespace lies in its location, the rest in the target. */
static size_t locate(const struct restore_tree *tree, const char *path, const char **relative)
{
    const size_t prefix = strlen(TABLESPACE_DIRECTORY);

    *relative = path;
    if (strncmp(path, TABLESPACE_DIRECTORY, prefix) != 0)
        return 0;
    for (size_t i = 0; i < tree->place->count; i++) {
        char oid[16];
        const int length = snprintf(oid, sizeof oid, "%" PRIu32, tree->place->tablespaces[i].oid);

        if (strncmp(path + prefix, oid, (size_t)length) == 0 && path[prefix + length] == '/') {
            *relative = path + prefix + length + 1;
            return i + 1;
        }
    }
    return 0;
}

int restore_tree_descriptor(const struct restore_tree *tree, size_t root)
{
    return tree->roots[root].fd;
}

size_t restore_tree_root(const struct restore_tree *tree, const char *path)
{
    const char *relative;

    return locate(tree, path, &relative);
}

static int open_path(const struct restore_tree *tree, const char *path, int flags)
{
    const char *relative;
    const size_t root = locate(tree, path, &relative);

    return open_beneath(tree->roots[root].fd, relative, flags);
}

/* Opens the directory that `path` lies in; *base is its last component. */
static bool open_parent(const struct restore_tree *tree, const char *path, int *fd,
                        const char **base, struct error *err)
{
    const char *relative;
    const struct root *root = &tree->roots[locate(tree, path, &relative)];
    const char *slash = strrchr(relative, '/');

    *base = slash ? slash + 1 : relative;
    if (slash == NULL) {
        *fd = open_beneath(root->fd, ".", O_RDONLY | O_DIRECTORY);
    } else {
        char *parent = mem_strndup(relative, (size_t)(slash - relative));

        *fd = open_beneath(root->fd, parent, O_RDONLY | O_DIRECTORY);
        free(parent);
    }
    return *fd >= 0 || error_set_errno(err, "could not open the directory of \"%s\" in \"%s\"",
                                       path, tree->place->path);
}

bool restore_tree_make_directory(struct restore_tree *tree, const char *path, struct error *err)
{
    const char *base;
    bool ok = true;
    int parent;

    if (!open_parent(tree, path, &parent, &base, err))
        return false;
    if (mkdirat(parent, base, 0700) != 0 && errno != EEXIST)
        ok = error_set_errno(err, "could not make directory \"%s\" in \"%s\"", path,
                             tree->place->path);
    close(parent);
    return ok;
}

/* What is in a file that was there; its permissions become those of a new one. */
static bool take_file(int fd, uint64_t size, uint64_t *kept)
{
    struct stat status;

    if (fstat(fd, &status) != 0 || fchmod(fd, 0600) != 0)
        return false;
    *kept = (uint64_t)status.st_size < size ? (uint64_t)status.st_size : size;
    return ftruncate(fd, (off_t)size) == 0;
}

bool restore_tree_make_file(struct restore_tree *tree, const char *path, uint64_t size,
                            uint64_t *kept, struct error *err)
{
    const int existing =
        tree->place->mode == RESTORE_DELTA ? open_path(tree, path, O_WRONLY | O_NONBLOCK) : -1;
    const int fd = existing >= 0 ? existing : open_path(tree, path, O_WRONLY | O_CREAT | O_EXCL);
    bool ok = true;

    *kept = 0;
    if (fd < 0)
        return error_set_errno(err, "could not make file \"%s\" in \"%s\"", path,
                               tree->place->path);
    if (existing >= 0 ? !take_file(fd, size, kept) : size > 0 && ftruncate(fd, (off_t)size) != 0)
        ok = error_set_errno(err, "could not make file \"%s\" in \"%s\" %" PRIu64 " bytes long",
                             path, tree->place->path, size);
    close(fd);
    return ok;
}

static const struct restore_place_tablespace *find_tablespace(const struct restore_place *place,
                                                              const char *path)
{
    for (size_t i = 0; i < place->count; i++) {
        char link[32];

        snprintf(link, sizeof link, TABLESPACE_DIRECTORY "%" PRIu32, place->tablespaces[i].oid);
        if (strcmp(path, link) == 0)
            return &place->tablespaces[i];
    }
    return NULL;
}

bool restore_tree_make_link(struct restore_tree *tree, const char *path, const char *from,
                            struct error *err)
{
    const struct restore_place_tablespace *tablespace = find_tablespace(tree->place, path);
    const char *base;
    bool ok = true;
    int parent;

    if (tablespace == NULL || strcmp(tablespace->from, from) != 0)
        return error_set(err, ERROR_INTEGRITY,
                         "manifest and backup.json disagree about tablespace \"%s\"", path);
    if (!open_parent(tree, path, &parent, &base, err))
        return false;
    if (symlinkat(tablespace->to, parent, base) != 0 &&
        (errno != EEXIST || tree->place->mode == RESTORE_ANEW))
        ok = error_set_errno(err, "could not make symbolic link \"%s\" in \"%s\"", path,
                             tree->place->path);
    close(parent);
    return ok;
}

bool restore_tree_set_mode(struct restore_tree *tree, const char *path, mode_t mode,
                           struct error *err)
{
    const int fd = open_path(tree, path, O_RDONLY | O_NONBLOCK);
    const bool ok = fd >= 0 && fchmod(fd, mode) == 0;

    if (!ok)
        error_set_errno(err, "could not set permissions of \"%s\" in \"%s\"", path,
                        tree->place->path);
    if (fd >= 0)
        close(fd);
    return ok;
}

bool restore_tree_open(struct restore_tree *tree, const char *path, int *fd, struct error *err)
{
    *fd = open_path(tree, path, O_RDWR);
    return *fd >= 0 ||
           error_set_errno(err, "could not open file \"%s\" in \"%s\"", path, tree->place->path);
}

bool restore_tree_write(struct restore_tree *tree, const char *path, const void *data,
                        size_t length, struct error *err)
{
    const int fd = open_path(tree, path, O_WRONLY | O_CREAT | O_TRUNC);
    bool ok;

    if (fd < 0)
        return error_set_errno(err, "could not open file \"%s\" in \"%s\"", path,
                               tree->place->path);
    ok = files_write_fd(fd, path, data, length, err);
    close(fd);
    return ok;
}

bool restore_tree_read(struct restore_tree *tree, const char *path, size_t maximum,
                       struct buffer *buffer, struct error *err)
{
    const int fd = open_path(tree, path, O_RDONLY);
    size_t got = 0;
    bool ok;

    if (fd < 0) {
        const bool absent = errno == ENOENT;

        error_set_errno(err, "could not open file \"%s\" in \"%s\"", path, tree->place->path);
        if (absent)
            err->code = ERROR_NOT_FOUND;
        return false;
    }
    buffer_reserve(buffer, maximum + 1);
    ok = files_read_fd(fd, path, buffer->data + buffer->length, maximum + 1, &got, err);
    if (ok && got > maximum)
        ok = error_set(err, ERROR_INTEGRITY, "file \"%s\" in \"%s\" is larger than %zu bytes", path,
                       tree->place->path, maximum);
    if (ok)
        buffer->length += got;
    buffer->data[buffer->length] = '\0';
    close(fd);
    return ok;
}

bool restore_tree_temporary(struct restore_tree *tree, int *fd, struct error *err)
{
    static const char name[] = "pgvigil.plan";
    const int root = tree->roots[0].fd;

    *fd = openat(root, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);
    if (*fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT)) {
        *fd = open_beneath(root, name, O_RDWR | O_CREAT | O_EXCL);
        if (*fd >= 0)
            unlinkat(root, name, 0);
    }
    return *fd >= 0 ||
           error_set_errno(err, "could not make a temporary file in \"%s\"", tree->place->path);
}

/* All bytes that go to the file system of root `i`, if none before it lies there. */
static uint64_t bytes_on(const struct stat *status, const uint64_t *bytes, size_t count, size_t i)
{
    uint64_t sum = 0;

    for (size_t j = 0; j < count; j++) {
        if (status[j].st_dev != status[i].st_dev)
            continue;
        if (j < i)
            return 0;
        sum += bytes[j];
    }
    return sum;
}

bool restore_tree_check_space(struct restore_tree *tree, const uint64_t *bytes, struct error *err)
{
    struct stat *status = mem_calloc(tree->count, sizeof *status);
    bool ok = true;

    for (size_t i = 0; ok && i < tree->count; i++)
        if (fstat(tree->roots[i].fd, &status[i]) != 0)
            ok = error_set_errno(err, "could not stat \"%s\"", tree->roots[i].path);
    for (size_t i = 0; ok && i < tree->count; i++) {
        const uint64_t needed = bytes_on(status, bytes, tree->count, i);
        char need[UNITS_TEXT_SIZE], have[UNITS_TEXT_SIZE];
        struct statvfs fs;

        if (fstatvfs(tree->roots[i].fd, &fs) != 0) {
            ok = error_set_errno(err, "could not ask for the space left in \"%s\"",
                                 tree->roots[i].path);
        } else if (needed / fs.f_frsize > fs.f_bavail) {
            ok = error_set(err, ERROR_SYSTEM, "not enough space for \"%s\": %s needed, %s free",
                           tree->roots[i].path, units_format_size(needed, need),
                           units_format_size((uint64_t)fs.f_bavail * fs.f_frsize, have));
            error_hint(err, "WAL that is replayed needs room as well");
        }
    }
    free(status);
    return ok;
}

/* Removes what is in a directory, but not itself: it may be a mount point. */
static bool empty_directory(const char *path, struct error *err)
{
    DIR *directory = opendir(path);
    struct dirent *entry;
    bool ok = true;

    if (directory == NULL)
        return error_set_errno(err, "could not open directory \"%s\"", path);
    while (ok && (errno = 0, entry = readdir(directory)) != NULL) {
        char *child;

        /* The mark goes last, so that what is left is known for what it is. */
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            strcmp(entry->d_name, RESTORE_PLACE_MARKER) == 0)
            continue;
        child = files_join(path, entry->d_name);
        ok = files_remove_tree(child, err);
        free(child);
    }
    if (ok && errno != 0)
        ok = error_set_errno(err, "could not read directory \"%s\"", path);
    closedir(directory);
    return ok;
}

static bool remove_mark(const char *path, const char *name, struct error *err)
{
    char *marker = files_join(path, name);
    bool ok = true;

    if (unlink(marker) != 0 && errno != ENOENT)
        ok = error_set_errno(err, "could not remove file \"%s\"", marker);
    free(marker);
    return ok;
}

/* restore_place_choose found these directories absent, empty, or with remains of a failed restore;
 * the tablespaces first, as the target's mark is what proves theirs. A mark goes only when it is
 * certain that nothing is left that would need it. */
static bool clear(const struct restore_tree *tree, struct error *err)
{
    /* In a directory that is kept, a mark is only what a crash left of a restore that was whole. */
    if (tree->place->mode == RESTORE_DELTA && !restore_place_is_remains(tree->place->path))
        return true;
    for (size_t i = tree->count; i-- > 0;) {
        const char *path = tree->roots[i].path;
        char *marker = files_join(path, RESTORE_PLACE_MARKER);
        const bool marked = access(marker, F_OK) == 0;

        free(marker);
        if (marked && (!empty_directory(path, err) || !files_sync(path, err) ||
                       !remove_mark(path, RESTORE_PLACE_MARKER, err)))
            return false;
    }
    return true;
}

/* A delta restore that is repeated finds its mark, which must not be gone for an instant. */
static bool mark_delta(const struct restore_tree *tree, const struct root *root, struct error *err)
{
    char *path = files_join(root->path, tree->marker_name);
    const bool ok = files_write(path, tree->marker, strlen(tree->marker), 0600, err);

    free(path);
    return ok;
}

static bool mark_new(const struct restore_tree *tree, const struct root *root, struct error *err)
{
    const int fd = open_beneath(root->fd, RESTORE_PLACE_MARKER, O_WRONLY | O_CREAT | O_EXCL);
    bool ok = fd >= 0;

    if (ok)
        ok = files_write_fd(fd, RESTORE_PLACE_MARKER, tree->marker, strlen(tree->marker), err) &&
             (fsync(fd) == 0 ||
              error_set_errno(err, "could not fsync a file in \"%s\"", root->path));
    else if (errno == EEXIST)
        error_set(err, ERROR_BUSY, "another restore to \"%s\" has just begun", root->path);
    else
        error_set_errno(err, "could not make a file in directory \"%s\"", root->path);
    if (fd >= 0)
        close(fd);
    return ok && (fsync(root->fd) == 0 ||
                  error_set_errno(err, "could not fsync directory \"%s\"", root->path));
}

static bool mark(const struct restore_tree *tree, const struct root *root, struct error *err)
{
    return tree->place->mode == RESTORE_DELTA ? mark_delta(tree, root, err)
                                              : mark_new(tree, root, err);
}

/* A target that is lost in a crash could not prove whose remains those in a tablespace are. */
static bool sync_parent(const char *path, struct error *err)
{
    char *parent = files_join(path, "..");
    const bool ok = files_sync(parent, err);

    free(parent);
    return ok;
}

/* The server refuses a data directory that others may look into. */
static bool make_root(struct root *root, struct error *err)
{
    struct stat status;

    if (mkdir(root->path, 0700) == 0) {
        if (!sync_parent(root->path, err))
            return false;
    } else if (errno != EEXIST) {
        error_set_errno(err, "could not make directory \"%s\"", root->path);
        return error_hint(err, "make it for the user who is to own the cluster");
    }
    root->fd = open(root->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (root->fd < 0 || fstat(root->fd, &status) != 0)
        return error_set_errno(err, "could not open directory \"%s\"", root->path);
    if ((status.st_mode & 027) != 0 && fchmod(root->fd, 0700) != 0)
        return error_set_errno(err, "could not set permissions of directory \"%s\"", root->path);
    return true;
}

/* What restore_place_choose found may be the work of a restore that still goes on: the lock lasts as
 * long as the descriptor. */
static bool lock_root(const struct root *root, struct error *err)
{
    if (flock(root->fd, LOCK_EX | LOCK_NB) == 0)
        return true;
    if (errno == EWOULDBLOCK)
        return error_set(err, ERROR_BUSY, "another restore to \"%s\" is running", root->path);
    return error_set_errno(err, "could not lock directory \"%s\"", root->path);
}

static bool make_roots(struct restore_tree *tree, struct error *err)
{
    for (size_t i = 0; i < tree->count; i++)
        if (!make_root(&tree->roots[i], err) || !lock_root(&tree->roots[i], err))
            return false;
    if (!restore_place_check(tree->place, err) || !clear(tree, err))
        return false;
    for (size_t i = 0; i < tree->count; i++)
        if (!mark(tree, &tree->roots[i], err))
            return false;
    return true;
}

/* A random id tells the marks of one restore from those of all others; those of delta restores onto one
 * directory are the same, as it is kept anyway. */
static bool make_marker(struct restore_tree *tree, const char *text, struct error *err)
{
    unsigned char id[16];
    char hex[2 * sizeof id + 1];

    if (tree->place->mode == RESTORE_DELTA) {
        tree->marker =
            mem_printf("%s\nsystem identifier %" PRIu64 "\n", text, tree->place->system_identifier);
        return true;
    }
    if (!digest_random(id, sizeof id, err))
        return false;
    tree->marker = mem_printf("%s\nid %s\n", text, digest_to_hex(id, sizeof id, hex));
    return true;
}

bool restore_tree_new(const struct restore_place *place, const char *text,
                      struct restore_tree **tree, struct error *err)
{
    struct restore_tree *made = mem_calloc(1, sizeof *made);

    made->place = place;
    made->count = place->count + 1;
    made->marker_name =
        place->mode == RESTORE_DELTA ? RESTORE_PLACE_DELTA_MARKER : RESTORE_PLACE_MARKER;
    made->roots = mem_calloc(made->count, sizeof *made->roots);
    for (size_t i = 0; i < made->count; i++)
        made->roots[i] =
            (struct root){.path = i == 0 ? place->path : place->tablespaces[i - 1].to, .fd = -1};
    if (!make_marker(made, text, err) || !make_roots(made, err)) {
        restore_tree_free(made);
        return false;
    }
    *tree = made;
    return true;
}

void restore_tree_free(struct restore_tree *tree)
{
    if (tree == NULL)
        return;
    for (size_t i = 0; i < tree->count; i++)
        if (tree->roots[i].fd >= 0)
            close(tree->roots[i].fd);
    free(tree->roots);
    free(tree->marker);
    free(tree);
}

static bool sync_roots(const struct restore_tree *tree, struct error *err)
{
    for (size_t i = 0; i < tree->count; i++)
        if (syncfs(tree->roots[i].fd) != 0)
            return error_set_errno(err, "could not sync the file system of \"%s\"",
                                   tree->roots[i].path);
    return true;
}

/* Last of all: a mark that is left over by a crash does no harm to a directory that is whole. */
static bool remove_marks(const struct restore_tree *tree, struct error *err)
{
    for (size_t i = 0; i < tree->count; i++) {
        const struct root *root = &tree->roots[i];

        if (!remove_mark(root->path, tree->marker_name, err))
            return false;
        if (fsync(root->fd) != 0)
            return error_set_errno(err, "could not fsync directory \"%s\"", root->path);
    }
    return true;
}

static bool name_control(const struct restore_tree *tree, struct error *err)
{
    const char *from, *to = strrchr(CONTROL_PATH, '/') + 1;
    int parent;
    bool ok;

    if (!open_parent(tree, RESTORE_TREE_CONTROL, &parent, &from, err))
        return false;
    ok = renameat2(parent, from, parent, to, RENAME_NOREPLACE) == 0 && fsync(parent) == 0;
    if (!ok)
        error_set_errno(err, "could not rename \"%s\" in \"%s\"", RESTORE_TREE_CONTROL,
                        tree->place->path);
    close(parent);
    return ok;
}

/* A restore that fails at its very end must not have left what starts, nor what the next one would
 * take for somebody's cluster. The mark may be gone by then. */
static void unname_control(const struct restore_tree *tree)
{
    const char *from, *to = strrchr(CONTROL_PATH, '/') + 1;
    struct error ignored = ERROR_INIT;
    int parent;

    if (!open_parent(tree, RESTORE_TREE_CONTROL, &parent, &from, &ignored))
        return;
    renameat2(parent, to, parent, from, RENAME_NOREPLACE);
    close(parent);
    mark(tree, &tree->roots[0], &ignored);
}

bool restore_tree_finish(struct restore_tree *tree, struct error *err)
{
    if (!sync_roots(tree, err))
        return false;
    if (name_control(tree, err) && remove_marks(tree, err))
        return true;
    unname_control(tree);
    return false;
}
