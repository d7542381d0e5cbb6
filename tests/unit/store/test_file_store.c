/*
 * test_file_store.c - what the conformance suite cannot know: files, modes, links, fsyncs
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <unistd.h>

#include "pgvigil/mem.h"
#include "pgvigil/store.h"
#include "suites.h"
#include "support/listing.h"
#include "support/scratch.h"
#include "support/syscalls.h"

static char *scratch; /* "<...>/root" is the store's directory */
static struct store *store;
static struct error err;

static struct store *open_store(const char *directory)
{
    char *url = mem_printf("file://%s/%s", scratch, directory);
    struct store *opened = NULL;

    ck_assert_msg(
        store_open(&(const struct config_repository){.name = "r", .url = url}, &opened, &err), "%s",
        err.message);
    free(url);
    return opened;
}

static void set_up(void)
{
    error_clear(&err);
    scratch = scratch_make();
    store = open_store("root");
    ck_assert_msg(store_create_place(store, &err), "%s", err.message);
}

static void tear_down(void)
{
    store_close(store);
    scratch_remove(scratch);
}

/* The path of something in the scratch directory, good until the next call but three. */
static const char *in_scratch(const char *name)
{
    static char paths[4][4096];
    static unsigned next;
    char *path = paths[next++ % 4];

    snprintf(path, sizeof(paths[0]), "%s/%s", scratch, name);
    return path;
}

static bool try_put(const char *name, enum store_outcome *outcome)
{
    struct store_put *put;

    error_clear(&err);
    if (!store_put_begin(store, name, STORE_DATA, &put, &err))
        return false;
    if (!store_put_write(put, "content", 7, &err)) {
        store_put_abort(put);
        return false;
    }
    return store_put_commit(put, outcome, &err);
}

static void put(const char *name)
{
    enum store_outcome outcome;

    ck_assert_msg(try_put(name, &outcome), "%s", err.message);
    ck_assert_int_eq(outcome, STORE_STORED);
}

static void check_error(bool result, enum error_code code, const char *part)
{
    ck_assert(!result);
    ck_assert_msg(err.code == code, "code %d: %s", (int)err.code, err.message);
    ck_assert_msg(strstr(err.message, part) != NULL, "\"%s\" is not in \"%s\"", part, err.message);
}

static bool append(const void *data, size_t length, void *context, struct error *error)
{
    (void)error;
    buffer_append(context, data, length);
    return true;
}

static bool try_get(const char *name)
{
    struct buffer buffer = BUFFER_INIT;
    bool done;

    error_clear(&err);
    done = store_get(store, name, 0, UINT64_MAX, append, &buffer, &err);
    ck_assert(!done || strcmp(buffer_text(&buffer), "content") == 0);
    buffer_free(&buffer);
    return done;
}

static bool try_list(const char *prefix, int *count)
{
    error_clear(&err);
    *count = 0;
    return store_list(store, prefix, NULL, listing_count, count, &err);
}

static int count_temporary(void)
{
    DIR *stream = opendir(in_scratch("root/.tmp"));
    struct dirent *entry;
    int count = 0;

    ck_assert_ptr_nonnull(stream);
    while ((entry = readdir(stream)) != NULL)
        count += entry->d_name[0] != '.';
    closedir(stream);
    return count;
}

static void check_mode(const char *name, mode_t mode)
{
    struct stat status;

    ck_assert_msg(lstat(in_scratch(name), &status) == 0, "%s", name);
    ck_assert_msg((status.st_mode & 07777) == mode, "%s: mode %o", name, status.st_mode & 07777);
}

START_TEST(private)
{
    mode_t before = umask(0);

    put("a/b/c");
    umask(before);
    check_mode("root", 0700);
    check_mode("root/.tmp", 0700);
    check_mode("root/a", 0700);
    check_mode("root/a/b", 0700);
    check_mode("root/a/b/c", 0600);
}
END_TEST

