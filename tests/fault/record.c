/*
 * record.c - notes everything a process does to the durable state below certain directories
 *
 * Preloaded (LD_PRELOAD) into pgvigil by tests/fault; replay.py makes of the record every state that a
 * power cut could leave. Files and directories are known by inode, so that a rename of an open file
 * is no riddle. All recorded processes append to one log; a lock held over the operation and its
 * note makes the order in the log the order in which things happened, across threads and processes.
 *
 * Environment
 *   PGVIGIL_RECORD          the log, appended to
 *   PGVIGIL_RECORD_ROOTS    directories, absolute, separated by ':'; the rest of the world is not noted
 *   PGVIGIL_RECORD_KILL     N: SIGKILL to itself in place of its N-th operation
 *   PGVIGIL_RECORD_HOLD     "KIND NAME FILE": before the first operation of that kind on that name
 *                           makes FILE and waits until somebody removes it
 *   PGVIGIL_RECORD_REPLACE  set: RENAME_NOREPLACE is ignored, which is one of the mutants
 *   PGVIGIL_RECORD_UNSYNCED set: nothing is really synced (the machine is not going to crash), noted or not
 *
 * A note is a line of tab-separated fields, "<pid> <operation> ... <bytes>", then so many bytes of
 * data and a newline. What the replayer has no model of is noted as "unsupported", which makes it
 * refuse the record. Descriptors are looked at in /proc whenever they are used, so nothing has to be
 * remembered over dup, fork and exec.
 */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <linux/falloc.h>
#include <linux/openat2.h>

#define EXPORT __attribute__((visibility("default")))
#define FRAMES 12
#define LINE 4096

/* A name in a directory. */
struct place {
    bool tracked;
    dev_t device;
    ino_t directory;
    char name[NAME_MAX + 1];
    bool existed;
    struct stat status; /* of what bore the name */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static __thread bool inside; /* calls of our own pass through */
static int log_fd = -1;
static pid_t log_owner;
static long operations;

/* The next definition of a function, of whatever type the caller gives it. */
static void *next_definition(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);

    if (found == NULL) {
        static const char text[] = "record: a function of the C library is missing\n";

        syscall(SYS_write, 2, text, sizeof text - 1);
        _exit(125);
    }
    return found;
}

