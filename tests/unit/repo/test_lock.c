#include "pgvigil/lock.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "suites.h"
#include "support/scratch.h"

static char *directory;
static struct error err;

static void set_up(void)
{
    directory = scratch_make();
    error_clear(&err);
}

static void tear_down(void)
{
    scratch_remove(directory);
}

START_TEST(the_refused_one_is_told_who_holds_it)
{
    struct lock *lock, *second;
    char *expected = mem_printf("another backup is running: pid %ld (\"pgvigil backup --full\"), "
                                "since 20",
                                (long)getpid());

    ck_assert_msg(lock_take(directory, "backup", "backup --full", &lock, &err), "%s", err.message);
    ck_assert(!lock_take(directory, "backup", "backup", &second, &err));
    ck_assert_int_eq(err.code, ERROR_BUSY);
    ck_assert_msg(strncmp(err.message, expected, strlen(expected)) == 0, "%s", err.message);
    ck_assert_int_eq(err.message[strlen(err.message) - 1], 'Z');
    free(expected);

    /* Another name is another lock. */
    ck_assert(lock_take(directory, "expire", "expire", &second, &err));
    lock_release(second);
    lock_release(lock);
    ck_assert(lock_take(directory, "backup", "backup", &lock, &err));
    lock_release(lock);
    lock_release(NULL);
}
END_TEST

/* A process that was killed leaves its note behind, but not the lock. */
START_TEST(a_dead_holder_holds_nothing)
{
    struct lock *lock, *second;
    int ready[2], status;
    char byte = 0;

    ck_assert_int_eq(pipe(ready), 0);
    pid_t child = fork();
    if (child == 0) {
        if (!lock_take(directory, "backup", "a long command line to be shortened later", &lock,
                       &err))
            _exit(1);
        if (write(ready[1], &byte, 1) != 1)
            _exit(1);
        pause();
        _exit(1);
    }
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    ck_assert(!lock_take(directory, "backup", "backup", &lock, &err));
    ck_assert_ptr_nonnull(strstr(err.message, "a long command line"));
    kill(child, SIGKILL);
    ck_assert_int_eq(waitpid(child, &status, 0), child);

    ck_assert_msg(lock_take(directory, "backup", "b", &lock, &err), "%s", err.message);
    ck_assert(!lock_take(directory, "backup", "backup", &second, &err));
    ck_assert_ptr_nonnull(strstr(err.message, "(\"pgvigil b\")"));
    ck_assert_ptr_null(strstr(err.message, "shortened"));
    lock_release(lock);
    close(ready[0]);
    close(ready[1]);
}
END_TEST

/* The holder may have been seen between taking the lock and writing who it is. */
START_TEST(a_note_that_is_not_whole_is_not_shown)
{
    static const char *const notes[] = {"", "123", "123\tpgvigil", "\n\n"};
    char *path = mem_printf("%s/lock/backup.lock", directory);
    struct lock *lock, *second;

    for (size_t i = 0; i < sizeof(notes) / sizeof(notes[0]); i++) {
        ck_assert(lock_take(directory, "backup", "backup", &lock, &err));
        FILE *file = fopen(path, "w");
        ck_assert_ptr_nonnull(file);
        fputs(notes[i], file);
        fclose(file);
        ck_assert(!lock_take(directory, "backup", "backup", &second, &err));
        ck_assert_int_eq(err.code, ERROR_BUSY);
        ck_assert_str_eq(err.message, "another backup is running");
        lock_release(lock);
    }
    free(path);
}
END_TEST

START_TEST(a_place_that_cannot_be_written_is_an_error)
{
    struct lock *lock;
    char *file = mem_printf("%s/lock", directory);

    ck_assert(files_write(file, "x", 1, 0600, &err));
    ck_assert(!lock_take(directory, "backup", "backup", &lock, &err));
    ck_assert_int_eq(err.code, ERROR_SYSTEM);
    free(file);
}
END_TEST

START_TEST(what_is_no_file_is_an_error)
{
    struct lock *lock;
    char *place = mem_printf("%s/lock", directory), *path = files_join(place, "backup.lock");

    ck_assert(files_make_directories(place, &err));
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert(!lock_take(directory, "backup", "backup", &lock, &err));
    ck_assert_int_eq(err.code, ERROR_SYSTEM);
    ck_assert_ptr_nonnull(strstr(err.message, "it is not a regular file"));
    free(place);
    free(path);
}
END_TEST

Suite *lock_suite(void)
{
    Suite *suite = suite_create("lock");
    TCase *tests = tcase_create("lock");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, the_refused_one_is_told_who_holds_it);
    tcase_add_test(tests, a_dead_holder_holds_nothing);
    tcase_add_test(tests, a_note_that_is_not_whole_is_not_shown);
    tcase_add_test(tests, a_place_that_cannot_be_written_is_an_error);
    tcase_add_test(tests, what_is_no_file_is_an_error);
    suite_add_tcase(suite, tests);
    return suite;
}
