/* test_files.c - files and directories of the local system */
#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "fixture.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "pgvigil/workers.h"
#include "suites.h"

static struct error err;

#define OK(call) ck_assert_msg((call), "%s", err.message)

static void expect_error(bool ok, enum error_code code, const char *part)
{
    ck_assert(!ok);
    ck_assert_msg(err.code == code, "code %d: %s", (int)err.code, err.message);
    ck_assert_msg(strstr(err.message, part) != NULL, "%s", err.message);
}

static int count_entries(const char *path)
{
    DIR *stream = opendir(path);
    int count = 0;

    ck_assert_ptr_nonnull(stream);
    while (readdir(stream))
        count++;
    closedir(stream);
    return count - 2; /* without "." and ".." */
}

static void make_old(const char *path)
{
    const struct timespec long_ago[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};

    ck_assert_int_eq(utimensat(AT_FDCWD, path, long_ago, 0), 0);
}

/* Of a killed process, not of one that lives; nor anything of another name. */
START_TEST(test_a_temporary_directory_that_was_left)
{
    static const char *const others[] = {"directory-", ".pgvigil-x", "x.pgvigil-directory-"};
    char *left, *living, *young, *mine, *below;
    int left_lock, living_lock, lock;

    setenv("TMPDIR", fixture_directory, 1);
    OK(files_temporary_directory(&left, &left_lock, &err));
    below = files_join(left, "tmp/deep");
    OK(files_make_directories(below, &err));
    OK(files_temporary_directory(&living, &living_lock, &err));
    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(mkdir(fixture_path(others[i]), 0700), 0);
        make_old(fixture_path(others[i]));
    }
    close(left_lock);
    OK(files_temporary_directory(&young, &lock, &err));
    ck_assert_int_eq(access(left, F_OK), 0); /* made just now */
    close(lock);
    make_old(left);
    make_old(living);
    OK(files_temporary_directory(&mine, &lock, &err));
    ck_assert_int_ne(access(left, F_OK), 0);
    ck_assert_int_eq(access(living, F_OK), 0);
    ck_assert_int_eq(access(mine, F_OK), 0);
    for (size_t i = 0; i < 3; i++)
        ck_assert_int_eq(access(fixture_path(others[i]), F_OK), 0);
    close(lock);
    close(living_lock);
    free(left);
    free(living);
    free(young);
    free(mine);
    free(below);
}
END_TEST

START_TEST(test_write_and_read)
{
    struct buffer buffer = BUFFER_INIT;
    struct stat info;

    OK(files_write(fixture_path("f"), "first", 5, 0640, &err));
    ck_assert_int_eq(stat(fixture_path("f"), &info), 0);
    ck_assert_int_eq(info.st_mode & 07777, 0640);
    OK(files_write(fixture_path("f"), "2nd", 3, 0600, &err));
    buffer_append_string(&buffer, ">");
    OK(files_read(fixture_path("f"), 3, &buffer, &err));
    ck_assert_str_eq(buffer_text(&buffer), ">2nd");
    expect_error(files_read(fixture_path("f"), 2, &buffer, &err), ERROR_SYSTEM,
                 "is larger than 2 bytes");
    ck_assert_str_eq(buffer_text(&buffer), ">2nd");
    OK(files_write(fixture_path("f"), NULL, 0, 0600, &err));
    OK(files_read(fixture_path("f"), 0, &buffer, &err));
    ck_assert_uint_eq(buffer.length, 4);
    ck_assert_int_eq(count_entries(fixture_directory), 1);
    buffer_free(&buffer);
}
END_TEST

START_TEST(test_create_never_replaces)
{
    struct buffer buffer = BUFFER_INIT;
    struct stat info;

    OK(files_create(fixture_path("f"), "first", 5, 0640, &err));
    ck_assert_int_eq(stat(fixture_path("f"), &info), 0);
    ck_assert_int_eq(info.st_mode & 07777, 0640);
    expect_error(files_create(fixture_path("f"), "2nd", 3, 0600, &err), ERROR_EXISTS,
                 "exists already");
    ck_assert_int_eq(symlink("nowhere", fixture_path("link")), 0);
    expect_error(files_create(fixture_path("link"), "2nd", 3, 0600, &err), ERROR_EXISTS,
                 "exists already");
    OK(files_read(fixture_path("f"), 5, &buffer, &err));
    ck_assert_str_eq(buffer_text(&buffer), "first");
    ck_assert_int_eq(count_entries(fixture_directory), 2);
    buffer_free(&buffer);
}
END_TEST

