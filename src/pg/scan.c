/*
 * scan.c - what of a data directory belongs in a base backup
 *
 * Directories are read whole before their files are looked at: whether a relation is unlogged shows
 * in another name of the same directory. All access is relative to the directory's descriptor.
 */
#include "pgvigil/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pg/directory_names.h"
#include "pg/scan_names.h"
#include "pgvigil/clock.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"

#define CONTROL_VERSION_WITH_SUMMARIES 1700
#define OPEN_DIRECTORY (O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK)
#define DIRECTORY_VANISHES_WITHIN CLOCK_SECOND
#define PERMISSION_BITS 07777

/* Where in the data directory a directory is, as far as it matters for what is in it. */
enum place {
    IN_ROOT,
    IN_GLOBAL,
    IN_BASE,        /* also in the version directory of a tablespace */
    IN_DATABASE,    /* relations of one database */
    IN_TABLESPACES, /* pg_tblspc */
    IN_OWN,         /* another directory that the server cannot do without */
    IN_FOREIGN      /* a directory that the server does not know */
};

struct inode {
    dev_t device;
    ino_t number;
};

struct walk {
    const struct control *control;
    struct scan *scan;
    size_t entries_capacity;
    size_t skipped_capacity;
    mode_t directory_mode;     /* of directories made in place of symbolic links */
    struct inode *tablespaces; /* targets of the links in pg_tblspc */
    size_t tablespace_count;
    size_t tablespace_capacity;
};

static bool walk_directory(struct walk *walk, int fd, const char *path, enum place place,
                           struct error *err);

static bool is_unlogged(const struct directory_names *names,
                        const struct scan_relation_name *relation)
{
    char *init_fork = mem_printf("%u_init", relation->number);
    bool result = !relation->init_fork && directory_names_has(names, init_fork);

    free(init_fork);
    return result;
}

static char *join(const char *path, const char *name)
{
    return *path ? mem_printf("%s/%s", path, name) : mem_strdup(name);
}

static void skip_path(struct walk *walk, const char *path)
{
    struct scan *scan = walk->scan;

    scan->skipped = mem_grow(scan->skipped, scan->skipped_count, &walk->skipped_capacity,
                             sizeof scan->skipped[0]);
    scan->skipped[scan->skipped_count++] = mem_strdup(path);
}

static struct scan_entry *add_entry(struct walk *walk, const char *path, enum scan_kind kind,
                                    mode_t mode)
{
    struct scan *scan = walk->scan;

    scan->entries =
        mem_grow(scan->entries, scan->count, &walk->entries_capacity, sizeof scan->entries[0]);
    scan->entries[scan->count] =
        (struct scan_entry){.path = mem_strdup(path), .kind = kind, .mode = mode & PERMISSION_BITS};
    return &scan->entries[scan->count++];
}

static void add_directory(struct walk *walk, const char *path, const struct stat *status)
{
    struct scan_entry *entry = add_entry(walk, path, SCAN_DIRECTORY, status->st_mode);

    entry->modified =
        (int64_t)status->st_mtim.tv_sec * CLOCK_SECOND + status->st_mtim.tv_nsec / 1000;
}

/* Relations are what has pages; their segments must have block numbers that exist. */
static bool find_first_block(const struct walk *walk, const char *name, enum place place,
                             uint32_t *first_block)
{
    struct scan_relation_name relation;

    if ((place != IN_DATABASE && place != IN_GLOBAL) || !scan_names_relation(name, &relation)) {
        return false;
    }
    uint64_t block = (uint64_t)relation.segment * walk->control->relation_segment_blocks;
    *first_block = (uint32_t)block;
    return block < UINT32_MAX;
}

static int64_t nanoseconds(const struct timespec *moment)
{
    return (int64_t)moment->tv_sec * CLOCK_SECOND * 1000 + moment->tv_nsec;
}

struct scan_facts scan_facts_of(const struct stat *status)
{
    return (struct scan_facts){.size = (uint64_t)status->st_size,
                               .modified = nanoseconds(&status->st_mtim),
                               .changed = nanoseconds(&status->st_ctim),
                               .inode = status->st_ino,
                               .device = status->st_dev};
}

static void add_file(struct walk *walk, const char *path, const char *name, enum place place,
                     const struct stat *status)
{
    uint32_t first_block;
    bool relation = find_first_block(walk, name, place, &first_block);
    struct scan_entry *entry =
        add_entry(walk, path, relation ? SCAN_RELATION : SCAN_FILE, status->st_mode);

    entry->size = (uint64_t)status->st_size;
    entry->modified =
        (int64_t)status->st_mtim.tv_sec * CLOCK_SECOND + status->st_mtim.tv_nsec / 1000;
    entry->first_block = relation ? first_block : 0;
    entry->facts = scan_facts_of(status);
    walk->scan->total_bytes += entry->size;
}

