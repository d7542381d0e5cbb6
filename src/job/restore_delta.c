/*
 * restore_delta.c - making an existing data directory ready to be restored onto
 */
#include "job/restore_delta.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "job/restore_seams.h"
#include "pgvigil/clock.h"
#include "pgvigil/clusters.h"
#include "pgvigil/control.h"
#include "pgvigil/files.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"
#include "pgvigil/server_process.h"
#include "pgvigil/ship.h"
#include "pgvigil/wal.h"

#define WAL "pg_wal"
#define ASIDE "before-"
#define READY ".ready"

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t length = strlen(text), end_length = strlen(end);

    return length > end_length && strcmp(text + length - end_length, end) == 0;
}

/* 0 for a foreign cluster, whose WAL is not brought into the repository: that it is foreign will be said. */
static uint64_t known_cluster(struct repository *repository, const char *directory)
{
    struct error ignored = ERROR_INIT;
    uint64_t *identifiers, known = 0;
    size_t count;

    if (!clusters_identifiers(repository, &identifiers, &count, &ignored))
        return 0;
    for (size_t i = 0; i < count; i++)
        if (restore_place_is_of_cluster(directory, identifiers[i]))
            known = identifiers[i];
    free(identifiers);
    return known;
}

static bool is_aside(const char *name)
{
    return strncmp(name, ASIDE, strlen(ASIDE)) == 0;
}

/* Where a file lies that is .ready in `folder`: a restore that was killed may have put aside only one of the two.
 * The caller frees it. */
static char *find_ready(const char *wal, const char *folder, const char *file)
{
    char *path = files_join(folder, file);
    DIR *stream = access(path, F_OK) != 0 ? opendir(wal) : NULL;
    struct dirent *entry;
    bool found = false;

    while (stream != NULL && !found && (entry = readdir(stream)) != NULL) {
        char *other;

        if (strcmp(entry->d_name, ".") != 0 && !is_aside(entry->d_name))
            continue;
        other = mem_printf("%s/%s/%s", wal, entry->d_name, file);
        found = access(other, F_OK) == 0;
        free(found ? path : other);
        path = found ? other : path;
    }
    if (stream != NULL)
        closedir(stream);
    return path;
}

static void ship_ready(const struct config *config, uint64_t system_identifier, const char *wal,
                       const char *folder)
{
    char *status = files_join(folder, "archive_status");
    DIR *stream = opendir(status);
    struct dirent *entry;

    while (stream != NULL && (entry = readdir(stream)) != NULL) {
        struct error err = ERROR_INIT;
        enum wal_outcome outcome;
        char *file, *path;

        if (!ends_with(entry->d_name, READY))
            continue;
        file = mem_strndup(entry->d_name, strlen(entry->d_name) - strlen(READY));
        path = find_ready(wal, folder, file);
        if (!ship_file_of(config, system_identifier, path, &outcome, &err)) {
            error_context(&err, "\"%s\" could not be archived, and is kept", path);
            log_error(LOG_WARNING, &err);
        } else if (outcome == WAL_STORED) {
            log_info("archived \"%s\", which had not been", path);
        }
        free(path);
        free(file);
    }
    if (stream != NULL)
        closedir(stream);
    free(status);
}

void restore_delta_ship(const struct config *config, struct repository *repository,
                        const char *directory)
{
    const uint64_t identifier =
        server_process_find(directory) == 0 ? known_cluster(repository, directory) : 0;
    char *wal = files_join(directory, WAL);
    DIR *stream = identifier != 0 ? opendir(wal) : NULL;
    struct dirent *entry;

    if (stream != NULL)
        ship_ready(config, identifier, wal, wal);
    while (stream != NULL && (entry = readdir(stream)) != NULL) {
        char *aside;

        if (!is_aside(entry->d_name))
            continue;
        aside = files_join(wal, entry->d_name);
        ship_ready(config, identifier, wal, aside);
        free(aside);
    }
    if (stream != NULL)
        closedir(stream);
    free(wal);
}

/* A server may have started since the place was looked at. It makes its postmaster.pid before it reads
 * pg_control: so either its file is seen here, or it finds no pg_control. */
