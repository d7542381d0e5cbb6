/*
 * inject.c - makes calls of the C library fail as a system that runs short would make them
 *
 * Preloaded (LD_PRELOAD) into pgvigil by tests/integration/test_shortage.py.
 *
 * Environment
 *   PGVIGIL_INJECT        "CALL PATH WHICH ERRNO": calls of the group CALL fail with ERRNO (a number) if PATH is part of
 *                         the name of the file they are about ("-": whatever it is). WHICH: "5" is the fifth such call
 *                         only, "5+" the fifth and all after it.
 *   PGVIGIL_INJECT_COUNT  a file to which "<calls that fitted>\n" is appended when the process ends
 *
 *   PGVIGIL_INJECT_HALT   with ERRNO 0 the call does not fail: this file is made, and the call waits until it has gone
 *
 * Groups: open (making temporary files too), read, write (making room too), sync, name (rename, link), remove, thread, memory;
 * store is open, name and remove together.
 * For memory PATH and ERRNO are not looked at, and what glibc asks for to look a user up does not count: glibc 2.36 crashes
 * by itself where it gets none for its table of name services.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define EARLY_BYTES 65536

enum group { NONE, OPEN, READ, WRITE, SYNC, NAME, REMOVE, STORE, THREAD, MEMORY };

static const char *const group_names[] = {"",     "open",   "read",  "write",  "sync",
                                          "name", "remove", "store", "thread", "memory"};

static enum group wanted;
static char part[PATH_MAX];
static long which;
static bool and_after;
static int number;
static atomic_long calls;

/* The next definition of a function. */
#define NEXT(name) ((__typeof__(&name))next_definition(#name))

static void *next_definition(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);

    if (found == NULL) {
        static const char text[] = "inject: a function of the C library is missing\n";

        syscall(SYS_write, 2, text, sizeof text - 1);
        _exit(125);
    }
    return found;
}

__attribute__((constructor)) static void begin(void)
{
    const char *text = getenv("PGVIGIL_INJECT");
    char group[16], mark = '\0';

    if (text == NULL ||
        sscanf(text, "%15s %4095s %ld%c %d", group, part, &which, &mark, &number) < 4)
        return;
    and_after = mark == '+';
    for (int i = OPEN; i <= MEMORY; i++)
        if (strcmp(group, group_names[i]) == 0)
            wanted = (enum group)i;
}

/* As the very last, and also where the process ends with _exit. */
static void report(void)
{
    const char *path = getenv("PGVIGIL_INJECT_COUNT");
    char line[32];
    int fd;

    if (path == NULL ||
        (fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, 0600)) < 0)
        return;
    const int length = snprintf(line, sizeof line, "%ld\n", atomic_load(&calls));
    syscall(SYS_write, fd, line, (size_t)length);
    syscall(SYS_close, fd);
}

__attribute__((destructor)) static void end(void)
{
    report();
}

static bool is_turn(void)
{
    const long turn = atomic_fetch_add(&calls, 1) + 1;

    return turn == which || (and_after && turn > which);
}

static bool is_wanted(enum group group)
{
    return group == wanted ||
           (wanted == STORE && (group == OPEN || group == NAME || group == REMOVE));
}

/* Until somebody removes the file. */
static void halt(void)
{
    const char *path = getenv("PGVIGIL_INJECT_HALT");
    const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};
    int fd;

    if (path == NULL ||
        (fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT, 0600)) < 0)
        return;
    syscall(SYS_close, fd);
    while (syscall(SYS_faccessat, AT_FDCWD, path, F_OK) == 0)
        nanosleep(&pause, NULL);
}

/* Is this call to fail? errno is set then. */
static bool fails_at(enum group group, const char *path)
{
    if (!is_wanted(group) || (strcmp(part, "-") != 0 && strstr(path, part) == NULL) || !is_turn())
        return false;
    errno = number;
    if (number == 0)
        halt();
    return number != 0;
}

static bool fails_on(enum group group, int fd)
{
    char link[64], path[PATH_MAX];
    ssize_t length;

    if (group != wanted)
        return false;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return false;
    path[length] = '\0';
    return fails_at(group, path);
}

