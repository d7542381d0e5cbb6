/* test_error.c - errors are values */
#include <errno.h>

#include "fixture.h"
#include "pgvigil/error.h"
#include "suites.h"

START_TEST(test_set_clears_the_rest)
{
    struct error err = ERROR_INIT;

    ck_assert(!error_set(&err, ERROR_USAGE, "first %d", 1));
    ck_assert(!error_detail(&err, "detail %s", "a"));
    ck_assert(!error_hint(&err, "hint %s", "b"));
    ck_assert_str_eq(err.message, "first 1");
    ck_assert_str_eq(err.detail, "detail a");
    ck_assert_str_eq(err.hint, "hint b");
    ck_assert(!error_set(&err, ERROR_STORE, "second"));
    ck_assert_int_eq(err.code, ERROR_STORE);
    ck_assert_str_eq(err.detail, "");
    ck_assert_str_eq(err.hint, "");
    error_clear(&err);
    ck_assert_int_eq(err.code, ERROR_NONE);
    ck_assert_str_eq(err.message, "");
}
END_TEST

START_TEST(test_errno)
{
    struct error err = ERROR_INIT;

    errno = EACCES;
    ck_assert(!error_set_errno(&err, "could not open \"%s\"", "x"));
    ck_assert_int_eq(err.code, ERROR_SYSTEM);
    ck_assert_str_eq(err.message, "could not open \"x\": Permission denied");
}
END_TEST

START_TEST(test_errno_keeps_reason_of_long_names)
{
    struct error err = ERROR_INIT;
    char name[5000];

    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    errno = ENOENT;
    error_set_errno(&err, "could not open \"%s\"", name);
    ck_assert_ptr_nonnull(strstr(err.message, "nnn...: No such file or directory"));
}
END_TEST

START_TEST(test_context)
{
    struct error err = ERROR_INIT;

    error_set(&err, ERROR_INTEGRITY, "bad digest");
    error_hint(&err, "Fetch it again.");
    ck_assert(!error_context(&err, "object \"%s\"", "a"));
    ck_assert_str_eq(err.message, "object \"a\": bad digest");
    ck_assert_str_eq(err.hint, "Fetch it again.");
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
}
END_TEST

START_TEST(test_hints_are_joined)
{
    struct error err = ERROR_INIT;

    error_set(&err, ERROR_STORE, "no answer");
    ck_assert(!error_hint_also(&err, "wait %d s", 5));
    ck_assert_str_eq(err.hint, "wait 5 s");
    error_hint_also(&err, "then %s", "try again");
    ck_assert_str_eq(err.hint, "wait 5 s; then try again");
    error_hint(&err, "is it mounted?");
    error_hint_also(&err, "then try again");
    ck_assert_str_eq(err.hint, "is it mounted? Then try again");
}
END_TEST

START_TEST(test_own_texts_as_arguments)
{
    struct error err = ERROR_INIT;

    error_set(&err, ERROR_STORE, "inner");
    error_hint(&err, "do it");
    error_set(&err, ERROR_SYSTEM, "outer (%s) %s", err.message, err.hint);
    ck_assert_str_eq(err.message, "outer (inner) do it");
    error_context(&err, "%s", err.message);
    ck_assert_str_eq(err.message, "outer (inner) do it: outer (inner) do it");
}
END_TEST

/* Whatever the length, a cut text ends in "..." and in whole UTF-8 characters. */
START_TEST(test_truncation)
{
    struct error err = ERROR_INIT;
    char text[3000];

    for (size_t shift = 0; shift < 4; shift++) {
        memset(text, 'x', shift);
        for (size_t i = shift; i + 4 < sizeof(text); i += 4)
            memcpy(text + i, "\xF0\x9F\x98\x80", 5);
        error_set(&err, ERROR_USAGE, "%s", text);
        size_t length = strlen(err.message);
        ck_assert_uint_lt(length, sizeof(err.message));
        ck_assert_uint_gt(length, sizeof(err.message) - 10);
        ck_assert_str_eq(err.message + length - 3, "...");
        ck_assert_uint_eq((length - 3 - shift) % 4, 0);
        error_hint(&err, "%s", text);
        ck_assert_uint_lt(strlen(err.hint), sizeof(err.hint));
    }
}
END_TEST

START_TEST(test_exact_fit_is_not_cut)
{
    struct error err = ERROR_INIT;
    char text[sizeof(err.message)];

    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    error_set(&err, ERROR_USAGE, "%s", text);
    ck_assert_str_eq(err.message, text);
}
END_TEST

START_TEST(test_hostile_text)
{
    struct error err = ERROR_INIT;

    error_set(&err, ERROR_USAGE, "%s", "%n%s\xff\xfe\x80");
    ck_assert_str_eq(err.message, "%n%s\xff\xfe\x80");
    error_context(&err, "%s", "\x80\x80\x80\x80");
    ck_assert_str_eq(err.message, "\x80\x80\x80\x80: %n%s\xff\xfe\x80");
}
END_TEST

START_TEST(test_exit_codes)
{
    ck_assert_int_eq(error_exit_code(ERROR_NONE), 0);
    ck_assert_int_eq(error_exit_code(ERROR_NEGATIVE), 1);
    ck_assert_int_eq(error_exit_code(ERROR_NOT_FOUND), 1);
    ck_assert_int_eq(error_exit_code(ERROR_EXISTS), 1);
    ck_assert_int_eq(error_exit_code(ERROR_USAGE), 2);
    ck_assert_int_eq(error_exit_code(ERROR_CONFIG), 2);
    for (int code = ERROR_SYSTEM; code <= ERROR_CANCELLED; code++)
        ck_assert_int_eq(error_exit_code((enum error_code)code), 3);
    ck_assert_int_eq(error_exit_code(ERROR_INTEGRITY), 4);
}
END_TEST

Suite *error_suite(void)
{
    Suite *suite = suite_create("error");
    TCase *tests = tcase_create("error");

    tcase_add_test(tests, test_set_clears_the_rest);
    tcase_add_test(tests, test_errno);
    tcase_add_test(tests, test_errno_keeps_reason_of_long_names);
    tcase_add_test(tests, test_context);
    tcase_add_test(tests, test_hints_are_joined);
    tcase_add_test(tests, test_own_texts_as_arguments);
    tcase_add_test(tests, test_truncation);
    tcase_add_test(tests, test_exact_fit_is_not_cut);
    tcase_add_test(tests, test_hostile_text);
    tcase_add_test(tests, test_exit_codes);
    suite_add_tcase(suite, tests);
    return suite;
}