START_TEST(no_temporary_stays)
{
    enum store_outcome outcome;
    struct store_put *aborted;

    put("a/b");
    ck_assert_int_eq(count_temporary(), 0);
    ck_assert(try_put("a/b", &outcome));
    ck_assert_int_eq(outcome, STORE_TAKEN);
    ck_assert_int_eq(count_temporary(), 0);
    ck_assert(store_put_begin(store, "c", STORE_DATA, &aborted, &err));
    ck_assert_int_eq(count_temporary(), 1);
    store_put_abort(aborted);
    ck_assert_int_eq(count_temporary(), 0);
    ck_assert(!try_put("a/b/c", &outcome));
    ck_assert_int_eq(count_temporary(), 0);
}
END_TEST

START_TEST(root_absent)
{
    enum store_outcome outcome;
    int count;

    store_close(store);
    store = open_store("elsewhere");
    check_error(try_put("a", &outcome), ERROR_STORE, "/elsewhere\" does not exist");
    check_error(try_get("a"), ERROR_STORE, "/elsewhere\" does not exist");
    ck_assert_ptr_nonnull(strstr(err.hint, "mounted"));
    check_error(try_list("", &count), ERROR_STORE, "/elsewhere\" does not exist");
    /* It is not made on the side. */
    ck_assert_int_ne(access(in_scratch("elsewhere"), F_OK), 0);
    ck_assert(store_create_place(store, &err));
    ck_assert(try_put("a", &outcome));
}
END_TEST

START_TEST(root_no_directory)
{
    enum store_outcome outcome;
    int count;

    put("a");
    store_close(store);
    store = open_store("root/a");
    check_error(try_put("b", &outcome), ERROR_STORE, "Not a directory");
    check_error(try_list("", &count), ERROR_STORE, "Not a directory");
    error_clear(&err);
    ck_assert(!store_create_place(store, &err));
    ck_assert_int_eq(err.code, ERROR_STORE);
}
END_TEST

/* Something is mounted over the root, or unmounted: what is there now was never proven to be the
 * repository, so nothing is called absent from it and nothing is put into it. */
START_TEST(root_replaced)
{
    enum store_outcome outcome;
    int count;

    put("a/b");
    ck_assert_int_eq(rename(in_scratch("root"), in_scratch("old")), 0);
    check_error(try_get("a/b"), ERROR_STORE, "does not exist");
    ck_assert_int_eq(mkdir(in_scratch("root"), 0700), 0);
    check_error(try_get("a/b"), ERROR_STORE, "is another one than before");
    check_error(try_put("a/c", &outcome), ERROR_STORE, "is another one than before");
    check_error(try_list("", &count), ERROR_STORE, "is another one than before");
    ck_assert_int_eq(rmdir(in_scratch("root")), 0);
    ck_assert_int_eq(rename(in_scratch("old"), in_scratch("root")), 0);
    ck_assert_msg(try_get("a/b"), "%s", err.message);
}
END_TEST

/* As somebody whom the directory shuts out; root is never shut out. */
START_TEST(forbidden)
{
    struct store_info info;
    enum store_outcome outcome;
    int count;

    put("a/b");
    put("open/b");
    ck_assert_int_eq(chmod(scratch, 0755), 0);
    ck_assert_int_eq(chmod(in_scratch("root"), 0755), 0);
    ck_assert_int_eq(chmod(in_scratch("root/open"), 0755), 0);
    if (geteuid() == 0)
        ck_assert_int_eq(seteuid(65534), 0);
    else
        ck_assert_int_eq(chmod(in_scratch("root/a"), 0), 0);

    check_error(try_get("a/b"), ERROR_STORE, "Permission denied");
    ck_assert_ptr_nonnull(strstr(err.hint, "belong to the user"));
    check_error(try_get("a/absent"), ERROR_STORE, "Permission denied");
    error_clear(&err);
    check_error(store_stat(store, "a/b", &info, &err), ERROR_STORE, "Permission denied");
    check_error(try_list("", &count), ERROR_STORE, "Permission denied");
    check_error(try_list("a/", &count), ERROR_STORE, "Permission denied");
    check_error(try_put("a/c", &outcome), ERROR_STORE, "Permission denied");

    if (geteuid() == 65534)
        ck_assert_int_eq(seteuid(0), 0);
    chmod(in_scratch("root/a"), 0700);
}
END_TEST