#define REAL(name)                                                                                 \
    ({                                                                                             \
        static __typeof__(&name) real_;                                                            \
        if (real_ == NULL)                                                                         \
            real_ = (__typeof__(&name))next_definition(#name);                                     \
        real_;                                                                                     \
    })

static int raw_open(int directory, const char *path, int flags)
{
    return (int)syscall(SYS_openat, directory, path, flags | O_CLOEXEC, 0600);
}

static bool recording(void)
{
    return !inside && getenv("PGVIGIL_RECORD") != NULL;
}

/* --- the log ---------------------------------------------------------------------------------- */

static void open_log(void)
{
    /* A child needs a description of its own, as the lock belongs to the description. */
    if (log_fd >= 0 && log_owner == getpid())
        return;
    log_fd = raw_open(AT_FDCWD, getenv("PGVIGIL_RECORD"), O_WRONLY | O_APPEND | O_CREAT);
    log_owner = getpid();
    operations = 0;
    if (log_fd < 0) {
        static const char text[] = "record: the log cannot be opened\n";

        syscall(SYS_write, 2, text, sizeof text - 1);
        _exit(125);
    }
}

static void begin(void)
{
    pthread_mutex_lock(&mutex);
    inside = true;
    open_log();
    flock(log_fd, LOCK_EX);
}

static void end(void)
{
    int keep = errno;

    flock(log_fd, LOCK_UN);
    inside = false;
    pthread_mutex_unlock(&mutex);
    errno = keep;
}

__attribute__((format(printf, 3, 4))) static void note(const void *data, size_t length,
                                                       const char *format, ...)
{
    int keep = errno;
    char line[LINE];
    va_list arguments;
    int used = snprintf(line, sizeof line, "%d\t", (int)getpid());

    va_start(arguments, format);
    used += vsnprintf(line + used, sizeof line - (size_t)used, format, arguments);
    va_end(arguments);
    used += snprintf(line + used, sizeof line - (size_t)used, "\t%zu\n", length);

    struct iovec parts[] = {{.iov_base = line, .iov_len = (size_t)used},
                            {.iov_base = (void *)(uintptr_t)data, .iov_len = length},
                            {.iov_base = (void *)(uintptr_t) "\n", .iov_len = 1}};

    if (syscall(SYS_writev, log_fd, parts, 3) != (long)((size_t)used + length + 1))
        abort();
    errno = keep;
}

/* The call's way, innermost first, as "<object>+<offset>", each pointing into the call. */
static const char *stack(void)
{
    static char text[LINE / 2]; /* the lock is held */
    void *frames[FRAMES];
    int count = backtrace(frames, FRAMES);
    size_t used = 0;
    Dl_info self, info;

    text[0] = '-';
    text[1] = '\0';
    dladdr((void *)(uintptr_t)&stack, &self);
    for (int i = 0; i < count && used < sizeof text - 256; i++) {
        if (!dladdr(frames[i], &info) || info.dli_fbase == self.dli_fbase)
            continue;
        const char *slash = strrchr(info.dli_fname, '/');

        used += (size_t)snprintf(text + used, sizeof text - used, "%s%.60s+%lx", used ? "," : "",
                                 slash ? slash + 1 : info.dli_fname,
                                 (unsigned long)((char *)frames[i] - (char *)info.dli_fbase - 1));
    }
    return text;
}

/* --- where ------------------------------------------------------------------------------------- */

static bool below_roots(const char *path)
{
    const char *roots = getenv("PGVIGIL_RECORD_ROOTS");

    while (roots != NULL && *roots != '\0') {
        size_t length = strcspn(roots, ":");

        if (length > 0 && strncmp(path, roots, length) == 0 &&
            (path[length] == '/' || path[length] == '\0'))
            return true;
        roots += length + (roots[length] == ':');
    }
    return false;
}

/* Is what this descriptor stands for below the roots? */
static bool tracked(int fd, struct stat *status)
{
    char link[64], path[PATH_MAX];
    ssize_t length;
    int keep = errno;
    bool is = false;

    if (fstat(fd, status) == 0 && (S_ISREG(status->st_mode) || S_ISDIR(status->st_mode))) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        length = readlink(link, path, sizeof path - 1);
        if (length > 0) {
            path[length] = '\0';
            is = below_roots(path);
        }
    }
    errno = keep;
    return is;
}

static void locate(int directory, const char *path, struct place *place)
{
    char parent[PATH_MAX];
    size_t length = strlen(path), start;
    struct stat status;
    int keep = errno;

    *place = (struct place){.tracked = false};
    while (length > 1 && path[length - 1] == '/')
        length--;
    for (start = length; start > 0 && path[start - 1] != '/'; start--)
        ;
    if (length - start <= NAME_MAX && start < sizeof parent) {
        memcpy(parent, path, start);
        parent[start] = '\0';
        memcpy(place->name, path + start, length - start);
        place->name[length - start] = '\0';

        int fd = raw_open(directory, start > 0 ? parent : ".", O_PATH | O_DIRECTORY);

        if (fd >= 0 && tracked(fd, &status)) {
            place->tracked = true;
            place->device = status.st_dev;
            place->directory = status.st_ino;
            place->existed = fstatat(fd, place->name, &place->status, AT_SYMLINK_NOFOLLOW) == 0;
        }
        if (fd >= 0)
            close(fd);
    }
    errno = keep;
}

/* --- before an operation ----------------------------------------------------------------------- */