static bool excluded_here(const struct directory_names *names, const char *name, enum place place)
{
    struct scan_relation_name relation;

    if (scan_names_excluded(name)) {
        return true;
    }
    if (place != IN_DATABASE) {
        return false;
    }
    return scan_names_is_temporary(name) ||
           (scan_names_relation(name, &relation) && is_unlogged(names, &relation));
}

static enum place place_of(enum place parent, const char *name)
{
    switch (parent) {
    case IN_ROOT:
        if (strcmp(name, "global") == 0) {
            return IN_GLOBAL;
        }
        if (strcmp(name, "base") == 0) {
            return IN_BASE;
        }
        if (strcmp(name, "pg_tblspc") == 0) {
            return IN_TABLESPACES;
        }
        return scan_names_is_servers(name) ? IN_OWN : IN_FOREIGN;
    case IN_BASE:
        return scan_names_is_oid(name) ? IN_DATABASE : IN_OWN;
    case IN_FOREIGN:
    case IN_TABLESPACES:
        return IN_FOREIGN;
    default:
        return IN_OWN;
    }
}

/* A symbolic link, socket, device or pipe: an error where a backup could not do without it. */
static bool add_special(struct walk *walk, const char *path, const char *name, enum place place,
                        const struct stat *status, struct error *err)
{
    bool needed = place == IN_ROOT ? place_of(place, name) != IN_FOREIGN
                                   : place != IN_FOREIGN && place != IN_TABLESPACES;

    if (S_ISLNK(status->st_mode) && needed) {
        error_set(err, ERROR_CONFIG,
                  "\"%s\" of the data directory is a symbolic link, where the server's own base "
                  "backup follows none",
                  path);
        return error_hint(err, "only pg_wal may be one, and the tablespaces in pg_tblspc; put the "
                               "data itself back in the place of the link");
    }
    skip_path(walk, path);
    return true;
}

/* Opens a subdirectory that was just looked at; *opened is -1 if it has vanished since. */
static bool open_directory(int fd, const char *name, const char *path, int flags, int *opened,
                           struct error *err)
{
    *opened = openat(fd, name, OPEN_DIRECTORY | flags);
    if (*opened >= 0 || errno == ENOENT) {
        return true;
    }
    return error_set_errno(err, "could not open directory \"%s\" of the data directory", path);
}

static bool is_tablespace_target(const struct walk *walk, const struct stat *status)
{
    for (size_t i = 0; i < walk->tablespace_count; i++) {
        if (walk->tablespaces[i].device == status->st_dev &&
            walk->tablespaces[i].number == status->st_ino) {
            return true;
        }
    }
    return false;
}

/* A tablespace whose location lies in the data directory is met again there, and passed over. */
static bool add_subdirectory(struct walk *walk, int fd, const char *name, const char *path,
                             enum place place, const struct stat *status, struct error *err)
{
    int opened;

    if (is_tablespace_target(walk, status)) {
        add_directory(walk, path, status);
        return true;
    }
    if (!open_directory(fd, name, path, O_NOFOLLOW, &opened, err)) {
        return false;
    }
    if (opened < 0) {
        return true;
    }
    add_directory(walk, path, status);
    bool ok = walk_directory(walk, opened, path, place_of(place, name), err);
    close(opened);
    return ok;
}

/* A directory kept without its contents, which may have been a link to another disk. */
static void add_emptied(struct walk *walk, int fd, const char *name, const char *path,
                        const struct stat *status)
{
    struct stat target = *status;

    if (S_ISLNK(status->st_mode) && fstatat(fd, name, &target, 0) != 0) {
        target.st_mode = S_IFDIR | walk->directory_mode;
    }
    add_directory(walk, path, &target);
}

static void add_wal(struct walk *walk, int fd, const struct stat *status)
{
    mode_t mode;

    add_emptied(walk, fd, "pg_wal", "pg_wal", status);
    mode = walk->scan->entries[walk->scan->count - 1].mode;
    add_entry(walk, "pg_wal/archive_status", SCAN_DIRECTORY, mode);
    if (walk->control->control_version >= CONTROL_VERSION_WITH_SUMMARIES) {
        add_entry(walk, "pg_wal/summaries", SCAN_DIRECTORY, mode);
    }
}