START_TEST(test_read_errors)
{
    struct buffer buffer = BUFFER_INIT;

    expect_error(files_read(fixture_path("absent"), 10, &buffer, &err), ERROR_NOT_FOUND,
                 "No such file or directory");
    expect_error(files_read(fixture_directory, 10, &buffer, &err), ERROR_SYSTEM,
                 "it is a directory");
    ck_assert_uint_eq(buffer.length, 0);
    OK(files_read("/proc/self/status", 1024 * 1024, &buffer, &err)); /* its size says 0 */
    ck_assert_ptr_nonnull(strstr(buffer_text(&buffer), "Pid:"));
    buffer_free(&buffer);
}
END_TEST

/* What would keep us waiting, or has no end. */
START_TEST(test_read_files_only)
{
    struct buffer buffer = BUFFER_INIT;

    ck_assert_int_eq(mkfifo(fixture_path("pipe"), 0600), 0);
    expect_error(files_read(fixture_path("pipe"), 10, &buffer, &err), ERROR_SYSTEM,
                 "it is not a regular file");
    ck_assert_int_eq(symlink("pipe", fixture_path("link")), 0);
    expect_error(files_read(fixture_path("link"), 10, &buffer, &err), ERROR_SYSTEM,
                 "it is not a regular file");
    expect_error(files_read("/dev/zero", 10, &buffer, &err), ERROR_SYSTEM,
                 "it is not a regular file");
    ck_assert_uint_eq(buffer.length, 0);
    buffer_free(&buffer);
}
END_TEST

START_TEST(test_read_stream)
{
    struct buffer buffer = BUFFER_INIT;
    int ends[2];
    char path[32];

    ck_assert_int_eq(pipe(ends), 0);
    snprintf(path, sizeof(path), "/dev/fd/%d", ends[0]);
    ck_assert_int_eq(write(ends[1], "text", 4), 4);
    close(ends[1]);
    OK(files_read_stream(path, 4, &buffer, &err));
    ck_assert_str_eq(buffer_text(&buffer), "text");
    close(ends[0]);
    expect_error(files_read_stream(fixture_directory, 10, &buffer, &err), ERROR_SYSTEM,
                 "Is a directory");
    expect_error(files_read_stream("/dev/zero", 10, &buffer, &err), ERROR_SYSTEM,
                 "is larger than 10 bytes");
    buffer_free(&buffer);
}
END_TEST

/* What fails leaves the old file and no temporary one. */
START_TEST(test_write_failure_leaves_nothing)
{
    expect_error(files_write(fixture_path("absent/f"), "x", 1, 0600, &err), ERROR_SYSTEM,
                 "absent/f");
    ck_assert_int_eq(mkdir(fixture_path("d"), 0700), 0);
    expect_error(files_write(fixture_path("d"), "x", 1, 0600, &err), ERROR_SYSTEM,
                 "could not rename");
    ck_assert_int_eq(count_entries(fixture_directory), 1);
    ck_assert_int_eq(count_entries(fixture_path("d")), 0);
}
END_TEST

START_TEST(test_long_name)
{
    char name[256];

    memset(name, 'n', 255);
    name[255] = '\0';
    OK(files_write(fixture_path(name), "x", 1, 0600, &err));
    OK(files_sync(fixture_path(name), &err));
    OK(files_sync(fixture_directory, &err));
    expect_error(files_sync(fixture_path("absent"), &err), ERROR_SYSTEM, "absent");
}
END_TEST

START_TEST(test_descriptors)
{
    int ends[2];
    char got[8] = "";
    size_t count = 0;

    ck_assert_int_eq(pipe(ends), 0);
    OK(files_write_fd(ends[1], "pipe", "abc", 3, &err));
    close(ends[1]);
    OK(files_read_fd(ends[0], "pipe", got, sizeof(got), &count, &err));
    ck_assert_uint_eq(count, 3);
    ck_assert_mem_eq(got, "abc", 3);
    close(ends[0]);
    expect_error(files_read_fd(ends[0], "name", got, 1, &count, &err), ERROR_SYSTEM, "\"name\"");
    int full = open("/dev/full", O_WRONLY);
    expect_error(files_write_fd(full, "name", "x", 1, &err), ERROR_SYSTEM, "No space left");
    close(full);
}
END_TEST