START_TEST(root_through_a_link)
{
    ck_assert_int_eq(symlink("root", in_scratch("link")), 0);
    store_close(store);
    store = open_store("link/");
    put("a/b");
    ck_assert(try_get("a/b"));
    ck_assert_int_eq(access(in_scratch("root/a/b"), F_OK), 0);
}
END_TEST

START_TEST(links_are_not_followed)
{
    struct store_info info;
    enum store_outcome outcome;
    int count;

    put("real/b");
    ck_assert_int_eq(symlink("real", in_scratch("root/link")), 0);
    ck_assert_int_eq(symlink("b", in_scratch("root/real/l")), 0);
    check_error(try_get("link/b"), ERROR_STORE, "symbolic links");
    ck_assert_ptr_nonnull(strstr(err.hint, "not followed"));
    check_error(try_get("real/l"), ERROR_STORE, "symbolic links");
    check_error(try_put("link/c", &outcome), ERROR_STORE, "symbolic links");
    check_error(try_put("link/c/d", &outcome), ERROR_STORE, "symbolic links");
    check_error(try_put("real/l", &outcome), ERROR_STORE, "symbolic links");
    error_clear(&err);
    check_error(store_stat(store, "link/b", &info, &err), ERROR_STORE, "symbolic links");
    error_clear(&err);
    check_error(store_stat(store, "real/l", &info, &err), ERROR_STORE, "symbolic links");
    error_clear(&err);
    check_error(store_remove(store, "link/b", &err), ERROR_STORE, "symbolic links");
    ck_assert(try_get("real/b"));

    /* A list that passed over a link would call absent what get calls an error. */
    check_error(try_list("", &count), ERROR_STORE, "symbolic links");
    check_error(try_list("link/", &count), ERROR_STORE, "symbolic links");
    check_error(try_list("real/", &count), ERROR_STORE, "symbolic links");
    ck_assert(try_list("real/b", &count));
    ck_assert_int_eq(count, 1);
}
END_TEST

START_TEST(temporary_directory_is_a_link)
{
    enum store_outcome outcome;

    ck_assert_int_eq(mkdir(in_scratch("victim"), 0700), 0);
    ck_assert_int_eq(symlink("../victim", in_scratch("root/.tmp")), 0);
    ck_assert(!try_put("a", &outcome));
    ck_assert_int_eq(err.code, ERROR_STORE);
    ck_assert_int_eq(rmdir(in_scratch("victim")), 0);
}
END_TEST

/* Neither hangs, is read, is listed, nor counts as the object of that name. */
START_TEST(other_things)
{
    struct store_info info;
    enum store_outcome outcome;
    int count;

    put("a/b");
    ck_assert_int_eq(mkfifo(in_scratch("root/a/fifo"), 0600), 0);
    ck_assert_int_eq(mkdir(in_scratch("root/lost+found"), 0), 0);
    ck_assert_int_eq(mkdir(in_scratch("root/.snapshot"), 0700), 0);
    ck_assert_int_eq(mkdir(in_scratch("root/a/empty"), 0700), 0);
    check_error(try_get("a/fifo"), ERROR_STORE, "a/fifo");
    error_clear(&err);
    check_error(store_stat(store, "a/fifo", &info, &err), ERROR_STORE, "a/fifo");
    check_error(try_put("a/fifo", &outcome), ERROR_STORE, "a/fifo");
    check_error(try_put("a/empty", &outcome), ERROR_STORE, "Is a directory");
    check_error(try_get("a/empty"), ERROR_NOT_FOUND, "a/empty");
    ck_assert_msg(try_list("", &count), "%s", err.message);
    ck_assert_int_eq(count, 1);
    chmod(in_scratch("root/lost+found"), 0700); /* so that it can be cleaned up */
}
END_TEST

static void make_leftover(const char *name, time_t age)
{
    const char *path = in_scratch(name);
    struct timespec times[2];
    int fd = open(path, O_CREAT | O_WRONLY, 0600);

    ck_assert_int_ge(fd, 0);
    clock_gettime(CLOCK_REALTIME, &times[0]);
    times[0].tv_sec -= age;
    times[1] = times[0];
    ck_assert_int_eq(futimens(fd, times), 0);
    close(fd);
}