/* "KIND NAME FILE"; the lock is not held, so that others can go on. */
static void hold(const char *kind, const char *name)
{
    static bool done;
    const char *wanted = getenv("PGVIGIL_RECORD_HOLD");
    char text[PATH_MAX + 300], *next = text;

    if (wanted == NULL || done || strlen(wanted) >= sizeof text)
        return;
    memcpy(text, wanted, strlen(wanted) + 1);

    const char *its_kind = strsep(&next, " "), *its_name = strsep(&next, " ");
    const char *file = next;

    if (file == NULL || strcmp(kind, its_kind) != 0 || strcmp(name, its_name) != 0)
        return;
    done = true;

    int fd = raw_open(AT_FDCWD, file, O_WRONLY | O_CREAT);

    if (fd >= 0)
        close(fd);
    while (access(file, F_OK) == 0)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* Counts an operation that is about to be made; the lock is held. */
static void step(void)
{
    const char *last = getenv("PGVIGIL_RECORD_KILL");

    operations++;
    if (last != NULL && operations == strtol(last, NULL, 10)) {
        note(NULL, 0, "killed");
        kill(getpid(), SIGKILL);
        for (;;)
            pause();
    }
}

static void note_unsupported(const char *what)
{
    begin();
    note(NULL, 0, "unsupported\t%s", what);
    end();
}

/* --- open -------------------------------------------------------------------------------------- */

static void note_opened(int fd, int flags, const struct place *place)
{
    struct stat status;

    if (fd < 0 || (flags & O_TMPFILE) == O_TMPFILE || fstat(fd, &status) != 0)
        return;
    if (!place->existed && (flags & O_CREAT))
        note(NULL, 0, "create\t%lu\t%s\t%lu", (unsigned long)place->directory, place->name,
             (unsigned long)status.st_ino);
    else if (place->existed && (flags & O_TRUNC) && place->status.st_size > 0)
        note(NULL, 0, "size\t%lu\t0", (unsigned long)status.st_ino);
}

static bool makes_something(int flags)
{
    return (flags & (O_CREAT | O_TRUNC)) != 0 && (flags & O_TMPFILE) != O_TMPFILE;
}

static int open_noted(int directory, const char *path, int flags, mode_t mode)
{
    struct place place;

    if (!makes_something(flags) || !recording())
        return REAL(openat)(directory, path, flags, mode);
    begin();
    locate(directory, path, &place);
    if (place.tracked && (!place.existed || ((flags & O_TRUNC) && place.status.st_size > 0)))
        step();

    int fd = REAL(openat)(directory, path, flags, mode);

    if (place.tracked)
        note_opened(fd, flags, &place);
    end();
    return fd;
}

static mode_t mode_of(int flags, va_list arguments)
{
    return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE
               ? (mode_t)va_arg(arguments, int)
               : 0;
}

#define OPEN_BODY(directory)                                                                       \
    va_list arguments;                                                                             \
    va_start(arguments, flags);                                                                    \
    mode_t mode = mode_of(flags, arguments);                                                       \
    va_end(arguments);                                                                             \
    return open_noted(directory, path, flags, mode)

EXPORT int open(const char *path, int flags, ...)
{
    OPEN_BODY(AT_FDCWD);
}

EXPORT int open64(const char *path, int flags, ...)
{
    OPEN_BODY(AT_FDCWD);
}

EXPORT int openat(int directory, const char *path, int flags, ...)
{
    OPEN_BODY(directory);
}

EXPORT int openat64(int directory, const char *path, int flags, ...)
{
    OPEN_BODY(directory);
}

/* What fortified programs call when they give no mode. */
EXPORT int __open_2(const char *path, int flags);
EXPORT int __open64_2(const char *path, int flags);
EXPORT int __openat_2(int directory, const char *path, int flags);
EXPORT int __openat64_2(int directory, const char *path, int flags);

EXPORT int __open_2(const char *path, int flags)
{
    return open_noted(AT_FDCWD, path, flags, 0);
}

EXPORT int __open64_2(const char *path, int flags)
{
    return open_noted(AT_FDCWD, path, flags, 0);
}

EXPORT int __openat_2(int directory, const char *path, int flags)
{
    return open_noted(directory, path, flags, 0);
}

EXPORT int __openat64_2(int directory, const char *path, int flags)
{
    return open_noted(directory, path, flags, 0);
}

EXPORT int creat(const char *path, mode_t mode)
{
    return open_noted(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

EXPORT int creat64(const char *path, mode_t mode)
{
    return open_noted(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/* The C library makes the file without coming by here. */
static int temporary_noted(char *path, int flags)
{
    struct place place;
    int fd;

    if (!recording())
        return REAL(mkostemp)(path, flags);
    begin();
    locate(AT_FDCWD, path, &place);
    if (place.tracked)
        step();
    fd = REAL(mkostemp)(path, flags);
    if (fd >= 0 && place.tracked) {
        locate(AT_FDCWD, path, &place); /* now with its name */
        place.existed = false;
        note_opened(fd, O_CREAT, &place);
    }
    end();
    return fd;
}

EXPORT int mkostemp(char *path, int flags)
{
    return temporary_noted(path, flags);
}

EXPORT int mkostemp64(char *path, int flags)
{
    return temporary_noted(path, flags);
}

EXPORT int mkstemp(char *path)
{
    return temporary_noted(path, 0);
}

EXPORT int mkstemp64(char *path)
{
    return temporary_noted(path, 0);
}

static FILE *stream_noted(const char *path, const char *mode,
                          FILE *(*real)(const char *, const char *))
{
    struct place place;

    if (mode[strcspn(mode, "wa+")] != '\0' && recording()) {
        locate(AT_FDCWD, path, &place);
        if (place.tracked)
            note_unsupported("fopen");
    }
    return real(path, mode);
}

EXPORT FILE *fopen(const char *path, const char *mode)
{
    return stream_noted(path, mode, REAL(fopen));
}

EXPORT FILE *fopen64(const char *path, const char *mode)
{
    return stream_noted(path, mode, REAL(fopen64));
}

/* openat2(2) has no function in the C library. */
static long openat2_noted(long directory, const char *path, const struct open_how *how, size_t size)
{
    long (*real)(long, ...) = (long (*)(long, ...))REAL(syscall);
    struct place place;
    int flags = (int)how->flags;

    if (!makes_something(flags) || !recording())
        return real(SYS_openat2, directory, path, how, size);
    begin();
    locate((int)directory, path, &place);
    if (place.tracked && (!place.existed || ((flags & O_TRUNC) && place.status.st_size > 0)))
        step();

    long fd = real(SYS_openat2, directory, path, how, size);

    if (place.tracked)
        note_opened((int)fd, flags, &place);
    end();
    return fd;
}

EXPORT long syscall(long number, ...)
{
    long a[6];
    va_list arguments;

    va_start(arguments, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(arguments, long);
    va_end(arguments);
    if (number == SYS_openat2 && !inside)
        return openat2_noted(a[0], (const char *)a[1], (const struct open_how *)a[2], (size_t)a[3]);
    return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* --- write ------------------------------------------------------------------------------------- */

/* Before a write: is it one to note? Then the lock is held, and *at is where a write at the file
 * position begins. */
static bool write_begin(int fd, off_t *at)
{
    struct stat status;

    if (!recording() || !tracked(fd, &status) || !S_ISREG(status.st_mode))
        return false;
    begin();
    step();
    if (at != NULL) {
        int flags = fcntl(fd, F_GETFL);

        /* Others may have written to it before the lock was ours. */
        *at = flags >= 0 && (flags & O_APPEND) && fstat(fd, &status) == 0 ? status.st_size
                                                                          : lseek(fd, 0, SEEK_CUR);
    }
    return true;
}

static void note_written(int fd, const void *data, ssize_t written, off_t at)
{
    struct stat status;

    if (written > 0 && fstat(fd, &status) == 0)
        note(data, (size_t)written, "write\t%lu\t%lld", (unsigned long)status.st_ino,
             (long long)at);
    end();
}

static void note_written_parts(int fd, const struct iovec *parts, int count, ssize_t written,
                               off_t at)
{
    struct stat status;
    ssize_t left = written;

    for (int i = 0; i < count && left > 0 && fstat(fd, &status) == 0; i++) {
        size_t length = parts[i].iov_len < (size_t)left ? parts[i].iov_len : (size_t)left;

        note(parts[i].iov_base, length, "write\t%lu\t%lld", (unsigned long)status.st_ino,
             (long long)at);
        at += (off_t)length;
        left -= (ssize_t)length;
    }
    end();
}

EXPORT ssize_t write(int fd, const void *data, size_t length)
{
    off_t at;

    if (!write_begin(fd, &at))
        return REAL(write)(fd, data, length);

    ssize_t written = REAL(write)(fd, data, length);

    note_written(fd, data, written, at);
    return written;
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t length, off_t at)
{
    bool noting = write_begin(fd, NULL);
    ssize_t written = REAL(pwrite)(fd, data, length, at);

    if (noting)
        note_written(fd, data, written, at);
    return written;
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at)
{
    return pwrite(fd, data, length, at);
}

EXPORT ssize_t writev(int fd, const struct iovec *parts, int count)
{
    off_t at;

    if (!write_begin(fd, &at))
        return REAL(writev)(fd, parts, count);

    ssize_t written = REAL(writev)(fd, parts, count);

    note_written_parts(fd, parts, count, written, at);
    return written;
}

EXPORT ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
    bool noting = write_begin(fd, NULL);
    ssize_t written = REAL(pwritev)(fd, parts, count, at);

    if (noting)
        note_written_parts(fd, parts, count, written, at);
    return written;
}

EXPORT ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at)
{
    return pwritev(fd, parts, count, at);
}

EXPORT ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t at, int flags)
{
    off_t position = at;
    bool noting = write_begin(fd, at == -1 ? &position : NULL);
    ssize_t written = REAL(pwritev2)(fd, parts, count, at, flags);

    if (noting)
        note_written_parts(fd, parts, count, written, position);
    return written;
}

EXPORT ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t at, int flags)
{
    return pwritev2(fd, parts, count, at, flags);
}

static void refuse_to(int fd, const char *what)
{
    struct stat status;

    if (recording() && tracked(fd, &status))
        note_unsupported(what);
}

EXPORT ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t length,
                               unsigned flags)
{
    refuse_to(to, "copy_file_range");
    return REAL(copy_file_range)(from, from_at, to, to_at, length, flags);
}

EXPORT ssize_t sendfile(int to, int from, off_t *at, size_t length)
{
    refuse_to(to, "sendfile");
    return REAL(sendfile)(to, from, at, length);
}

EXPORT ssize_t sendfile64(int to, int from, off64_t *at, size_t length)
{
    refuse_to(to, "sendfile");
    return REAL(sendfile64)(to, from, at, length);
}

static void *map_noted(void *address, size_t length, int protection, int flags, int fd, off_t at)
{
    struct stat status;

    /* What is in a file without a name is gone with the process anyway. */
    if ((flags & (MAP_SHARED | MAP_SHARED_VALIDATE)) != 0 && (protection & PROT_WRITE) && fd >= 0 &&
        fstat(fd, &status) == 0 && status.st_nlink > 0)
        refuse_to(fd, "mmap");
    return REAL(mmap)(address, length, protection, flags, fd, at);
}

EXPORT void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t at)
{
    return map_noted(address, length, protection, flags, fd, at);
}

EXPORT void *mmap64(void *address, size_t length, int protection, int flags, int fd, off64_t at)
{
    return map_noted(address, length, protection, flags, fd, at);
}

/* --- size -------------------------------------------------------------------------------------- */

static int resize_noted(int fd, off_t size)
{
    off_t unused;

    if (!write_begin(fd, &unused))
        return REAL(ftruncate)(fd, size);

    int result = REAL(ftruncate)(fd, size);
    struct stat status;

    if (result == 0 && fstat(fd, &status) == 0)
        note(NULL, 0, "size\t%lu\t%lld", (unsigned long)status.st_ino, (long long)size);
    end();
    return result;
}

EXPORT int ftruncate(int fd, off_t size)
{
    return resize_noted(fd, size);
}

EXPORT int ftruncate64(int fd, off64_t size)
{
    return resize_noted(fd, size);
}

static int truncate_noted(const char *path, off_t size)
{
    int fd;

    if (!recording() || (fd = raw_open(AT_FDCWD, path, O_WRONLY)) < 0)
        return REAL(truncate)(path, size);

    int result = resize_noted(fd, size);

    close(fd);
    return result;
}

EXPORT int truncate(const char *path, off_t size)
{
    return truncate_noted(path, size);
}

EXPORT int truncate64(const char *path, off64_t size)
{
    return truncate_noted(path, size);
}

static int allocate_noted(int fd, int mode, off_t at, off_t length)
{
    struct stat status;

    if (mode != 0 && mode != FALLOC_FL_KEEP_SIZE)
        refuse_to(fd, "fallocate");
    if (mode != 0 || !write_begin(fd, NULL))
        return REAL(fallocate)(fd, mode, at, length);

    int result = REAL(fallocate)(fd, mode, at, length);

    if (result == 0 && fstat(fd, &status) == 0)
        note(NULL, 0, "size\t%lu\t%lld", (unsigned long)status.st_ino, (long long)status.st_size);
    end();
    return result;
}

EXPORT int fallocate(int fd, int mode, off_t at, off_t length)
{
    return allocate_noted(fd, mode, at, length);
}

EXPORT int fallocate64(int fd, int mode, off64_t at, off64_t length)
{
    return allocate_noted(fd, mode, at, length);
}

EXPORT int posix_fallocate(int fd, off_t at, off_t length)
{
    return allocate_noted(fd, 0, at, length) == 0 ? 0 : errno;
}

EXPORT int posix_fallocate64(int fd, off64_t at, off64_t length)
{
    return allocate_noted(fd, 0, at, length) == 0 ? 0 : errno;
}

/* --- fsync ------------------------------------------------------------------------------------- */

/* A disk takes its time; what is on it after the test concerns nobody. */
static int sync_really(int fd, int (*real)(int))
{
    return getenv("PGVIGIL_RECORD_UNSYNCED") == NULL ? real(fd) : fcntl(fd, F_GETFD) < 0 ? -1 : 0;
}

static int sync_noted(int fd, const char *what, int (*real)(int))
{
    struct stat status;

    if (!recording() || !tracked(fd, &status))
        return sync_really(fd, real);
    begin();
    step();

    int result = sync_really(fd, real);

    if (result == 0)
        note(NULL, 0, "%s\t%lu\t%s", what, (unsigned long)status.st_ino, stack());
    end();
    return result;
}

EXPORT int fsync(int fd)
{
    return sync_noted(fd, "fsync", REAL(fsync));
}

EXPORT int fdatasync(int fd)
{
    return sync_noted(fd, "fsync", REAL(fdatasync));
}

EXPORT int syncfs(int fd)
{
    return sync_noted(fd, "syncfs", REAL(syncfs));
}

/* --- names ------------------------------------------------------------------------------------- */

static int rename_noted(int from_directory, const char *from, int to_directory, const char *to,
                        unsigned flags)
{
    struct place a, b;

    if (getenv("PGVIGIL_RECORD_REPLACE") != NULL)
        flags &= ~(unsigned)RENAME_NOREPLACE;
    if (!recording())
        return REAL(renameat2)(from_directory, from, to_directory, to, flags);
    locate(to_directory, to, &b);
    if (b.tracked)
        hold("rename", b.name);
    begin();
    locate(from_directory, from, &a);
    locate(to_directory, to, &b);
    if (a.tracked != b.tracked || ((flags & RENAME_EXCHANGE) && a.tracked))
        note(NULL, 0, "unsupported\trename");
    if (a.tracked)
        step();

    int result = REAL(renameat2)(from_directory, from, to_directory, to, flags);

    if (result == 0 && a.tracked)
        note(NULL, 0, "rename\t%lu\t%s\t%lu\t%s\t%lu", (unsigned long)a.directory, a.name,
             (unsigned long)b.directory, b.name, (unsigned long)a.status.st_ino);
    end();
    if (result == 0 && b.tracked) {
        int keep = errno;

        hold("renamed", b.name);
        errno = keep;
    }
    return result;
}

EXPORT int rename(const char *from, const char *to)
{
    return rename_noted(AT_FDCWD, from, AT_FDCWD, to, 0);
}

EXPORT int renameat(int from_directory, const char *from, int to_directory, const char *to)
{
    return rename_noted(from_directory, from, to_directory, to, 0);
}

EXPORT int renameat2(int from_directory, const char *from, int to_directory, const char *to,
                     unsigned flags)
{
    return rename_noted(from_directory, from, to_directory, to, flags);
}

static int link_noted(int from_directory, const char *from, int to_directory, const char *to,
                      int flags)
{
    struct place b;

    if (!recording())
        return REAL(linkat)(from_directory, from, to_directory, to, flags);
    begin();
    locate(to_directory, to, &b);
    if (b.tracked)
        step();

    int result = REAL(linkat)(from_directory, from, to_directory, to, flags);

    if (result == 0 && b.tracked) {
        locate(to_directory, to, &b);
        note(NULL, 0, "link\t%lu\t%s\t%lu", (unsigned long)b.directory, b.name,
             (unsigned long)b.status.st_ino);
    }
    end();
    return result;
}

EXPORT int link(const char *from, const char *to)
{
    return link_noted(AT_FDCWD, from, AT_FDCWD, to, 0);
}

EXPORT int linkat(int from_directory, const char *from, int to_directory, const char *to, int flags)
{
    return link_noted(from_directory, from, to_directory, to, flags);
}

static int unlink_noted(int directory, const char *path, int flags)
{
    struct place place;

    if (!recording())
        return REAL(unlinkat)(directory, path, flags);
    begin();
    locate(directory, path, &place);
    if (place.tracked && place.existed)
        step();

    int result = REAL(unlinkat)(directory, path, flags);

    if (result == 0 && place.tracked)
        note(NULL, 0, "unlink\t%lu\t%s", (unsigned long)place.directory, place.name);
    end();
    return result;
}

EXPORT int unlink(const char *path)
{
    return unlink_noted(AT_FDCWD, path, 0);
}

EXPORT int unlinkat(int directory, const char *path, int flags)
{
    return unlink_noted(directory, path, flags);
}

EXPORT int rmdir(const char *path)
{
    return unlink_noted(AT_FDCWD, path, AT_REMOVEDIR);
}

EXPORT int remove(const char *path)
{
    int result = unlink_noted(AT_FDCWD, path, 0);

    return result != 0 && errno == EISDIR ? unlink_noted(AT_FDCWD, path, AT_REMOVEDIR) : result;
}

static int mkdir_noted(int directory, const char *path, mode_t mode)
{
    struct place place;

    if (!recording())
        return REAL(mkdirat)(directory, path, mode);
    begin();
    locate(directory, path, &place);
    if (place.tracked && !place.existed)
        step();

    int result = REAL(mkdirat)(directory, path, mode);

    if (result == 0 && place.tracked) {
        locate(directory, path, &place);
        note(NULL, 0, "mkdir\t%lu\t%s\t%lu", (unsigned long)place.directory, place.name,
             (unsigned long)place.status.st_ino);
    }
    end();
    return result;
}

EXPORT int mkdir(const char *path, mode_t mode)
{
    return mkdir_noted(AT_FDCWD, path, mode);
}

EXPORT int mkdirat(int directory, const char *path, mode_t mode)
{
    return mkdir_noted(directory, path, mode);
}

static int symlink_noted(const char *target, int directory, const char *path)
{
    struct place place;

    if (!recording())
        return REAL(symlinkat)(target, directory, path);
    begin();
    locate(directory, path, &place);
    if (place.tracked)
        step();

    int result = REAL(symlinkat)(target, directory, path);

    if (result == 0 && place.tracked) {
        locate(directory, path, &place);
        note(target, strlen(target), "symlink\t%lu\t%s\t%lu", (unsigned long)place.directory,
             place.name, (unsigned long)place.status.st_ino);
    }
    end();
    return result;
}

EXPORT int symlink(const char *target, const char *path)
{
    return symlink_noted(target, AT_FDCWD, path);
}

EXPORT int symlinkat(const char *target, int directory, const char *path)
{
    return symlink_noted(target, directory, path);
}

/* The unwinder is loaded by the first backtrace, which must not happen under the lock. */
__attribute__((constructor)) static void warm_up(void)
{
    void *frames[2];

    inside = true;
    backtrace(frames, 2);
    inside = false;
}
