/* test_units.c - sizes and durations */
#include <check.h>
#include <limits.h>
#include <string.h>

#include "pgvigil/units.h"
#include "suites.h"

static uint64_t size_of(const char *text)
{
    struct error err = ERROR_INIT;
    uint64_t value = 0;

    ck_assert_msg(units_parse_size(text, &value, &err), "%s: %s", text, err.message);
    return value;
}

static int64_t duration_of(const char *text)
{
    struct error err = ERROR_INIT;
    int64_t value = 0;

    ck_assert_msg(units_parse_duration(text, &value, &err), "%s: %s", text, err.message);
    return value;
}

START_TEST(test_sizes)
{
    static const char *const wrong[] = {"",      "-1",          "1.5",
                                        "MB",    "1 mb",        "1KB",
                                        "1 MB ", "1,5 MB",      " 1",
                                        "1 MBx", "1.",          "1. MB",
                                        "0x10",  "20000000 TB", "18446744073709551616",
                                        "1e3",   ".5 MB",       "1.0000000001 MB"};
    struct error err = ERROR_INIT;
    uint64_t value;

    ck_assert_uint_eq(size_of("0"), 0);
    ck_assert_uint_eq(size_of("17"), 17);
    ck_assert_uint_eq(size_of("17B"), 17);
    ck_assert_uint_eq(size_of("3 kB"), 3072);
    ck_assert_uint_eq(size_of("16MB"), 16777216);
    ck_assert_uint_eq(size_of("1.5 GB"), UINT64_C(1610612736));
    ck_assert_uint_eq(size_of("2 TB"), UINT64_C(2) << 40);
    ck_assert_uint_eq(size_of("18446744073709551615"), UINT64_MAX);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        ck_assert_msg(!units_parse_size(wrong[i], &value, &err), "%s was taken", wrong[i]);
        ck_assert_int_eq(err.code, ERROR_CONFIG);
        ck_assert_str_ne(err.hint, "");
    }
}
END_TEST

START_TEST(test_durations)
{
    static const char *const wrong[] = {"",  "-1 s",          "1 m",           "1 day", "0.5",
                                        "h", "99999999999 w", "9223372036855", "30",    "0"};
    struct error err = ERROR_INIT;
    int64_t value;

    ck_assert_int_eq(duration_of("5s"), 5000000);
    ck_assert_int_eq(duration_of("0.25 s"), 250000);
    ck_assert_int_eq(duration_of("1.5 min"), 90000000);
    ck_assert_int_eq(duration_of("2 h"), INT64_C(7200000000));
    ck_assert_int_eq(duration_of("1d"), INT64_C(86400000000));
    ck_assert_int_eq(duration_of("2 w"), INT64_C(1209600000000));
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        ck_assert_msg(!units_parse_duration(wrong[i], &value, &err), "%s was taken", wrong[i]);
}
END_TEST

START_TEST(test_integers)
{
    static const char *const wrong[] = {"", "-", "+1", "1 ", " 1", "1x", "0x1", "1.0", "--1"};
    struct error err = ERROR_INIT;
    long value = 0;

    ck_assert(units_parse_integer("-7", -10, 10, &value, &err));
    ck_assert_int_eq(value, -7);
    ck_assert(units_parse_integer("9223372036854775807", LONG_MIN, LONG_MAX, &value, &err));
    ck_assert_int_eq(value, LONG_MAX);
    ck_assert(units_parse_integer("-9223372036854775808", LONG_MIN, LONG_MAX, &value, &err));
    ck_assert_int_eq(value, LONG_MIN);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        ck_assert_msg(!units_parse_integer(wrong[i], -10, 10, &value, &err), "%s", wrong[i]);
        ck_assert_ptr_nonnull(strstr(err.message, "is not a whole number"));
    }
    ck_assert(!units_parse_integer("11", 1, 10, &value, &err));
    ck_assert_str_eq(err.message, "11 is outside the valid range (1 to 10)");
    ck_assert(!units_parse_integer("0", 1, 10, &value, &err));
    ck_assert(!units_parse_integer("9223372036854775808", 1, LONG_MAX, &value, &err));
    ck_assert(!units_parse_integer("99999999999999999999999", 1, LONG_MAX, &value, &err));
}
END_TEST

START_TEST(test_format_size)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {
        {0, "0 B"},
        {1023, "1023 B"},
        {1024, "1.0 kB"},
        {1536, "1.5 kB"},
        {102300, "99.9 kB"},
        {102400, "100 kB"},
        {1048575, "1.0 MB"}, /* not "1024.0 kB" */
        {310 * 1048576 + 470000, "310 MB"},
        {UINT64_C(1503238554), "1.4 GB"},
        {UINT64_C(1) << 50, "1024 TB"},
        {UINT64_MAX, "16777216 TB"},
    };
    char text[UNITS_TEXT_SIZE];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        ck_assert_str_eq(units_format_size(cases[i].bytes, text), cases[i].text);
}
END_TEST

START_TEST(test_format_duration)
{
    static const struct {
        int64_t microseconds;
        const char *text;
    } cases[] = {
        {-5, "0 ms"},
        {0, "0 ms"},
        {850000, "850 ms"},
        {999999, "999 ms"},
        {1000000, "1 s"},
        {4200000, "4.2 s"},
        {9960000, "10 s"},
        {59600000, "1 min"},
        {125000000, "2 min 5 s"},
        {INT64_C(3600000000), "1 h"},
        {INT64_C(7260000000), "2 h 1 min"},
        {INT64_C(90000000000), "1 d 1 h"},
    };
    char text[UNITS_TEXT_SIZE];

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        ck_assert_str_eq(units_format_duration(cases[i].microseconds, text), cases[i].text);
    ck_assert_uint_lt(strlen(units_format_duration(INT64_MAX, text)), UNITS_TEXT_SIZE);
}
END_TEST

Suite *units_suite(void)
{
    Suite *suite = suite_create("units");
    TCase *tests = tcase_create("units");

    tcase_add_test(tests, test_sizes);
    tcase_add_test(tests, test_durations);
    tcase_add_test(tests, test_integers);
    tcase_add_test(tests, test_format_size);
    tcase_add_test(tests, test_format_duration);
    suite_add_tcase(suite, tests);
    return suite;
}