START_TEST(test_make_directories)
{
    struct stat info;

    OK(files_make_directories(fixture_path("a//b/c/"), &err));
    ck_assert_int_eq(stat(fixture_path("a/b"), &info), 0);
    ck_assert_int_eq(info.st_mode & 07777, 0700);
    OK(files_make_directories(fixture_path("a/b/c"), &err));
    OK(files_make_directories("/", &err));
    OK(files_make_directories(".", &err));
    ck_assert_int_eq(symlink("a", fixture_path("link")), 0);
    OK(files_make_directories(fixture_path("link/d"), &err));
    ck_assert_int_eq(stat(fixture_path("a/d"), &info), 0);

    fixture_write("file", "");
    expect_error(files_make_directories(fixture_path("file"), &err), ERROR_SYSTEM,
                 "Not a directory");
    expect_error(files_make_directories(fixture_path("file/x"), &err), ERROR_SYSTEM, "file");
    ck_assert_int_eq(symlink("nowhere", fixture_path("dangling")), 0);
    expect_error(files_make_directories(fixture_path("dangling"), &err), ERROR_SYSTEM, "dangling");
    ck_assert_int_eq(chdir(fixture_directory), 0);
    OK(files_make_directories("r/s", &err));
    ck_assert_int_eq(stat(fixture_path("r/s"), &info), 0);
    ck_assert_int_eq(chdir("/"), 0);
}
END_TEST

static bool make_same(struct workers *workers, int number, void *context, struct error *failure)
{
    char name[64];

    (void)workers;
    (void)number;
    for (int i = 0; i < 50; i++) {
        snprintf(name, sizeof(name), "race/%d/x/y", i);
        char *path = files_join(context, name);
        bool ok = files_make_directories(path, failure);
        free(path);
        if (!ok)
            return false;
    }
    return true;
}

START_TEST(test_make_directories_in_parallel)
{
    OK(workers_run(4, make_same, fixture_directory, &err));
}
END_TEST

START_TEST(test_remove_tree)
{
    struct stat info;

    OK(files_make_directories(fixture_path("keep"), &err));
    fixture_write("keep/file", "x");
    OK(files_make_directories(fixture_path("t/a/b/c/d"), &err));
    for (int i = 0; i < 500; i++) {
        char name[32];
        snprintf(name, sizeof(name), "t/a/%d", i);
        fixture_write(name, "");
    }
    ck_assert_int_eq(symlink("../keep", fixture_path("t/link")), 0);
    ck_assert_int_eq(symlink("../keep/file", fixture_path("t/a/link")), 0);
    ck_assert_int_eq(mkfifo(fixture_path("t/a/b/pipe"), 0600), 0);

    OK(files_remove_tree(fixture_path("t"), &err));
    ck_assert_int_ne(lstat(fixture_path("t"), &info), 0);
    OK(files_remove_tree(fixture_path("t"), &err)); /* absent */
    ck_assert_int_eq(stat(fixture_path("keep/file"), &info), 0);

    ck_assert_int_eq(symlink("keep", fixture_path("root")), 0);
    OK(files_remove_tree(fixture_path("root"), &err));
    ck_assert_int_ne(lstat(fixture_path("root"), &info), 0);
    ck_assert_int_eq(stat(fixture_path("keep/file"), &info), 0);
    OK(files_remove_tree(fixture_path("keep/file"), &err));
    ck_assert_int_eq(count_entries(fixture_path("keep")), 0);
}
END_TEST

/* As root only, in a mount namespace of this test's process. */
START_TEST(test_remove_tree_stays_on_file_system)
{
    struct stat info;

    OK(files_make_directories(fixture_path("t/mounted"), &err));
    if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", fixture_path("t/mounted"), "tmpfs", 0, NULL) != 0)
        return;
    fixture_write("t/mounted/precious", "x");
    expect_error(files_remove_tree(fixture_path("t"), &err), ERROR_SYSTEM, "it is a mount point");
    ck_assert_int_eq(stat(fixture_path("t/mounted/precious"), &info), 0);
    ck_assert_int_eq(umount(fixture_path("t/mounted")), 0);
}
END_TEST

