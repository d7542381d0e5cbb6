/* test_progress.c - how far a long job is */
#include "fixture.h"
#include "pgvigil/clock.h"
#include "pgvigil/log.h"
#include "pgvigil/progress.h"
#include "pgvigil/workers.h"
#include "suites.h"

#define MB (1024 * 1024)
#define ERASE "\r\033[K"

static const char *last_line(const char *text)
{
    const char *at = strrchr(text, '\r');

    ck_assert_ptr_nonnull(at);
    return at;
}

START_TEST(test_line)
{
    progress_set_terminal(true);
    fixture_catch();
    progress_start("backup", 400 * MB);
    progress_add(100 * MB);
    clock_sleep(520000);
    progress_add(20 * MB);
    const char *text = fixture_caught();
    ck_assert_int_eq(strncmp(text, "\rbackup: 0 B of 400 MB, 0 %\033[K\r", 31), 0);
    const char *line = last_line(text);
    ck_assert_int_eq(strncmp(line, "\rbackup: 120 MB of 400 MB, 30 %, ", 33), 0);
    ck_assert_ptr_nonnull(strstr(line, " MB/s, "));
    ck_assert_ptr_nonnull(strstr(line, " s left\033[K"));
}
END_TEST

START_TEST(test_messages_and_end)
{
    progress_set_terminal(true);
    fixture_catch();
    progress_start("restore", 0);
    log_info("between");
    progress_stage("syncing");
    progress_stop();
    log_info("after");
    progress_add(5); /* nothing comes of it */
    ck_assert_str_eq(fixture_caught(), "\rrestore: 0 B\033[K" ERASE "pgvigil: between\n"
                                       "\rrestore: 0 B\033[K"
                                       "\rsyncing: 0 B\033[K" ERASE "pgvigil: after\n");
}
END_TEST

START_TEST(test_more_than_everything)
{
    progress_set_terminal(true);
    fixture_catch();
    progress_start("backup", 10);
    progress_add(25);
    progress_stage("backup");
    ck_assert_str_eq(last_line(fixture_caught()), "\rbackup: 25 B of 10 B, 100 %\033[K");
}
END_TEST

START_TEST(test_no_terminal)
{
    fixture_catch(); /* stderr is a file now */
    progress_start("backup", 100);
    progress_add(50);
    log_info("x");
    progress_stage("syncing");
    progress_stop();
    ck_assert_str_eq(fixture_caught(), "pgvigil: x\n");
}
END_TEST

static bool add_much(struct workers *workers, int number, void *context, struct error *err)
{
    const int64_t *end = context;

    (void)workers;
    (void)err;
    while (clock_monotonic() < *end) {
        for (int i = 0; i < 100; i++)
            progress_add(10);
        if (number == 0)
            log_info("message");
        clock_sleep(100);
    }
    return true;
}

/* Each message stands on a line of its own, whatever is drawn meanwhile. */
START_TEST(test_threads)
{
    struct error err = ERROR_INIT;
    int64_t end = clock_monotonic() + 1200000;
    static const char message[] = ERASE "pgvigil: message\n";

    progress_set_terminal(true);
    fixture_catch();
    progress_start("backup", 0);
    ck_assert(workers_run(4, add_much, &end, &err));
    progress_stop();
    const char *text = fixture_caught();
    size_t messages = 0, whole = 0;
    for (const char *at = text; (at = strstr(at, "message")); at++)
        messages++;
    for (const char *at = text; (at = strstr(at, message)); at++)
        whole++;
    ck_assert_uint_gt(messages, 10);
    ck_assert_uint_eq(messages, whole);
}
END_TEST

Suite *progress_suite(void)
{
    Suite *suite = suite_create("progress");
    TCase *tests = tcase_create("progress");

    tcase_set_timeout(tests, 60); /* of a machine with much else to do */

    tcase_add_checked_fixture(tests, fixture_make, fixture_remove);
    tcase_add_test(tests, test_line);
    tcase_add_test(tests, test_messages_and_end);
    tcase_add_test(tests, test_more_than_everything);
    tcase_add_test(tests, test_no_terminal);
    tcase_add_test(tests, test_threads);
    suite_add_tcase(suite, tests);
    return suite;
}
