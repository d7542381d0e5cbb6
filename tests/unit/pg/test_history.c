/* test_history.c - timeline history files */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/buffer.h"
#include "pgvigil/history.h"
#include "suites.h"

static bool parse(uint32_t timeline, const char *text, struct history *history, struct error *err)
{
    return history_parse(timeline, text, strlen(text), history, err);
}

START_TEST(test_first_timeline)
{
    struct error err = ERROR_INIT;
    struct history history;

    ck_assert(history_parse(1, NULL, 0, &history, &err));
    ck_assert_uint_eq(history.count, 1);
    ck_assert_uint_eq(history_switch_lsn(&history, 1), UINT64_MAX);
    ck_assert_uint_eq(history_switch_lsn(&history, 2), 0);
    ck_assert_uint_eq(history_timeline_at(&history, 12345), 1);
    ck_assert_ptr_null(history_parent(&history));
    history_free(&history);
    history_free(&history);
    history_free(NULL);
}
END_TEST

START_TEST(test_ancestors)
{
    static const char text[] = "1\t0/5D0F200\tat restore point \"r1\"\n"
                               "\n"
                               "# written by hand\n"
                               "  3 A/BC before 2000-01-01 00:00:00+00\r\n"
                               "4\ta/BC\tno recovery target specified";
    struct error err = ERROR_INIT;
    struct history history;

    ck_assert_msg(parse(7, text, &history, &err), "%s", err.message);
    ck_assert_uint_eq(history.timeline, 7);
    ck_assert_uint_eq(history.count, 4);
    ck_assert_uint_eq(history.entries[1].timeline, 3);
    ck_assert_uint_eq(history_switch_lsn(&history, 1), 0x5D0F200);
    ck_assert_uint_eq(history_switch_lsn(&history, 3), UINT64_C(0xA000000BC));
    ck_assert_uint_eq(history_switch_lsn(&history, 4), UINT64_C(0xA000000BC));
    ck_assert_uint_eq(history_switch_lsn(&history, 7), UINT64_MAX);
    ck_assert_uint_eq(history_switch_lsn(&history, 2), 0);
    ck_assert_uint_eq(history_parent(&history)->timeline, 4);
    ck_assert_uint_eq(history_timeline_at(&history, 0), 1);
    ck_assert_uint_eq(history_timeline_at(&history, 0x5D0F1FF), 1);
    ck_assert_uint_eq(history_timeline_at(&history, 0x5D0F200), 3);
    ck_assert_uint_eq(history_timeline_at(&history, UINT64_C(0xA000000BB)), 3);
    ck_assert_uint_eq(history_timeline_at(&history, UINT64_C(0xA000000BC)), 7);
    history_free(&history);
}
END_TEST

/* Recovery along timeline 5 went back to before timelines 4 and 5 began. */
START_TEST(test_going_back)
{
    static const char text[] = "1\t0/100\n2\t0/300\n4\t0/500\n5\t0/200\n6\t0/400\n";
    struct error err = ERROR_INIT;
    struct history history;

    ck_assert_msg(parse(7, text, &history, &err), "%s", err.message);
    ck_assert_uint_eq(history.count, 6);
    ck_assert_uint_eq(history_switch_lsn(&history, 1), 0x100);
    ck_assert_uint_eq(history_switch_lsn(&history, 2), 0x200);
    ck_assert_uint_eq(history_switch_lsn(&history, 4), 0x200);
    ck_assert_uint_eq(history_switch_lsn(&history, 5), 0x200);
    ck_assert_uint_eq(history_switch_lsn(&history, 6), 0x400);
    ck_assert_uint_eq(history_timeline_at(&history, 0xFF), 1);
    ck_assert_uint_eq(history_timeline_at(&history, 0x1FF), 2);
    ck_assert_uint_eq(history_timeline_at(&history, 0x200), 6);
    ck_assert_uint_eq(history_timeline_at(&history, 0x400), 7);
    history_free(&history);
}
END_TEST

START_TEST(test_malformed)
{
    static const char *const texts[] = {
        "x\t0/1\t",
        "1",
        "1\t",
        "1\t0",
        "1\t0/\n",
        "1\t/1\n",
        "1\t0/1G\tx\n",
        "1\t0/123456789\tx\n",
        "5\t0/1\tx\n",
        "6\t0/1\tx\n",
        "0\t0/1\tx\n",
        "1\t0/0\tx\n",
        "2\t0/1\n1\t0/2\n",
        "1\t0/1\n1\t0/2\n",
        "4294967297\t0/1\tx\n",
        "-1\t0/1\tx\n",
        "99999999999999999999999\t0/1\tx\n",
    };
    struct error err = ERROR_INIT;
    struct history history;

    ck_assert_msg(!parse(5, texts[_i], &history, &err), "%s", texts[_i]);
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_ptr_null(history.entries);
}
END_TEST

START_TEST(test_bytes)
{
    struct buffer text = BUFFER_INIT;
    struct error err = ERROR_INIT;
    struct history history;

    ck_assert(!history_parse(5, "1\t0/1\0\n2", 8, &history, &err));
    ck_assert(history_parse(5, "1\t0/1\tb\0x\n", 10, &history, &err));
    history_free(&history);
    for (int i = 0; i < 10000; i++) {
        buffer_append_string(&text, "#\n");
    }
    ck_assert(history_parse(5, buffer_text(&text), text.length, &history, &err));
    history_free(&history);
    buffer_append_string(&text, "#\n");
    ck_assert(!history_parse(5, buffer_text(&text), text.length, &history, &err));
    buffer_free(&text);
}
END_TEST

Suite *history_suite(void)
{
    Suite *suite = suite_create("history");
    TCase *tests = tcase_create("history");

    tcase_add_test(tests, test_first_timeline);
    tcase_add_test(tests, test_ancestors);
    tcase_add_test(tests, test_going_back);
    tcase_add_loop_test(tests, test_malformed, 0, 17);
    tcase_add_test(tests, test_bytes);
    suite_add_tcase(suite, tests);
    return suite;
}