static bool hide_control(const struct restore_place *place, int root, struct error *err)
{
    const int global = openat(root, "global", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    const char *from = strrchr(CONTROL_PATH, '/') + 1, *to = strrchr(RESTORE_TREE_CONTROL, '/') + 1;
    bool ok = true;

    if (global < 0)
        return errno == ENOENT ||
               error_set_errno(err, "could not open directory \"%s/global\"", place->path);
    if (renameat(global, from, global, to) != 0)
        ok = errno == ENOENT ||
             error_set_errno(err, "could not rename \"" CONTROL_PATH "\" in \"%s\"", place->path);
    else if (server_process_find(place->path) != 0)
        ok = renameat(global, to, global, from) == 0
                 ? error_set(err, ERROR_USAGE,
                             "cannot restore to \"%s\": a server has just started in it",
                             place->path)
                 : error_set_errno(err, "could not rename \"" CONTROL_PATH "\" back in \"%s\"",
                                   place->path);
    if (ok && fsync(global) != 0)
        ok = error_set_errno(err, "could not fsync directory \"%s/global\"", place->path);
    close(global);
    return ok;
}

/* Moves one entry of pg_wal into the directory `name`, which is made for the first. */
static bool move_aside(int wal, const char *entry, const char *name, int *aside, struct error *err)
{
    if (*aside < 0) {
        /* It must be certain to be there before anything is only in it. */
        if (mkdirat(wal, name, 0700) != 0 || fsync(wal) != 0)
            return error_set_errno(err, "could not make directory \"" WAL "/%s\"", name);
        *aside = openat(wal, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (*aside < 0)
            return error_set_errno(err, "could not open directory \"" WAL "/%s\"", name);
    }
    return renameat(wal, entry, *aside, entry) == 0 ||
           error_set_errno(err, "could not move \"" WAL "/%s\" into \"" WAL "/%s\"", entry, name);
}

static bool move_all_aside(int wal, const char *name, bool *any, struct error *err)
{
    const int again = dup(wal);
    DIR *stream = again >= 0 ? fdopendir(again) : NULL;
    struct dirent *entry;
    int aside = -1;
    bool ok = true;

    if (stream == NULL)
        return error_set_errno(err, "could not read directory \"" WAL "\"");
    while (ok && (errno = 0, entry = readdir(stream)) != NULL)
        if (is_aside(entry->d_name))
            log_info("\"" WAL "/%s\" is of an earlier restore, and stays", entry->d_name);
        else if (!is_dots(entry->d_name))
            ok = move_aside(wal, entry->d_name, name, &aside, err);
    if (ok && errno != 0)
        ok = error_set_errno(err, "could not read directory \"" WAL "\"");
    closedir(stream);
    *any = aside >= 0;
    /* In the data directory itself this comes with everything else. */
    if (ok && fsync(wal) != 0)
        ok = error_set_errno(err, "could not fsync directory \"" WAL "\"");
    if (aside >= 0)
        close(aside);
    return ok;
}

/* A restore that was killed may have made one in the same second. The caller frees it. */
static char *free_name(int wal)
{
    int64_t moment = clock_now();
    struct stat status;

    for (;; moment += CLOCK_SECOND) {
        char text[CLOCK_COMPACT_SIZE];
        char *name = mem_printf(ASIDE "%s", clock_format_compact(moment, text));

        if (fstatat(wal, name, &status, AT_SYMLINK_NOFOLLOW) != 0)
            return name;
        free(name);
    }
}

static bool set_wal_aside(const struct restore_place *place, int root, struct restore_plan *plan,
                          char **path, struct error *err)
{
    char *name;
    struct stat status;
    bool any = false, ok;
    int wal;

    if (fstatat(root, WAL, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ||
               error_set_errno(err, "could not stat \"%s/" WAL "\"", place->path);
    if (S_ISLNK(status.st_mode))
        restore_plan_leave_out(plan, WAL);
    /* The DBA's own link is followed on purpose: what lies there is this cluster's. */
    wal = openat(root, WAL, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (wal < 0)
        return error_set_errno(err, "could not open directory \"%s/" WAL "\"", place->path);
    name = free_name(wal);
    ok = move_all_aside(wal, name, &any, err);
    if (ok && any)
        *path = mem_printf("%s/" WAL "/%s", place->path, name);
    free(name);
    close(wal);
    return ok;
}

enum known_kind { KNOWN_FILE, KNOWN_DIRECTORY, KNOWN_LINK };

/* What the plan has, by path. */
struct known {
    const char *path;
    enum known_kind kind;
};

struct sweep {
    const struct restore_place *place;
    struct known *known;
    size_t count;
    dev_t device;     /* of the root at hand */
    uint64_t removed; /* entries */
};

static int compare_known(const void *a, const void *b)
{
    return strcmp(((const struct known *)a)->path, ((const struct known *)b)->path);
}

static void know_plan(struct sweep *sweep, const struct restore_plan *plan)
{
    sweep->known = mem_calloc(plan->file_count + plan->directory_count, sizeof *sweep->known);
    for (size_t i = 0; i < plan->directory_count; i++)
        sweep->known[sweep->count++] =
            (struct known){.path = plan->directories[i].path,
                           .kind = plan->directories[i].link ? KNOWN_LINK : KNOWN_DIRECTORY};
    for (size_t i = 0; i < plan->file_count; i++)
        sweep->known[sweep->count++] =
            (struct known){.path = plan->files[i].path, .kind = KNOWN_FILE};
    qsort(sweep->known, sweep->count, sizeof *sweep->known, compare_known);
}

/* A tablespace's link that leads to where the restore puts that tablespace. */
static bool leads_right(const struct sweep *sweep, int directory, const char *name)
{
    char to[PATH_MAX];
    const ssize_t length = readlinkat(directory, name, to, sizeof to - 1);

    if (length < 0)
        return false;
    to[length] = '\0';
    for (size_t i = 0; i < sweep->place->count; i++)
        if (strtoul(name, NULL, 10) == sweep->place->tablespaces[i].oid)
            return strcmp(to, sweep->place->tablespaces[i].to) == 0;
    return false;
}

/* Is what is there what the plan has under this path, so that it can be kept? */
static bool is_planned(const struct sweep *sweep, int directory, const char *name, const char *path,
                       const struct stat *status)
{
    const struct known key = {.path = path};
    const struct known *known =
        bsearch(&key, sweep->known, sweep->count, sizeof *sweep->known, compare_known);

    if (known == NULL)
        return false;
    switch (known->kind) {
    case KNOWN_FILE:
        return S_ISREG(status->st_mode) && status->st_nlink == 1;
    case KNOWN_DIRECTORY:
        return S_ISDIR(status->st_mode);
    case KNOWN_LINK:
        return S_ISLNK(status->st_mode) && leads_right(sweep, directory, name);
    }
    return false;
}

/* At the top of the data directory, what was seen to or is needed. */
static bool is_left_alone(const char *path)
{
    return strcmp(path, RESTORE_PLACE_DELTA_MARKER) == 0 || strcmp(path, WAL) == 0;
}

/* Beside a tablespace's own directory, what is not PostgreSQL's (a lost+found, another version's) nor of a
 * restore that was killed. */
static bool is_beside_tablespace(const char *path, const char *name, size_t root)
{
    return root > 0 && strchr(strchr(path, '/') + 1, '/') == strrchr(path, '/') &&
           strncmp(name, FILES_TEMPORARY, strlen(FILES_TEMPORARY)) != 0;
}

static bool sweep_directory(struct sweep *sweep, int directory, const char *path, size_t root,
                            struct error *err);

static bool sweep_below(struct sweep *sweep, int directory, const char *name, const char *path,
                        size_t root, const struct stat *status, struct error *err)
{
    int below;

    if (status->st_dev != sweep->device) {
        error_set(err, ERROR_USAGE, "\"%s\" in \"%s\" is a mount point", path, sweep->place->path);
        return error_hint(err, "unmount it, or restore to another directory without --delta");
    }
    below = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (below < 0)
        return error_set_errno(err, "could not open directory \"%s\" in \"%s\"", path,
                               sweep->place->path);
    return sweep_directory(sweep, below, path, root, err);
}

/* Only the link goes. The tablespace was made after the backup, or --tablespace puts it elsewhere. */
static void tell_left_tablespace(int directory, const char *name, const char *path)
{
    char to[PATH_MAX];
    const bool is_one = strncmp(path, "pg_tblspc/", strlen("pg_tblspc/")) == 0;
    const ssize_t length = is_one ? readlinkat(directory, name, to, sizeof to) : -1;

    if (length > 0)
        log_warning("\"%.*s\" is no tablespace of the restored cluster; what is in it stays there "
                    "until you remove it",
                    (int)length, to);
}

static bool sweep_entry(struct sweep *sweep, int directory, const char *name, const char *path,
                        size_t root, struct error *err)
{
    struct stat status;
    bool planned;

    if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return error_set_errno(err, "could not stat \"%s\" in \"%s\"", path, sweep->place->path);
    planned = is_planned(sweep, directory, name, path, &status);
    if (!planned && is_beside_tablespace(path, name, root))
        return true;
    if (S_ISDIR(status.st_mode) && !sweep_below(sweep, directory, name, path, root, &status, err))
        return false;
    if (planned)
        return true;
    sweep->removed++;
    if (S_ISLNK(status.st_mode))
        tell_left_tablespace(directory, name, path);
    return unlinkat(directory, name, S_ISDIR(status.st_mode) ? AT_REMOVEDIR : 0) == 0 ||
           error_set_errno(err, "could not remove \"%s\" in \"%s\"", path, sweep->place->path);
}

/* Takes the descriptor over. */
static bool sweep_directory(struct sweep *sweep, int directory, const char *path, size_t root,
                            struct error *err)
{
    DIR *stream = fdopendir(directory);
    struct dirent *entry;
    bool ok = true;

    if (stream == NULL) {
        close(directory);
        return error_set_errno(err, "could not read \"%s\" in \"%s\"", path, sweep->place->path);
    }
    while (ok && (errno = 0, entry = readdir(stream)) != NULL) {
        char *child;

        if (is_dots(entry->d_name))
            continue;
        child = path[0] ? mem_printf("%s/%s", path, entry->d_name) : mem_strdup(entry->d_name);
        ok = process_check(err) && (is_left_alone(child) ||
                                    sweep_entry(sweep, directory, entry->d_name, child, root, err));
        free(child);
    }
    if (ok && errno != 0)
        ok = error_set_errno(err, "could not read \"%s\" in \"%s\"", path, sweep->place->path);
    closedir(stream);
    return ok;
}

static bool sweep_root(struct sweep *sweep, const struct restore_tree *tree, size_t root,
                       struct error *err)
{
    const int directory =
        openat(restore_tree_descriptor(tree, root), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat status;
    char *path;
    bool ok;

    if (directory < 0 || fstat(directory, &status) != 0)
        return error_set_errno(err, "could not open directory \"%s\"",
                               root == 0 ? sweep->place->path
                                         : sweep->place->tablespaces[root - 1].to);
    sweep->device = status.st_dev;
    path = root == 0 ? mem_strdup("")
                     : mem_printf("pg_tblspc/%" PRIu32, sweep->place->tablespaces[root - 1].oid);
    ok = sweep_directory(sweep, directory, path, root, err);
    free(path);
    return ok;
}

/* Is the file in this directory, and WAL? */
static bool has_segment(const char *path, const char *segment, uint64_t system_identifier)
{
    const int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct error ignored = ERROR_INIT;
    unsigned char page[WAL_PAGE_SIZE];
    struct wal_name name;
    struct stat status;
    size_t got = 0;
    bool has;

    wal_parse_name(segment, &name);
    has = fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode) &&
          files_read_fd(fd, path, page, sizeof page, &got, &ignored) && got == sizeof page &&
          wal_check_segment(&name, (uint64_t)status.st_size, page, system_identifier, &ignored);
    if (fd >= 0)
        close(fd);
    return has;
}

char *restore_delta_unarchived(const char *directory, const char *segment,
                               uint64_t system_identifier)
{
    char *wal = files_join(directory, WAL), *newest = NULL;
    DIR *stream = opendir(wal);
    struct dirent *entry;

    while (stream != NULL && (entry = readdir(stream)) != NULL) {
        char *folder = files_join(wal, entry->d_name), *path = files_join(folder, segment);

        /* their names sort by time */
        if (is_aside(entry->d_name) && (newest == NULL || strcmp(path, newest) > 0) &&
            has_segment(path, segment, system_identifier) && !restore_seams_made(folder, segment)) {
            free(newest);
            newest = path;
        } else {
            free(path);
        }
        free(folder);
    }
    if (stream != NULL)
        closedir(stream);
    free(wal);
    return newest;
}

bool restore_delta_begin(const struct restore_place *place, struct restore_tree *tree,
                         struct restore_plan *plan, char **wal_aside, struct error *err)
{
    const int root = restore_tree_descriptor(tree, 0);
    struct sweep sweep = {.place = place};
    bool ok;

    if (!hide_control(place, root, err) || !set_wal_aside(place, root, plan, wal_aside, err))
        return false;
    know_plan(&sweep, plan);
    ok = true;
    for (size_t i = 0; ok && i <= place->count; i++)
        ok = sweep_root(&sweep, tree, i, err);
    free(sweep.known);
    if (ok && sweep.removed > 0)
        log_info("files and directories removed that the backup does not have: %" PRIu64,
                 sweep.removed);
    return ok;
}