START_TEST(leftovers_are_swept)
{
    const time_t hour = 3600;

    put("first");
    make_leftover("root/.tmp/0000000000000001", 25 * hour);
    make_leftover("root/.tmp/0000000000000002", 23 * hour);
    put("second"); /* this store has looked before */
    ck_assert_int_eq(count_temporary(), 2);
    store_close(store);
    store = open_store("root");
    put("third");
    ck_assert_int_eq(count_temporary(), 1);
    ck_assert_int_eq(access(in_scratch("root/.tmp/0000000000000002"), F_OK), 0);
}
END_TEST

/* As on NFS, which has no rename that replaces nothing. */
START_TEST(without_rename_noreplace)
{
    enum store_outcome outcome;
    struct stat status;

    syscalls_fail(SYSCALLS_RENAME, EINVAL, 0);
    put("a/b");
    ck_assert(try_get("a/b"));
    ck_assert_int_eq(lstat(in_scratch("root/a/b"), &status), 0);
    ck_assert_uint_eq(status.st_nlink, 1);
    ck_assert(try_put("a/b", &outcome));
    ck_assert_int_eq(outcome, STORE_TAKEN);
    ck_assert_int_eq(count_temporary(), 0);
}
END_TEST

static void check_recorded(const char *expected)
{
    char *recorded = syscalls_take();
    const char *temporary;

    /* The temporary name is random. */
    while ((temporary = strstr(recorded, "/.tmp/")) != NULL) {
        char *end = strchr(temporary, '\n');

        memmove((char *)temporary + 5, end, strlen(end) + 1);
    }
    ck_assert_str_eq(recorded, expected);
    free(recorded);
}

/* Each way from the root to an object is durable before the object has its name, whoever made the
 * directories; its own directory is synced after that. */
START_TEST(syncs_of_put)
{
    enum store_outcome outcome;

    syscalls_record(in_scratch("root"));
    put("a/b/c");
    check_recorded("fsync /.tmp\nfsync /\nfsync /a\nrename /a/b/c\nfsync /a/b\n");

    /* This store knows the way now. */
    syscalls_record(in_scratch("root"));
    put("a/b/d");
    check_recorded("fsync /.tmp\nrename /a/b/d\nfsync /a/b\n");

    /* Another doesn't. */
    store_close(store);
    store = open_store("root");
    syscalls_record(in_scratch("root"));
    put("a/e");
    check_recorded("fsync /.tmp\nfsync /\nrename /a/e\nfsync /a\n");

    /* Nor is it taken for known what lies somewhere else under the same name. */
    ck_assert_int_eq(rename(in_scratch("root/a"), in_scratch("moved")), 0);
    ck_assert_int_eq(mkdir(in_scratch("root/a"), 0700), 0);
    syscalls_record(in_scratch("root"));
    put("a/f");
    check_recorded("fsync /.tmp\nfsync /\nrename /a/f\nfsync /a\n");

    syscalls_record(in_scratch("root"));
    ck_assert(try_put("a/f", &outcome));
    check_recorded("fsync /.tmp\n");

    syscalls_record(in_scratch("root"));
    put("top");
    check_recorded("fsync /.tmp\nrename /top\nfsync /\n");
}
END_TEST

START_TEST(syncs_of_sync)
{
    put("a/b/c");
    store_close(store);
    store = open_store("root");
    syscalls_record(in_scratch("root"));
    ck_assert(store_sync(store, "a/b/c", &err));
    check_recorded("fsync /\nfsync /a\nfsync /a/b/c\nfsync /a/b\n");
    syscalls_record(in_scratch("root"));
    ck_assert(store_sync(store, "a/b/c", &err));
    check_recorded("fsync /a/b/c\nfsync /a/b\n");
}
END_TEST

START_TEST(syncs_of_remove)
{
    put("a/b/c");
    syscalls_record(in_scratch("root"));
    ck_assert(store_remove(store, "a/b/c", &err));
    check_recorded("fsync /a/b\n");
    /* The one who removed it before may have been killed before its fsync. */
    syscalls_record(in_scratch("root"));
    ck_assert(store_remove(store, "a/b/c", &err));
    check_recorded("fsync /a/b\n");
    ck_assert_int_eq(access(in_scratch("root/a/b"), F_OK), 0);
}
END_TEST