START_TEST(test_emptiness)
{
    enum files_emptiness result = FILES_NOT_DIRECTORY;

    OK(files_emptiness(fixture_path("a"), &result, &err));
    ck_assert_int_eq(result, FILES_ABSENT);
    OK(files_make_directories(fixture_path("a"), &err));
    OK(files_emptiness(fixture_path("a"), &result, &err));
    ck_assert_int_eq(result, FILES_EMPTY);
    fixture_write("a/.hidden", "");
    OK(files_emptiness(fixture_path("a"), &result, &err));
    ck_assert_int_eq(result, FILES_NOT_EMPTY);
    OK(files_emptiness(fixture_path("a/.hidden"), &result, &err));
    ck_assert_int_eq(result, FILES_NOT_DIRECTORY);
    ck_assert_int_eq(symlink("nowhere", fixture_path("dangling")), 0);
    OK(files_emptiness(fixture_path("dangling"), &result, &err));
    ck_assert_int_eq(result, FILES_NOT_DIRECTORY);
}
END_TEST

START_TEST(test_paths)
{
    static const char *const cases[][3] = {
        {"a", "b/c", "a/b/c"}, {"a/", "/b", "a/b"}, {"/", "b", "/b"}, {"", "b", "b"},
        {"a//b/", "", "a/b"},  {"/", "", "/"},      {"", "", ""},     {"//a", "b//", "/a/b"},
    };
    char *path;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        path = files_join(cases[i][0], cases[i][1]);
        ck_assert_str_eq(path, cases[i][2]);
        free(path);
    }
    ck_assert_int_eq(chdir("/usr"), 0);
    static const char *const absolutes[][2] = {
        {"x", "/usr/x"},    {"./x", "/usr/x"},     {".", "/usr"},
        {"/a//b/", "/a/b"}, {"../x", "/usr/../x"},
    };
    for (size_t i = 0; i < sizeof(absolutes) / sizeof(absolutes[0]); i++) {
        OK(files_absolute(absolutes[i][0], &path, &err));
        ck_assert_str_eq(path, absolutes[i][1]);
        free(path);
    }
    expect_error(files_absolute("", &path, &err), ERROR_USAGE, "empty");
    ck_assert_int_eq(chdir("/"), 0);
}
END_TEST

#define PAGE 4096
#define PAGES 64

/* Which pages of a file are in the operating system's cache. */
static int count_cached(int fd)
{
    unsigned char resident[PAGES];
    void *mapping = mmap(NULL, PAGES * PAGE, PROT_READ, MAP_SHARED, fd, 0);
    int count = 0;

    ck_assert_ptr_ne(mapping, MAP_FAILED);
    ck_assert_int_eq(mincore(mapping, PAGES * PAGE, resident), 0);
    munmap(mapping, PAGES * PAGE);
    for (int i = 0; i < PAGES; i++)
        count += resident[i] & 1;
    return count;
}

/* A file of PAGES pages, each full of its number, and none of them in the cache. */
static int make_cold_file(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    unsigned char page[PAGE];

    ck_assert_int_ge(fd, 0);
    for (int i = 0; i < PAGES; i++) {
        memset(page, i, sizeof(page));
        ck_assert_int_eq(write(fd, page, PAGE), PAGE);
    }
    ck_assert_int_eq(fsync(fd), 0);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    return fd;
}

static void expect_content(const unsigned char *data, size_t length, uint64_t offset)
{
    for (size_t i = 0; i < length; i++)
        ck_assert_uint_eq(data[i], (offset + i) / PAGE);
}