/* Walks the version directory; *found tells whether the tablespace has one. */
static bool walk_tablespace(struct walk *walk, int fd, const char *path, bool *found,
                            struct error *err)
{
    struct directory_names names;
    bool ok = true;

    *found = false;
    if (!directory_names_read(fd, path, &names, err)) {
        return false;
    }
    for (size_t i = 0; ok && i < names.count; i++) {
        struct stat status;
        int opened;

        if (!scan_names_is_version(names.names[i], walk->control->catalog_version)) {
            continue;
        }
        char *below = join(path, names.names[i]);
        ok = open_directory(fd, names.names[i], below, O_NOFOLLOW, &opened, err);
        if (ok && opened >= 0) {
            *found = true;
            if (fstat(opened, &status) == 0) {
                add_directory(walk, below, &status);
            }
            ok = walk_directory(walk, opened, below, IN_BASE, err);
            close(opened);
        }
        free(below);
    }
    directory_names_free(&names);
    return ok;
}

static bool read_link(int fd, const char *name, const char *path, char **target, struct error *err)
{
    char text[4096];
    ssize_t length = readlinkat(fd, name, text, sizeof text);

    *target = NULL;
    if (length < 0) {
        return errno == ENOENT ||
               error_set_errno(err, "could not read symbolic link \"%s\" of the data directory",
                               path);
    }
    if ((size_t)length == sizeof text) {
        return error_set(err, ERROR_SYSTEM,
                         "symbolic link \"%s\" of the data directory is too long", path);
    }
    *target = mem_strndup(text, (size_t)length);
    return true;
}

/*
 * A tablespace without its version directory is being dropped, and its link goes in a moment, or it
 * is on a disk that is not mounted: then a backup without it would look whole and not be.
 */
static bool wait_until_gone(int fd, const char *name, const char *path, const char *target,
                            struct error *err)
{
    int64_t give_up = clock_monotonic() + DIRECTORY_VANISHES_WITHIN;
    struct stat status;

    while (fstatat(fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0) {
        if (clock_monotonic() >= give_up) {
            error_set(err, ERROR_SYSTEM,
                      "tablespace \"%s\" has no data of this server's version in \"%s\"", path,
                      target);
            return error_hint(err, "is its disk mounted? If the tablespace does not exist any "
                                   "more, remove that link");
        }
        clock_sleep(CLOCK_SECOND / 20);
    }
    return true;
}

/* The entry of the link comes before those of its contents, and goes if they turn out to be gone.
 * */
static bool add_linked_tablespace(struct walk *walk, int fd, const char *name, const char *path,
                                  struct error *err)
{
    struct stat status = {.st_mode = walk->directory_mode};
    bool found = false;
    char *target;
    int opened;

    if (!read_link(fd, name, path, &target, err)) {
        return false;
    }
    if (target == NULL) {
        return true;
    }
    bool ok = open_directory(fd, name, path, 0, &opened, err);
    if (ok && opened >= 0) {
        size_t link = walk->scan->count;
        (void)fstat(opened, &status);
        add_entry(walk, path, SCAN_TABLESPACE, status.st_mode)->link = mem_strdup(target);
        ok = walk_tablespace(walk, opened, path, &found, err);
        close(opened);
        if (ok && !found) {
            walk->scan->count = link;
            free(walk->scan->entries[link].path);
            free(walk->scan->entries[link].link);
        }
    }
    ok = ok && (found || wait_until_gone(fd, name, path, target, err));
    free(target);
    return ok;
}

/* A directory in pg_tblspc itself, as allow_in_place_tablespaces makes them. */
static bool add_inplace_tablespace(struct walk *walk, int fd, const char *name, const char *path,
                                   const struct stat *status, struct error *err)
{
    bool found;
    int opened;

    if (!open_directory(fd, name, path, O_NOFOLLOW, &opened, err)) {
        return false;
    }
    if (opened < 0) {
        return true;
    }
    add_directory(walk, path, status);
    bool ok = walk_tablespace(walk, opened, path, &found, err);
    close(opened);
    return ok;
}

static bool add_name(struct walk *walk, int fd, const char *name, const char *path,
                     enum place place, struct error *err)
{
    struct stat status;

