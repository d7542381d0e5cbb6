/*
 * lock.c - one of a kind at a time on this host
 *
 * The file stays when the lock goes: removing it would let two processes hold locks on two files of
 * the same name. What a dead holder wrote in it does no harm, as only a refused one reads it.
 */
#include "pgvigil/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "pgvigil/clock.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"

#define NOTE_MAXIMUM 512
#define NOTE_TRIES 20
#define NOTE_PAUSE (50 * INT64_C(1000)) /* microseconds */

struct lock {
    int fd;
};

static char *lock_path(const char *state_dir, const char *name, struct error *err)
{
    char *directory = files_join(state_dir, "lock");
    char *file = mem_printf("%s.lock", name);
    char *path = files_join(directory, file);

    if (!files_make_directories(directory, err)) {
        process_hint_directory(state_dir, err);
        free(path);
        path = NULL;
    }
    free(file);
    free(directory);
    return path;
}

/* "pid<TAB>command<TAB>since": replaces what the last holder wrote. */
static bool lock_write_note(int fd, const char *path, const char *command, struct error *err)
{
    char since[CLOCK_TEXT_SIZE];
    char *note = mem_printf("%ld\tpgvigil %s\t%s\n", (long)getpid(), command,
                            clock_format(clock_now() / CLOCK_SECOND * CLOCK_SECOND, since));
    bool ok = ftruncate(fd, 0) == 0 || error_set_errno(err, "could not truncate file \"%s\"", path);

    ok = ok && files_write_fd(fd, path, note, strlen(note), err);
    free(note);
    return ok;
}

/* Reads what the holder wrote; one that has just taken the lock may need a moment for that. */
static bool lock_read_note(int fd, const char *path, char note[NOTE_MAXIMUM + 1], struct error *err)
{
    size_t length = 0;

    for (int tries = 0; length == 0 && tries < NOTE_TRIES; tries++) {
        if (tries > 0)
            clock_sleep(NOTE_PAUSE);
        if (!files_read_fd(fd, path, note, NOTE_MAXIMUM, &length, err))
            return false;
    }
    note[length] = '\0';
    note[strcspn(note, "\n")] = '\0';
    return true;
}

/* Fills err from what the holder wrote. */
static bool lock_refuse(int fd, const char *path, const char *name, struct error *err)
{
    char note[NOTE_MAXIMUM + 1], *next = note;

    if (!lock_read_note(fd, path, note, err))
        return false;

    const char *pid = strsep(&next, "\t");
    const char *command = next ? strsep(&next, "\t") : NULL;
    if (!next)
        return error_set(err, ERROR_BUSY, "another %s is running", name);
    return error_set(err, ERROR_BUSY, "another %s is running: pid %s (\"%s\"), since %s", name, pid,
                     command, next);
}

static bool lock_take_file(int fd, const char *path, const char *name, const char *command,
                           struct error *err)
{
    int result;

    do
        result = flock(fd, LOCK_EX | LOCK_NB);
    while (result != 0 && errno == EINTR);
    if (result == 0)
        return lock_write_note(fd, path, command, err);
    if (errno == EWOULDBLOCK)
        return lock_refuse(fd, path, name, err);
    return error_set_errno(err, "could not lock file \"%s\"", path);
}

bool lock_take(const char *state_dir, const char *name, const char *command, struct lock **lock,
               struct error *err)
{
    char *path = lock_path(state_dir, name, err);
    bool ok = false;
    int fd;

    if (!path)
        return false;
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd < 0)
        error_set_errno(err, "could not open lock file \"%s\"", path);
    else
        ok = files_check_regular(fd, path, err) && lock_take_file(fd, path, name, command, err);
    free(path);
    if (!ok) {
        if (fd >= 0)
            close(fd);
        return false;
    }
    *lock = mem_alloc(sizeof(**lock));
    (*lock)->fd = fd;
    return true;
}

void lock_release(struct lock *lock)
{
    if (!lock)
        return;
    close(lock->fd);
    free(lock);
}