static void check_uncached(void)
{
    static unsigned char data[PAGES * PAGE + 10];
    int fd = make_cold_file(fixture_path("cold"));
    bool cacheable = count_cached(fd) == 0; /* not so on a tmpfs */
    size_t got = 0;

    for (uint64_t offset = 0; offset < PAGES * PAGE; offset += 32768) {
        OK(files_pread_uncached(fd, "cold", data, 32768, offset, &got, &err));
        ck_assert_uint_eq(got, 32768);
        expect_content(data, got, offset);
    }
    OK(files_pread_uncached(fd, "cold", data, 5000, 4097, &got, &err));
    expect_content(data, 5000, 4097);
    OK(files_pread_uncached(fd, "cold", data, sizeof(data), 0, &got, &err));
    ck_assert_uint_eq(got, PAGES * PAGE);
    OK(files_pread_uncached(fd, "cold", data, 10, PAGES * PAGE - 4, &got, &err));
    ck_assert_uint_eq(got, 4);
    OK(files_pread_uncached(fd, "cold", data, 10, PAGES * PAGE + 4, &got, &err));
    ck_assert_uint_eq(got, 0);
    OK(files_pread_uncached(fd, "cold", data, 0, 0, &got, &err));
    ck_assert_uint_eq(got, 0);
    if (cacheable)
        ck_assert_int_eq(count_cached(fd), 0);

    /* What the server has in the cache stays there. */
    posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
    ck_assert_int_eq(pread(fd, data, PAGE, 5 * PAGE), PAGE);
    ck_assert_int_eq(pread(fd, data, PAGE, 9 * PAGE), PAGE);
    int warm = count_cached(fd);
    ck_assert_int_ge(warm, 2);
    OK(files_pread_uncached(fd, "cold", data, sizeof(data), 0, &got, &err));
    ck_assert_int_eq(count_cached(fd), warm);
    close(fd);
}

START_TEST(test_pread_uncached)
{
    check_uncached();
}
END_TEST

/* A tmpfs refuses RWF_DONTCACHE, and from then on it is done without. */
START_TEST(test_pread_uncached_without_kernel)
{
    char path[] = "/dev/shm/pgvigil-unit-XXXXXX";
    int fd = mkstemp(path);
    size_t got = 0;
    char data[8];

    if (fd >= 0) {
        unlink(path);
        ck_assert_int_eq(write(fd, "abcdef", 6), 6);
        OK(files_pread_uncached(fd, path, data, sizeof(data), 1, &got, &err));
        ck_assert_uint_eq(got, 5);
        ck_assert_mem_eq(data, "bcdef", 5);
        close(fd);
    }
    check_uncached();
}
END_TEST

START_TEST(test_pread_errors)
{
    size_t got = 0;
    char data[8];
    int fd = open(fixture_directory, O_RDONLY);

    expect_error(files_pread_uncached(fd, "dir", data, 1, 0, &got, &err), ERROR_SYSTEM, "\"dir\"");
    expect_error(files_pread_uncached(fd, "dir", data, 8, INT64_MAX - 7, &got, &err), ERROR_SYSTEM,
                 "out of range");
    expect_error(files_pread_uncached(fd, "dir", data, 8, UINT64_MAX, &got, &err), ERROR_SYSTEM,
                 "out of range");
    close(fd);
    expect_error(files_pread_uncached(fd, "dir", data, 1, 0, &got, &err), ERROR_SYSTEM, "\"dir\"");
}
END_TEST

Suite *files_suite(void)
{
    Suite *suite = suite_create("files");
    TCase *tests = tcase_create("files");

    tcase_add_checked_fixture(tests, fixture_make, fixture_remove);
    tcase_add_test(tests, test_write_and_read);
    tcase_add_test(tests, test_create_never_replaces);
    tcase_add_test(tests, test_read_errors);
    tcase_add_test(tests, test_read_files_only);
    tcase_add_test(tests, test_read_stream);
    tcase_add_test(tests, test_write_failure_leaves_nothing);
    tcase_add_test(tests, test_long_name);
    tcase_add_test(tests, test_descriptors);
    tcase_add_test(tests, test_make_directories);
    tcase_add_test(tests, test_make_directories_in_parallel);
    tcase_add_test(tests, test_remove_tree);
    tcase_add_test(tests, test_remove_tree_stays_on_file_system);
    tcase_add_test(tests, test_emptiness);
    tcase_add_test(tests, test_paths);
    tcase_add_test(tests, test_pread_uncached);
    tcase_add_test(tests, test_pread_uncached_without_kernel);
    tcase_add_test(tests, test_pread_errors);
    tcase_add_test(tests, test_a_temporary_directory_that_was_left);
    suite_add_tcase(suite, tests);
    return suite;
}
