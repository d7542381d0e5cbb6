/* test_mem.c - small allocations that cannot fail */
#include <check.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgvigil/mem.h"
#include "suites.h"

START_TEST(test_strings)
{
    char *copy = mem_strdup("abc");
    char *part = mem_strndup("abcdef", 4);
    char *whole = mem_strndup("ab", 100);
    char *text = mem_printf("%s-%d", "x", 7);

    ck_assert_str_eq(copy, "abc");
    ck_assert_str_eq(part, "abcd");
    ck_assert_str_eq(whole, "ab");
    ck_assert_str_eq(text, "x-7");
    free(copy);
    free(part);
    free(whole);
    free(text);
}
END_TEST

START_TEST(test_nothing_is_something)
{
    void *a = mem_alloc(0);
    void *b = mem_calloc(0, 8);
    void *c = mem_realloc(NULL, 0);

    ck_assert(a && b && c);
    free(a);
    free(b);
    free(c);
}
END_TEST

START_TEST(test_grow)
{
    uint64_t *array = NULL;
    size_t capacity = 0;

    for (size_t i = 0; i < 1000; i++) {
        array = mem_grow(array, i, &capacity, sizeof(*array));
        ck_assert_uint_gt(capacity, i);
        array[i] = i;
    }
    for (size_t i = 0; i < 1000; i++)
        ck_assert_uint_eq(array[i], i);
    free(array);
}
END_TEST

/* The message would only disturb the reader of a successful run. */
static void silence(void)
{
    int fd = open("/dev/null", O_WRONLY);

    dup2(fd, STDERR_FILENO);
    close(fd);
}

START_TEST(test_overflow_ends_the_process)
{
    size_t capacity = 0;

    silence();
    mem_set_failure_status(126);
    mem_grow(NULL, SIZE_MAX / 4, &capacity, 16);
}
END_TEST

START_TEST(test_overflow_of_the_count)
{
    size_t capacity = 0;

    silence();
    mem_grow(NULL, SIZE_MAX - 1, &capacity, 1);
}
END_TEST

START_TEST(test_try)
{
    struct error err = ERROR_INIT;
    void *pointer;

    ck_assert(mem_try_alloc(&pointer, 1 << 20, &err));
    memset(pointer, 1, 1 << 20);
    free(pointer);
}
END_TEST

Suite *mem_suite(void)
{
    Suite *suite = suite_create("mem");
    TCase *tests = tcase_create("mem");

    tcase_add_test(tests, test_strings);
    tcase_add_test(tests, test_nothing_is_something);
    tcase_add_test(tests, test_grow);
    tcase_add_exit_test(tests, test_overflow_ends_the_process, 126);
    tcase_add_exit_test(tests, test_overflow_of_the_count, 3);
    tcase_add_test(tests, test_try);
    suite_add_tcase(suite, tests);
    return suite;
}
