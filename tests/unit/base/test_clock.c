/* test_clock.c - moments and their texts */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pgvigil/clock.h"
#include "suites.h"

/* Germany's rules, spelled out so that no zone files are needed. */
static void use_zone(const char *zone)
{
    setenv("TZ", zone, 1);
    tzset();
}

#define BERLIN "CET-1CEST,M3.5.0,M10.5.0/3"

static void expect_moment(const char *text, int64_t wanted)
{
    struct error err = ERROR_INIT;
    int64_t moment = -1;

    ck_assert_msg(clock_parse(text, &moment, &err), "%s: %s", text, err.message);
    ck_assert_msg(moment == wanted, "%s: %lld", text, (long long)(moment - wanted));
}

static void expect_error(const char *text, const char *part)
{
    struct error err = ERROR_INIT;
    int64_t moment = -1;

    ck_assert_msg(!clock_parse(text, &moment, &err), "%s was taken", text);
    ck_assert_int_eq(err.code, ERROR_USAGE);
    ck_assert_msg(strstr(err.message, part) != NULL, "%s: %s", text, err.message);
    ck_assert_int_eq(moment, -1);
}

START_TEST(test_parse)
{
    const int64_t night = INT64_C(1795140000) * CLOCK_SECOND; /* 2026-11-20 02:00:00 UTC */

    use_zone("UTC0");
    expect_moment("1970-01-01T00:00:00Z", 0);
    expect_moment("2000-01-01 00:00:00+00", CLOCK_POSTGRES_EPOCH);
    expect_moment("2026-11-20T02:00:00Z", night);
    expect_moment("2026-11-20 02:00 UTC", night);
    expect_moment("2026-11-20 02:00UTC", night);
    expect_moment("2026-11-20 02:00", night);
    expect_moment("2026-11-20 03:00:00+01", night);
    expect_moment("2026-11-20 03:00:00 +01", night);
    expect_moment("2026-11-19T20:30:00-0530", night);
    expect_moment("2026-11-20T07:45:00+05:45", night);
    expect_moment("2026-11-20T02:00:00.5Z", night + 500000);
    expect_moment("2026-11-20 02:00:00.000001+00:00", night + 1);
    expect_moment("2024-02-29 00:00Z", INT64_C(1709164800) * CLOCK_SECOND);
    expect_moment("2000-02-29 23:59:59.999999Z", INT64_C(951868800) * CLOCK_SECOND - 1);
    expect_moment("9999-12-31 23:59:59Z", INT64_C(253402300799) * CLOCK_SECOND);
}
END_TEST

