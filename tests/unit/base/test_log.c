/* test_log.c - messages for people */
#include <pthread.h>

#include "fixture.h"
#include "pgvigil/log.h"
#include "suites.h"

START_TEST(test_levels)
{
    fixture_catch();
    log_debug("hidden");
    log_hint("hidden with it");
    log_info("plain %d", 1);
    log_warning("careful");
    log_failure("broken");
    log_hint("mend it");
    log_set_level(LOG_DEBUG);
    log_debug("seen");
    log_set_level(LOG_ERROR);
    log_warning("hidden");
    log_hint("hidden with it");
    log_failure("last");
    ck_assert_str_eq(fixture_caught(), "pgvigil: plain 1\n"
                                       "pgvigil: warning: careful\n"
                                       "pgvigil: error: broken\n"
                                       "pgvigil: hint: mend it\n"
                                       "pgvigil: debug: seen\n"
                                       "pgvigil: error: last\n");
    ck_assert_int_eq(log_level(), LOG_ERROR);
}
END_TEST

START_TEST(test_whole_error)
{
    struct error err = ERROR_INIT;

    error_set(&err, ERROR_STORE, "no");
    error_detail(&err, "why");
    error_hint(&err, "so");
    fixture_catch();
    log_error(LOG_WARNING, &err);
    log_error(LOG_DEBUG, &err);
    ck_assert_str_eq(fixture_caught(), "pgvigil: warning: no\n"
                                       "pgvigil: detail: why\n"
                                       "pgvigil: hint: so\n");
}
END_TEST

START_TEST(test_escaping)
{
    fixture_catch();
    log_info("%s", "a\nb\tc\x1b[31m\x7f \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
    log_info("%s", "\xc2\x9b C1");              /* a terminal's escape in one character */
    log_info("%s", "\xff \xc3 \xc0\x80");       /* never valid */
    log_info("%s", "\xe0\x80\x80\xed\xa0\x80"); /* overlong, surrogate */
    log_info("%s", "\xf4\x90\x80\x80\xe2\x82"); /* beyond Unicode, cut off */
    ck_assert_str_eq(fixture_caught(),
                     "pgvigil: a\\nb\\tc\\x1b[31m\\x7f \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\n"
                     "pgvigil: \\xc2\\x9b C1\n"
                     "pgvigil: \\xff \\xc3 \\xc0\\x80\n"
                     "pgvigil: \\xe0\\x80\\x80\\xed\\xa0\\x80\n"
                     "pgvigil: \\xf4\\x90\\x80\\x80\\xe2\\x82\n");
}
END_TEST

START_TEST(test_once)
{
    fixture_catch();
    for (int i = 0; i < 200; i++) {
        log_warning_once("%s", "the same");
        log_hint("to it");
        if (i % 50 == 0)
            log_warning_once("another %d", i);
    }
    ck_assert_str_eq(fixture_caught(), "pgvigil: warning: the same\n"
                                       "pgvigil: hint: to it\n"
                                       "pgvigil: warning: another 0\n"
                                       "pgvigil: warning: another 50\n"
                                       "pgvigil: warning: another 100\n"
                                       "pgvigil: warning: another 150\n");
}
END_TEST

static void mark_clear(void)
{
    ck_assert_int_eq(write(STDERR_FILENO, "<", 1), 1);
}

static void mark_redraw(void)
{
    ck_assert_int_eq(write(STDERR_FILENO, ">", 1), 1);
}

START_TEST(test_display_is_put_aside)
{
    fixture_catch();
    log_set_display(mark_clear, mark_redraw);
    log_info("a");
    log_set_display(NULL, NULL);
    log_info("b");
    ck_assert_str_eq(fixture_caught(), "<pgvigil: a\n>pgvigil: b\n");
}
END_TEST

static void *chatter(void *argument)
{
    for (int i = 0; i < 200; i++)
        log_info("%s", (const char *)argument);
    return NULL;
}

START_TEST(test_lines_of_threads_do_not_mix)
{
    static const char *const words[] = {"aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "cccccccccccccccc"};
    pthread_t threads[3];
    size_t lines = 0;

    fixture_catch();
    for (size_t i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, chatter, (void *)(uintptr_t)words[i]),
                         0);
    for (size_t i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    const char *at = fixture_caught();
    for (; *at != '\0'; lines++) {
        ck_assert_int_eq(strncmp(at, "pgvigil: ", 9), 0);
        char letter = at[9];
        ck_assert_uint_eq(strspn(at + 9, (char[]){letter, '\0'}), 16);
        ck_assert_int_eq(at[25], '\n');
        at += 26;
    }
    ck_assert_uint_eq(lines, 600);
}
END_TEST

Suite *log_suite(void)
{
    Suite *suite = suite_create("log");
    TCase *tests = tcase_create("log");

    tcase_add_checked_fixture(tests, fixture_make, fixture_remove);
    tcase_add_test(tests, test_levels);
    tcase_add_test(tests, test_whole_error);
    tcase_add_test(tests, test_escaping);
    tcase_add_test(tests, test_once);
    tcase_add_test(tests, test_display_is_put_aside);
    tcase_add_test(tests, test_lines_of_threads_do_not_mix);
    suite_add_tcase(suite, tests);
    return suite;
}