/* Also where the directory is there already. */
START_TEST(syncs_of_create_place)
{
    char *parent = mem_strdup(strrchr(scratch, '/') + 1);
    char *recorded, *expected = mem_printf("fsync /%s\nfsync /\n", parent);

    ck_assert_ptr_nonnull(strstr(scratch, parent));
    scratch[strlen(scratch) - strlen(parent) - 1] = '\0';
    syscalls_record(scratch);
    scratch[strlen(scratch)] = '/';
    ck_assert(store_create_place(store, &err));
    recorded = syscalls_take();
    ck_assert_msg(strncmp(recorded, expected, strlen(expected)) == 0, "%s", recorded);
    free(recorded);
    free(expected);
    free(parent);
}
END_TEST

START_TEST(failing_syncs)
{
    enum store_outcome outcome;

    /* The file's fsync, then those of the directories on its way: no object comes to be. */
    for (int after = 0; after < 3; after++) {
        syscalls_fail(SYSCALLS_FSYNC, EIO, after);
        check_error(try_put("a/b/c", &outcome), ERROR_STORE, "could not write object \"a/b/c\"");
        ck_assert_ptr_nonnull(strstr(err.message, "Input/output error"));
        ck_assert_ptr_nonnull(strstr(err.hint, "kernel"));
        syscalls_fail(SYSCALLS_FSYNC, 0, 0);
        ck_assert_int_eq(count_temporary(), 0);
        check_error(try_get("a/b/c"), ERROR_NOT_FOUND, "a/b/c");
        store_close(store); /* and with it what it knows to be durable */
        store = open_store("root");
    }
    /* That after the rename: an error, but the object stays, as others may have seen it. */
    syscalls_fail(SYSCALLS_FSYNC, EIO, 3);
    check_error(try_put("a/b/c", &outcome), ERROR_STORE, "could not write object \"a/b/c\"");
    syscalls_fail(SYSCALLS_FSYNC, 0, 0);
    ck_assert(try_get("a/b/c"));
    ck_assert_int_eq(count_temporary(), 0);

    for (int after = 0; after < 2; after++) {
        error_clear(&err);
        syscalls_fail(SYSCALLS_FSYNC, EIO, after);
        check_error(store_sync(store, "a/b/c", &err), ERROR_STORE, "could not sync object");
    }
    error_clear(&err);
    syscalls_fail(SYSCALLS_FSYNC, EIO, 0);
    check_error(store_remove(store, "a/b/c", &err), ERROR_STORE, "could not remove object");
    error_clear(&err);
    syscalls_fail(SYSCALLS_FSYNC, EIO, 0);
    check_error(store_create_place(store, &err), ERROR_STORE, "Input/output error");
    syscalls_fail(SYSCALLS_FSYNC, 0, 0);
}
END_TEST

START_TEST(no_space)
{
    enum store_outcome outcome;

    syscalls_fail(SYSCALLS_FSYNC, ENOSPC, 0);
    check_error(try_put("a/b", &outcome), ERROR_STORE, "No space left on device");
    ck_assert_ptr_nonnull(strstr(err.hint, "make room"));
    syscalls_fail(SYSCALLS_FSYNC, 0, 0);
    syscalls_fail(SYSCALLS_RENAME, EROFS, 0);
    check_error(try_put("a/b", &outcome), ERROR_STORE, "Read-only file system");
    syscalls_fail(SYSCALLS_RENAME, 0, 0);
    ck_assert_int_eq(count_temporary(), 0);
    put("a/b");
}
END_TEST

/* A write that stops in the middle. */
START_TEST(short_write)
{
    struct rlimit before, limit;
    enum store_outcome outcome;
    struct store_put *opened;
    char *data = mem_calloc(1, 2 << 20);

    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    limit.rlim_cur = 1 << 20;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert(store_put_begin(store, "a/b", STORE_DATA, &opened, &err));
    check_error(store_put_write(opened, data, 2 << 20, &err), ERROR_STORE, "File too large");
    setrlimit(RLIMIT_FSIZE, &before);

    /* Whoever commits all the same gets no half object. */
    error_clear(&err);
    check_error(store_put_commit(opened, &outcome, &err), ERROR_STORE, "was not written");
    check_error(try_get("a/b"), ERROR_NOT_FOUND, "a/b");
    ck_assert_int_eq(count_temporary(), 0);
    free(data);
}
END_TEST