    if (fstatat(fd, name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno == ENOENT ||
               error_set_errno(err, "could not stat \"%s\" of the data directory", path);
    }
    bool is_link = S_ISLNK(status.st_mode);
    if (scan_names_is_emptied(name) && (is_link || S_ISDIR(status.st_mode))) {
        add_emptied(walk, fd, name, path, &status);
        return true;
    }
    if (place == IN_ROOT && strcmp(name, "pg_wal") == 0) {
        add_wal(walk, fd, &status);
        return true;
    }
    if (place == IN_TABLESPACES && scan_names_is_oid(name) && is_link) {
        return add_linked_tablespace(walk, fd, name, path, err);
    }
    if (place == IN_TABLESPACES && scan_names_is_oid(name) && S_ISDIR(status.st_mode)) {
        return add_inplace_tablespace(walk, fd, name, path, &status, err);
    }
    if (S_ISDIR(status.st_mode)) {
        return add_subdirectory(walk, fd, name, path, place, &status, err);
    }
    if (S_ISREG(status.st_mode)) {
        add_file(walk, path, name, place, &status);
        return true;
    }
    return add_special(walk, path, name, place, &status, err);
}

static bool walk_directory(struct walk *walk, int fd, const char *path, enum place place,
                           struct error *err)
{
    struct directory_names names;
    bool ok = true;

    if (!process_check(err) || !directory_names_read(fd, path, &names, err)) {
        return false;
    }
    for (size_t i = 0; ok && i < names.count; i++) {
        if (!excluded_here(&names, names.names[i], place)) {
            char *below = join(path, names.names[i]);
            ok = add_name(walk, fd, names.names[i], below, place, err);
            free(below);
        }
    }
    directory_names_free(&names);
    return ok;
}

/* Where the tablespaces are, to know them when the walk comes upon them. */
static bool find_tablespaces(struct walk *walk, int root, struct error *err)
{
    struct directory_names names;
    struct stat status;
    int fd = openat(root, "pg_tblspc", OPEN_DIRECTORY);

    if (fd < 0) {
        return errno == ENOENT || error_set_errno(err, "could not open directory \"pg_tblspc\" of "
                                                       "the data directory");
    }
    bool ok = directory_names_read(fd, "pg_tblspc", &names, err);
    for (size_t i = 0; ok && i < names.count; i++) {
        if (scan_names_is_oid(names.names[i]) &&
            fstatat(fd, names.names[i], &status, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISLNK(status.st_mode) && fstatat(fd, names.names[i], &status, 0) == 0) {
            walk->tablespaces = mem_grow(walk->tablespaces, walk->tablespace_count,
                                         &walk->tablespace_capacity, sizeof walk->tablespaces[0]);
            walk->tablespaces[walk->tablespace_count++] =
                (struct inode){.device = status.st_dev, .number = status.st_ino};
        }
    }
    if (ok) {
        directory_names_free(&names);
    }
    close(fd);
    return ok;
}

static int compare_entries(const void *a, const void *b)
{
    const struct scan_entry *left = a;
    const struct scan_entry *right = b;

    return strcmp(left->path, right->path);
}

static bool walk_root(struct walk *walk, int root, struct error *err)
{
    struct stat status;

    if (fstat(root, &status) != 0) {
        return error_set_errno(err, "could not stat the data directory");
    }
    /* As the server does: what it makes may be read by the group where the data directory may be.
     * */
    walk->directory_mode = (status.st_mode & 040) ? 0750 : 0700;
    if (!find_tablespaces(walk, root, err) || !walk_directory(walk, root, "", IN_ROOT, err)) {
        return false;
    }
    if (walk->scan->count > 0) {
        qsort(walk->scan->entries, walk->scan->count, sizeof walk->scan->entries[0],
              compare_entries);
    }
    return true;
}

bool scan_data_directory(const char *data_directory, const struct control *control,
                         struct scan **scan, struct error *err)
{
    struct walk walk = {.control = control};
    int root = open(data_directory, OPEN_DIRECTORY);

    *scan = NULL;
    if (root < 0) {
        return error_set_errno(err, "could not open data directory \"%s\"", data_directory);
    }
    walk.scan = mem_calloc(1, sizeof *walk.scan);
    bool ok = walk_root(&walk, root, err);
    free(walk.tablespaces);
    close(root);
    if (!ok) {
        scan_free(walk.scan);
        return false;
    }
    *scan = walk.scan;
    return true;
}

void scan_free(struct scan *scan)
{
    if (scan == NULL) {
        return;
    }
    for (size_t i = 0; i < scan->count; i++) {
        free(scan->entries[i].path);
        free(scan->entries[i].link);
    }
    for (size_t i = 0; i < scan->skipped_count; i++) {
        free(scan->skipped[i]);
    }
    free(scan->entries);
    free(scan->skipped);
    free(scan);
}