/* A name in a directory. */
static bool fails_in(enum group group, int directory, const char *name)
{
    char link[64], path[2 * PATH_MAX];
    ssize_t length = -1;

    if (!is_wanted(group))
        return false;
    if (name[0] == '/' || directory == AT_FDCWD)
        return fails_at(group, name);
    snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    length = readlink(link, path, PATH_MAX - 1);
    snprintf(path + (length > 0 ? length : 0), PATH_MAX, "/%s", name);
    return fails_at(group, path);
}

/* -- opening ------------------------------------------------------------------------------------- */

static mode_t mode_of(int flags, va_list list)
{
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(list, mode_t) : 0;
}

#define OPENS(name, before, directory, ...)                                                        \
    EXPORT int name(before const char *path, int flags, ...)                                       \
    {                                                                                              \
        va_list list;                                                                              \
                                                                                                   \
        va_start(list, flags);                                                                     \
        const mode_t mode = mode_of(flags, list);                                                  \
        va_end(list);                                                                              \
        return fails_in(OPEN, directory, path) ? -1 : NEXT(name)(__VA_ARGS__ path, flags, mode);   \
    }

#define COMMA ,
OPENS(open, , AT_FDCWD, )
OPENS(open64, , AT_FDCWD, )
OPENS(openat, int folder COMMA, folder, folder COMMA)
OPENS(openat64, int folder COMMA, folder, folder COMMA)

EXPORT int mkostemp(char *template, int flags)
{
    return fails_at(OPEN, template) ? -1 : NEXT(mkostemp)(template, flags);
}

EXPORT int mkostemp64(char *template, int flags)
{
    return fails_at(OPEN, template) ? -1 : NEXT(mkostemp64)(template, flags);
}

/* openat2 has no function of its own. */
EXPORT long syscall(long call, ...)
{
    long a[6];
    va_list list;

    va_start(list, call);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    if (call == SYS_openat2 && fails_in(OPEN, (int)a[0], (const char *)a[1]))
        return -1;
    return NEXT(syscall)(call, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* -- reading and writing --------------------------------------------------------------------------- */

EXPORT ssize_t read(int fd, void *data, size_t length)
{
    return fails_on(READ, fd) ? -1 : NEXT(read)(fd, data, length);
}

EXPORT ssize_t pread(int fd, void *data, size_t length, off_t offset)
{
    return fails_on(READ, fd) ? -1 : NEXT(pread)(fd, data, length, offset);
}

EXPORT ssize_t pread64(int fd, void *data, size_t length, off64_t offset)
{
    return fails_on(READ, fd) ? -1 : NEXT(pread64)(fd, data, length, offset);
}

EXPORT ssize_t preadv2(int fd, const struct iovec *parts, int count, off_t offset, int flags)
{
    return fails_on(READ, fd) ? -1 : NEXT(preadv2)(fd, parts, count, offset, flags);
}

EXPORT ssize_t preadv64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags)
{
    return fails_on(READ, fd) ? -1 : NEXT(preadv64v2)(fd, parts, count, offset, flags);
}

EXPORT ssize_t write(int fd, const void *data, size_t length)
{
    return fails_on(WRITE, fd) ? -1 : NEXT(write)(fd, data, length);
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t length, off_t offset)
{
    return fails_on(WRITE, fd) ? -1 : NEXT(pwrite)(fd, data, length, offset);
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset)
{
    return fails_on(WRITE, fd) ? -1 : NEXT(pwrite64)(fd, data, length, offset);
}

EXPORT ssize_t writev(int fd, const struct iovec *parts, int count)
{
    return fails_on(WRITE, fd) ? -1 : NEXT(writev)(fd, parts, count);
}

EXPORT ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    return fails_on(WRITE, fd) ? -1 : NEXT(pwritev)(fd, parts, count, offset);
}

EXPORT ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset)
{
    return fails_on(WRITE, fd) ? -1 : NEXT(pwritev64)(fd, parts, count, offset);
}

EXPORT int ftruncate(int fd, off_t length)
{
    return fails_on(WRITE, fd) ? -1 : NEXT(ftruncate)(fd, length);
}

EXPORT int ftruncate64(int fd, off64_t length)
{
    return fails_on(WRITE, fd) ? -1 : NEXT(ftruncate64)(fd, length);
}