static void *come_and_go(void *stop)
{
    struct error error = ERROR_INIT;
    struct store_put *opened;
    enum store_outcome outcome;
    char name[64];

    for (int i = 0; !atomic_load((atomic_bool *)stop); i = (i + 1) % 40) {
        snprintf(name, sizeof(name), "moving/%d/%d", i % 4, i);
        if (!store_put_begin(store, name, STORE_DATA, &opened, &error) ||
            !store_put_commit(opened, &outcome, &error) || !store_remove(store, name, &error))
            return mem_strdup(error.message);
    }
    return NULL;
}

START_TEST(list_while_others_work)
{
    atomic_bool stop = false;
    pthread_t threads[2];
    char *message;
    int count;

    put("moving/1/steady");
    put("zz");
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, come_and_go, &stop), 0);
    for (int round = 0; round < 300; round++) {
        ck_assert_msg(try_list("", &count), "%s", err.message);
        ck_assert_int_ge(count, 2);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], (void **)&message);
        ck_assert_msg(message == NULL, "%s", message);
    }
}
END_TEST

static size_t resident_pages(const char *path, size_t size)
{
    unsigned char pages[4096];
    size_t count = size / 4096, resident = 0;
    int fd = open(path, O_RDONLY);
    void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);

    ck_assert_uint_le(count, sizeof(pages));
    ck_assert_ptr_ne(map, MAP_FAILED);
    ck_assert_int_eq(mincore(map, size, pages), 0);
    for (size_t i = 0; i < count; i++)
        resident += pages[i] & 1;
    munmap(map, size);
    close(fd);
    return resident;
}

/* Of 2048 pages a few may be left: the kernel takes the call as advice. */
START_TEST(cache_is_left_alone)
{
    const size_t size = 8 << 20;
    char *data = mem_calloc(1, size);
    struct buffer back = BUFFER_INIT;
    enum store_outcome outcome;
    struct store_put *opened;
    struct statfs where;

    ck_assert_int_eq(statfs(scratch, &where), 0);
    if (where.f_type != TMPFS_MAGIC) {
        ck_assert(store_put_begin(store, "big", STORE_DATA, &opened, &err));
        ck_assert(store_put_write(opened, data, size, &err));
        ck_assert(store_put_commit(opened, &outcome, &err));
        ck_assert_uint_lt(resident_pages(in_scratch("root/big"), size), 500);
        ck_assert(store_get_buffer(store, "big", size, &back, &err));
        ck_assert_uint_eq(back.length, size);
        ck_assert_uint_lt(resident_pages(in_scratch("root/big"), size), 500);
    }
    buffer_free(&back);
    free(data);
}
END_TEST

Suite *file_store_suite(void)
{
    Suite *suite = suite_create("file_store");
    TCase *tests = tcase_create("file_store");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, private);
    tcase_add_test(tests, no_temporary_stays);
    tcase_add_test(tests, root_absent);
    tcase_add_test(tests, root_no_directory);
    tcase_add_test(tests, root_replaced);
    tcase_add_test(tests, forbidden);
    tcase_add_test(tests, root_through_a_link);
    tcase_add_test(tests, links_are_not_followed);
    tcase_add_test(tests, temporary_directory_is_a_link);
    tcase_add_test(tests, other_things);
    tcase_add_test(tests, leftovers_are_swept);
    tcase_add_test(tests, without_rename_noreplace);
    tcase_add_test(tests, syncs_of_put);
    tcase_add_test(tests, syncs_of_sync);
    tcase_add_test(tests, syncs_of_remove);
    tcase_add_test(tests, syncs_of_create_place);
    tcase_add_test(tests, failing_syncs);
    tcase_add_test(tests, no_space);
    tcase_add_test(tests, short_write);
    tcase_add_test(tests, list_while_others_work);
    tcase_add_test(tests, cache_is_left_alone);
    suite_add_tcase(suite, tests);
    return suite;
}