START_TEST(test_parse_refuses)
{
    static const char *const texts[] = {
        "",
        "now",
        "2026-11-20",
        "2026-11-20T",
        "2026-11-20 2:00",
        "2026-11-20 02",
        "26-11-20 02:00",
        "2026-11-20 24:00",
        "2026-11-20 23:60",
        "2026-11-20 23:59:60",
        "2026-13-01 00:00",
        "2026-00-01 00:00",
        "2026-04-31 00:00",
        "2026-02-29 00:00",
        "2100-02-29 00:00",
        "2026-01-00 00:00",
        "1969-12-31 23:59Z",
        "2026-11-20 02:00:00.",
        "2026-11-20 02:00:00.1234567Z",
        "2026-11-20 02:00:",
        "2026-11-20 02:00:00 CET",
        "2026-11-20 02:00:00+1",
        "2026-11-20 02:00:00+16",
        "2026-11-20 02:00:00+01:",
        "2026-11-20 02:00:00+01:60",
        "2026-11-20 02:00:00+01:30x",
        "2026-11-20 02:00:00Zx",
        "2026-11-20 02:00:00 ",
        "2026-11-20  02:00:00",
        " 2026-11-20 02:00:00",
        "-026-11-20 02:00",
        "10000-01-01 00:00",
        "2026-11-20\t02:00",
        "2026-11-20 02:00:00 UTCx",
        "2026-11-20 02:00 UTC+01",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        expect_error(texts[i], "invalid time");
    expect_error("1970-01-01 00:00+01", "out of range");
    expect_error("9999-12-31 23:59:59-01", "out of range");
}
END_TEST

START_TEST(test_local)
{
    use_zone(BERLIN);
    expect_moment("2026-01-15 13:00:00", INT64_C(1768478400) * CLOCK_SECOND); /* 12:00 UTC */
    expect_moment("2026-07-15 14:00:00.25", INT64_C(1784116800) * CLOCK_SECOND + 250000);
    expect_error("2026-03-29 02:30", "does not exist in the local time zone");
    expect_error("2026-10-25 02:30", "ambiguous in the local time zone");
    expect_moment("2026-10-25 02:30+02", INT64_C(1792888200) * CLOCK_SECOND);
    expect_moment("2026-10-25 03:00", INT64_C(1792893600) * CLOCK_SECOND);
    use_zone("UTC0");
    expect_moment("1970-01-01 00:00:00", 0);
}
END_TEST

START_TEST(test_format)
{
    char text[CLOCK_TEXT_SIZE];

    ck_assert_str_eq(clock_format(0, text), "1970-01-01T00:00:00Z");
    ck_assert_str_eq(clock_format(-1, text), "1969-12-31T23:59:59.999999Z");
    ck_assert_str_eq(clock_format(CLOCK_POSTGRES_EPOCH + 42, text), "2000-01-01T00:00:00.000042Z");
    ck_assert_uint_lt(strlen(clock_format(INT64_MAX, text)), CLOCK_TEXT_SIZE);
    ck_assert_uint_lt(strlen(clock_format(INT64_MIN, text)), CLOCK_TEXT_SIZE);

    use_zone(BERLIN);
    ck_assert_str_eq(clock_format_local(INT64_C(1784116800) * CLOCK_SECOND, text),
                     "2026-07-15 14:00:00+02");
    use_zone("XYZ3:30");
    ck_assert_str_eq(clock_format_local(INT64_C(1784116800) * CLOCK_SECOND + 5, text),
                     "2026-07-15 08:30:00.000005-03:30");
}
END_TEST

/* Pseudo-random, the same each time. */
START_TEST(test_round_trips)
{
    uint64_t state = 88172645463325252;
    struct error err = ERROR_INIT;
    char text[CLOCK_TEXT_SIZE];
    char compact[CLOCK_COMPACT_SIZE];

    use_zone("XYZ3:30");
    for (int i = 0; i < 5000; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        int64_t moment = (int64_t)(state % (UINT64_C(253402300800) * CLOCK_SECOND));
        int64_t back = -1;
        ck_assert(clock_parse(clock_format(moment, text), &back, &err));
        ck_assert_int_eq(back, moment);
        if (moment > CLOCK_SECOND * 86400) {
            ck_assert(clock_parse(clock_format_local(moment, text), &back, &err));
            ck_assert_int_eq(back, moment);
        }
        ck_assert(clock_parse_compact(clock_format_compact(moment, compact), &back));
        ck_assert_int_eq(back, moment - moment % CLOCK_SECOND);
    }
}
END_TEST

START_TEST(test_compact)
{
    static const char *const wrong[] = {
        "",
        "20261120T020000",
        "20261120T020000z",
        "20261120T020000ZZ",
        "20261120 020000Z",
        "20261320T020000Z",
        "20260229T020000Z",
        "20261120T240000Z",
        "20261120T020060Z",
        "2026-11-20T02:00:00Z",
        "+0261120T020000Z",
        "19691231T235959Z",
    };
    char text[CLOCK_COMPACT_SIZE];
    int64_t moment = -1;

    ck_assert(clock_parse_compact("20261120T020000Z", &moment));
    ck_assert_int_eq(moment, INT64_C(1795140000) * CLOCK_SECOND);
    ck_assert_str_eq(clock_format_compact(moment + 999999, text), "20261120T020000Z");
    ck_assert_str_eq(clock_format_compact(INT64_MAX, text), "99991231T235959Z");
    ck_assert_str_eq(clock_format_compact(-5, text), "19700101T000000Z");
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        ck_assert_msg(!clock_parse_compact(wrong[i], &moment), "%s was taken", wrong[i]);
}
END_TEST

START_TEST(test_running)
{
    int64_t before = clock_monotonic();

    clock_sleep(20000);
    ck_assert_int_ge(clock_monotonic() - before, 20000);
    clock_sleep(-1);
    ck_assert_int_gt(clock_now(), INT64_C(1700000000) * CLOCK_SECOND);
}
END_TEST

Suite *clock_suite(void)
{
    Suite *suite = suite_create("clock");
    TCase *tests = tcase_create("clock");

    tcase_add_test(tests, test_parse);
    tcase_add_test(tests, test_parse_refuses);
    tcase_add_test(tests, test_local);
    tcase_add_test(tests, test_format);
    tcase_add_test(tests, test_round_trips);
    tcase_add_test(tests, test_compact);
    tcase_add_test(tests, test_running);
    suite_add_tcase(suite, tests);
    return suite;
}
