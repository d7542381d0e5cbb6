#include <check.h>
#include <string.h>

#include "pgvigil/buffer.h"
#include "pgvigil/clock.h"
#include "pgvigil/store.h"
#include "store/limit.h"
#include "store/retry.h"
#include "suites.h"
#include "support/memory_store.h"

static struct store *memory, *store;
static struct error err;

static void set_up(void)
{
    memory = memory_store_new();
    store = retry_new(memory, 10 * CLOCK_SECOND);
    error_clear(&err);
}

static void tear_down(void)
{
    store_close(store);
}

static bool put(const char *name, const char *text, enum store_outcome *outcome)
{
    struct store_put *begun;

    return store_put_begin(store, name, STORE_DATA, &begun, &err) &&
           store_put_write(begun, text, strlen(text), &err) &&
           store_put_commit(begun, outcome, &err);
}

static void expect(const char *name, const char *text)
{
    struct buffer got = BUFFER_INIT;

    ck_assert_msg(store_get_buffer(store, name, 1000, &got, &err), "%s", err.message);
    ck_assert_str_eq(buffer_text(&got), text);
    buffer_free(&got);
}

START_TEST(what_is_transient_is_tried_again)
{
    enum store_outcome outcome;

    memory_store_fail(memory, 2);
    ck_assert_msg(put("a", "text", &outcome), "%s", err.message);
    ck_assert_int_eq(outcome, STORE_STORED);
    memory_store_fail(memory, 1);
    expect("a", "text");
    ck_assert_int_eq(err.code, ERROR_NONE);
}
END_TEST

START_TEST(what_is_not_transient_is_not)
{
    struct store_info info;
    int64_t start = clock_monotonic();

    memory_store_break(memory, true);
    ck_assert(!store_stat(store, "a", &info, &err));
    ck_assert_str_eq(err.message, "the memory store is broken");
    memory_store_break(memory, false);
    ck_assert(!store_stat(store, "a", &info, &err));
    ck_assert_int_eq(err.code, ERROR_NOT_FOUND);
    ck_assert_int_lt(clock_monotonic() - start, CLOCK_SECOND / 8);
}
END_TEST

START_TEST(it_gives_up_in_time)
{
    struct store_info info;
    int64_t start = clock_monotonic();

    memory_store_fail(memory, 1000);
    store_set_deadline(store, start + CLOCK_SECOND);
    ck_assert(!store_stat(store, "a", &info, &err));
    ck_assert_int_eq(err.code, ERROR_STORE);
    ck_assert_msg(strstr(err.message, "the memory store is tired, ") == err.message, "%s",
                  err.message);
    ck_assert_ptr_nonnull(strstr(err.message, " attempts in "));
    ck_assert_int_lt(clock_monotonic() - start, 2 * CLOCK_SECOND);
}
END_TEST

/* One that the deadline would cut off tells nothing but that. */
START_TEST(the_last_attempt_has_time_for_an_answer)
{
    struct store_info info;

    memory_store_fail(memory, 1000);
    store_set_deadline(store, clock_monotonic() + CLOCK_SECOND * 2 / 5);
    ck_assert(!store_stat(store, "a", &info, &err));
    ck_assert_msg(strstr(err.message, "the memory store is tired, 1 attempt in ") == err.message,
                  "%s", err.message);
}
END_TEST

START_TEST(a_lost_answer_is_no_conflict)
{
    enum store_outcome outcome;

    memory_store_lose_answer(memory);
    ck_assert_msg(put("a", "text", &outcome), "%s", err.message);
    ck_assert_int_eq(outcome, STORE_STORED);
    expect("a", "text");
}
END_TEST

/* The answer was lost, and what is there is somebody else's. */
START_TEST(a_lost_answer_may_hide_a_conflict)
{
    static const char *const others[] = {"other", "tex", "texts", "texT", ""};
    enum store_outcome outcome;

    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        char name[2] = {(char)('a' + (int)i), '\0'};

        ck_assert(put(name, others[i], &outcome));
        memory_store_lose_answer(memory);
        ck_assert_msg(put(name, "text", &outcome), "%s", err.message);
        ck_assert_int_eq(outcome, STORE_TAKEN);
        expect(name, others[i]);
    }
}
END_TEST

START_TEST(a_get_goes_on_where_it_broke_off)
{
    enum store_outcome outcome;
    struct buffer got = BUFFER_INIT;

    ck_assert(put("a", "0123456789", &outcome));
    memory_store_cut_get(memory);
    expect("a", "0123456789");
    memory_store_cut_get(memory);
    ck_assert(store_get_buffer(store, "a", 1000, &got, &err));
    ck_assert_str_eq(buffer_text(&got), "0123456789");
    buffer_free(&got);
}
END_TEST

START_TEST(a_limit_is_kept)
{
    struct store *limited = limit_new(memory_store_new(), 1024 * 1024);
    static char data[512 * 1024];
    struct store_put *begun;
    enum store_outcome outcome;
    struct buffer got = BUFFER_INIT;
    int64_t start = clock_monotonic();

    ck_assert(store_put_begin(limited, "a", STORE_DATA, &begun, &err));
    ck_assert(store_put_write(begun, data, sizeof(data), &err));
    ck_assert(store_put_commit(begun, &outcome, &err));
    ck_assert(store_get_buffer(limited, "a", sizeof(data), &got, &err));
    /* A megabyte, but for the last part of each, which nothing waits behind. */
    ck_assert_int_gt(clock_monotonic() - start, CLOCK_SECOND * 6 / 10);
    ck_assert_uint_eq(got.length, sizeof(data));
    buffer_free(&got);
    store_close(limited);
}
END_TEST

Suite *retry_suite(void)
{
    Suite *suite = suite_create("retry");
    TCase *tests = tcase_create("retry");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, what_is_transient_is_tried_again);
    tcase_add_test(tests, what_is_not_transient_is_not);
    tcase_add_test(tests, it_gives_up_in_time);
    tcase_add_test(tests, the_last_attempt_has_time_for_an_answer);
    tcase_add_test(tests, a_lost_answer_is_no_conflict);
    tcase_add_test(tests, a_lost_answer_may_hide_a_conflict);
    tcase_add_test(tests, a_get_goes_on_where_it_broke_off);
    tcase_add_test(tests, a_limit_is_kept);
    suite_add_tcase(suite, tests);
    return suite;
}