EXPORT int posix_fallocate(int fd, off_t offset, off_t length)
{
    return fails_on(WRITE, fd) ? number : NEXT(posix_fallocate)(fd, offset, length);
}

EXPORT int posix_fallocate64(int fd, off64_t offset, off64_t length)
{
    return fails_on(WRITE, fd) ? number : NEXT(posix_fallocate64)(fd, offset, length);
}

/* -- syncing and naming ------------------------------------------------------------------------------ */

EXPORT int fsync(int fd)
{
    return fails_on(SYNC, fd) ? -1 : NEXT(fsync)(fd);
}

EXPORT int fdatasync(int fd)
{
    return fails_on(SYNC, fd) ? -1 : NEXT(fdatasync)(fd);
}

EXPORT int syncfs(int fd)
{
    return fails_on(SYNC, fd) ? -1 : NEXT(syncfs)(fd);
}

EXPORT int rename(const char *from, const char *to)
{
    return fails_at(NAME, to) ? -1 : NEXT(rename)(from, to);
}

EXPORT int renameat(int from_folder, const char *from, int folder, const char *to)
{
    return fails_in(NAME, folder, to) ? -1 : NEXT(renameat)(from_folder, from, folder, to);
}

EXPORT int renameat2(int from_folder, const char *from, int folder, const char *to, unsigned flags)
{
    return fails_in(NAME, folder, to) ? -1 : NEXT(renameat2)(from_folder, from, folder, to, flags);
}

EXPORT int linkat(int from_folder, const char *from, int folder, const char *to, int flags)
{
    return fails_in(NAME, folder, to) ? -1 : NEXT(linkat)(from_folder, from, folder, to, flags);
}

EXPORT int unlinkat(int folder, const char *path, int flags)
{
    return fails_in(REMOVE, folder, path) ? -1 : NEXT(unlinkat)(folder, path, flags);
}

/* -- threads and memory ------------------------------------------------------------------------------ */

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *argument)
{
    return fails_at(THREAD, "") ? number
                                : NEXT(pthread_create)(thread, attributes, function, argument);
}

/* What dlsym itself asks for before the real functions are known; never given back. */
static void *early(size_t size)
{
    static _Alignas(16) unsigned char bytes[EARLY_BYTES];
    static size_t used;
    void *space = bytes + used;

    used += (size + 15) & ~(size_t)15;
    if (used > sizeof bytes)
        _exit(125);
    return space;
}

static void *(*next_malloc)(size_t);
static void *(*next_calloc)(size_t, size_t);
static void *(*next_realloc)(void *, size_t);
static __thread bool resolving __attribute__((tls_model("initial-exec")));

static bool resolve(void)
{
    if (next_realloc)
        return true;
    if (resolving)
        return false;
    resolving = true;
    next_malloc = (__typeof__(next_malloc))dlsym(RTLD_NEXT, "malloc");
    next_calloc = (__typeof__(next_calloc))dlsym(RTLD_NEXT, "calloc");
    next_realloc = (__typeof__(next_realloc))dlsym(RTLD_NEXT, "realloc");
    resolving = false;
    return true;
}

static __thread bool looking_up __attribute__((tls_model("initial-exec")));

static bool no_memory(void)
{
    if (wanted != MEMORY || looking_up || !is_turn())
        return false;
    errno = ENOMEM;
    return true;
}

EXPORT void *malloc(size_t size)
{
    if (!resolve())
        return early(size);
    return no_memory() ? NULL : next_malloc(size);
}

EXPORT void *calloc(size_t count, size_t size)
{
    if (!resolve())
        return early(count * size);
    return no_memory() ? NULL : next_calloc(count, size);
}

EXPORT void *realloc(void *pointer, size_t size)
{
    if (!resolve())
        return early(size);
    return no_memory() ? NULL : next_realloc(pointer, size);
}

EXPORT int getpwuid_r(uid_t user, struct passwd *entry, char *space, size_t size,
                      struct passwd **found)
{
    looking_up = true;
    const int reason = NEXT(getpwuid_r)(user, entry, space, size, found);
    looking_up = false;
    return reason;
}

EXPORT void _exit(int status)
{
    report();
    syscall(SYS_exit_group, status);
    __builtin_unreachable();
}
