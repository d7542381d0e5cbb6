/*
 * restore_seams.c - WAL of the timelines that recovery leaves on its way
 */
#include "job/restore_seams.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgvigil/files.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/repository_ask.h"
#include "pgvigil/wal_archive.h"

#define WAL "pg_wal"
#define STATUS "archive_status"
#define DONE ".done"

/* The server's own notes are empty, and it does not look into them. */
#define NOTE                                                                                       \
    "Put here by pgvigil restore for transactions that were prepared; zeros where the next "       \
    "timeline begins. Not to be archived.\n"

void restore_seams_find(const struct wal_scan *scan, uint64_t from_lsn, uint64_t missing,
                        struct restore_seams *seams)
{
    const struct history_entry *path = wal_scan_history(scan)->entries;
    const size_t count = wal_scan_history(scan)->count;
    const uint32_t size = wal_scan_segment_size(scan);

    *seams = (struct restore_seams){.segment_size = size};
    seams->seams = mem_calloc(count, sizeof *seams->seams);
    for (size_t i = 0; size != 0 && i + 1 < count; i++) {
        const uint64_t fork = path[i].switch_lsn, number = fork / size;
        size_t next = i + 1;

        if (fork < from_lsn || fork % size == 0 || number >= missing)
            continue;
        while (next + 1 < count && path[next].switch_lsn / size == number)
            next++;

        struct restore_seam *seam = &seams->seams[seams->count++];

        wal_segment_name(path[i].timeline, number, size, seam->file);
        wal_segment_name(path[next].timeline, number, size, seam->from);
        seam->bytes = (uint32_t)(fork % size);
    }
}

void restore_seams_free(struct restore_seams *seams)
{
    free(seams->seams);
    *seams = (struct restore_seams){.seams = NULL};
}

/* A segment being made. */
struct filling {
    const struct restore_seam *seam;
    int fd;
    size_t left;
    bool failed; /* writing it, which is no repository's fault */
};

static bool fill(const void *data, size_t length, void *context, struct error *err)
{
    struct filling *filling = context;
    const size_t taken = length < filling->left ? length : filling->left;

    filling->left -= taken;
    filling->failed = !files_write_fd(filling->fd, filling->seam->file, data, taken, err);
    return !filling->failed;
}

static bool fill_from(struct repository *repository, void *context, struct error *err)
{
    struct filling *filling = context;
    struct wal_name name;

    wal_parse_name(filling->seam->from, &name);
    filling->left = filling->seam->bytes;
    filling->failed = lseek(filling->fd, 0, SEEK_SET) != 0;
    if (filling->failed)
        return error_set_errno(err, "could not seek in file \"" WAL "/%s\"", filling->seam->file);
    return wal_archive_fetch(repository, &name, filling->seam->from, fill, filling, NULL, err);
}

/* A new file that whoever may look into pg_wal may read. */
static bool make(int wal, const char *name, int *fd, struct error *err)
{
    struct stat status;

    *fd = openat(wal, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (*fd >= 0 && fstat(wal, &status) == 0 && fchmod(*fd, 0600 | (status.st_mode & 0040)) == 0)
        return true;
    error_set_errno(err, "could not make file \"" WAL "/%s\"", name);
    if (*fd >= 0)
        close(*fd);
    return false;
}

static bool note(int wal, const struct restore_seam *seam, struct error *err)
{
    char *name = mem_printf(STATUS "/%s" DONE, seam->file);
    int fd;
    bool ok = make(wal, name, &fd, err);

    if (ok) {
        ok = files_write_fd(fd, name, NOTE, strlen(NOTE), err);
        close(fd);
    }
    free(name);
    return ok;
}

/* Recovery takes the newer timeline's segment from its beginning. */
static bool is_needed(const struct restore_seams *seams, const struct restore_seam *seam)
{
    struct wal_name name;

    wal_parse_name(seam->from, &name);
    return wal_segment_number(&name, seams->segment_size) * seams->segment_size < seams->read_to;
}

static bool tell_lacking(const struct restore_seams *seams, const struct restore_seam *seam,
                         const struct repository *repository, struct error *err)
{
    const char *mend = repository->sibling != NULL
                           ? "verify --repair mends it where another repository has it; else "
                           : "";

    error_context(err, "WAL segment \"%s\" is not put into " WAL, seam->file);
    if (is_needed(seams, seam))
        error_hint(
            err,
            "recovery will end with an error at \"%s\", and cannot get past it: %slook for it"
            " in pg_wal of the old primary",
            seam->from, mend);
    else
        error_hint(err,
                   "unless recovery stops before \"%s\", it needs that: %slook for it in pg_wal of "
                   "the old primary",
                   seam->from, mend);
    log_error(LOG_WARNING, err);
    error_clear(err);
    return true;
}

/* Its space is taken from the start: a server that uses the file again later counts on that. */
static bool put(const struct restore_seams *seams, const struct restore_seam *seam,
                struct repository *repository, int wal, struct error *err)
{
    const uint32_t size = seams->segment_size;
    struct filling filling = {.seam = seam};
    bool ok;

    if (!make(wal, seam->file, &filling.fd, err))
        return false;
    errno = posix_fallocate(filling.fd, 0, size);
    if (errno != 0)
        ok = error_set_errno(err, "could not make file \"" WAL "/%s\" %u bytes long", seam->file,
                             size);
    else if (repository_ask(repository, fill_from, &filling, err))
        ok = note(wal, seam, err);
    else
        ok = !filling.failed && err->code != ERROR_CANCELLED && unlinkat(wal, seam->file, 0) == 0 &&
             tell_lacking(seams, seam, repository, err);
    close(filling.fd);
    return ok;
}

/* The DBA's own link is followed on purpose, as by restore --delta, which put all of its contents aside. */
static bool open_wal(int root, int *wal, struct error *err)
{
    struct stat status;

    *wal = openat(root, WAL, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*wal < 0 || fstat(*wal, &status) != 0)
        return error_set_errno(err, "could not open directory \"" WAL "\"");
    if (mkdirat(*wal, STATUS, 0700) == 0 ? fchmodat(*wal, STATUS, status.st_mode & 0750, 0) == 0
                                         : errno == EEXIST)
        return true;
    return error_set_errno(err, "could not make directory \"" WAL "/" STATUS "\"");
}

bool restore_seams_put(const struct restore_seams *seams, struct repository *repository,
                       struct restore_tree *tree, struct error *err)
{
    int wal = -1;
    bool ok = seams->count == 0 || open_wal(restore_tree_descriptor(tree, 0), &wal, err);

    for (size_t i = 0; ok && i < seams->count; i++)
        ok = put(seams, &seams->seams[i], repository, wal, err);
    /* It may be another file system than those that the tree makes durable. */
    if (ok && wal >= 0 && syncfs(wal) != 0)
        ok = error_set_errno(err, "could not sync the file system of \"" WAL "\"");
    if (wal >= 0)
        close(wal);
    return ok;
}

bool restore_seams_made(const char *wal, const char *segment)
{
    char *path = mem_printf("%s/" STATUS "/%s" DONE, wal, segment);
    struct stat status;
    const bool made = stat(path, &status) == 0 && status.st_size == (off_t)strlen(NOTE);

    free(path);
    return made;
}
