/* test_relay.c - one thread that takes the pieces of a stream while their owner goes on */
#include <check.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>

#include "pgvigil/buffer.h"
#include "pgvigil/relay.h"
#include "suites.h"

#define PIECE ((size_t)64 * 1024)
#define PIECES 40

struct taken {
    struct buffer bytes;
    pthread_t thread; /* that took the last piece */
    size_t fail_at;   /* bytes, or 0 */
};

static bool take(const void *data, size_t length, void *context, struct error *err)
{
    struct taken *taken = context;

    taken->thread = pthread_self();
    if (taken->fail_at > 0 && taken->bytes.length >= taken->fail_at)
        return error_set(err, ERROR_SYSTEM, "enough");
    buffer_append(&taken->bytes, data, length);
    return true;
}

static bool hand_all(struct relay *relay, size_t pieces, struct error *err)
{
    static unsigned char piece[2][PIECE];

    for (size_t i = 0; i < pieces; i++) {
        memset(piece[i % 2], (int)i, PIECE);
        if (!relay_hand(relay, piece[i % 2], PIECE, err))
            return false;
    }
    return relay_wait(relay, err);
}

START_TEST(test_order)
{
    struct taken taken = {.bytes = BUFFER_INIT};
    struct relay *relay = relay_new(take, &taken);
    struct error err = ERROR_INIT;

    ck_assert(hand_all(relay, PIECES, &err));
    ck_assert_uint_eq(taken.bytes.length, PIECES * PIECE);
    for (size_t i = 0; i < taken.bytes.length; i += PIECE / 4)
        ck_assert_uint_eq(((unsigned char *)taken.bytes.data)[i], i / PIECE);
    ck_assert(!pthread_equal(taken.thread, pthread_self()));
    relay_free(relay);
    buffer_free(&taken.bytes);
}
END_TEST

START_TEST(test_small_streams_need_no_thread)
{
    struct taken taken = {.bytes = BUFFER_INIT};
    struct relay *relay = relay_new(take, &taken);
    struct error err = ERROR_INIT;

    ck_assert(hand_all(relay, RELAY_INLINE / PIECE - 1, &err));
    ck_assert(pthread_equal(taken.thread, pthread_self()));
    relay_free(relay);
    relay_free(NULL);
    buffer_free(&taken.bytes);
}
END_TEST

/* On either side of the first thread: the error stays. */
START_TEST(test_failure)
{
    struct taken taken = {.fail_at = _i == 0 ? PIECE : RELAY_INLINE + 4 * PIECE};
    struct relay *relay = relay_new(take, &taken);
    struct error err = ERROR_INIT, again = ERROR_INIT;

    ck_assert(!hand_all(relay, PIECES, &err));
    ck_assert_str_eq(err.message, "enough");
    ck_assert_uint_eq(taken.bytes.length, taken.fail_at);
    ck_assert(!relay_hand(relay, "x", 1, &again));
    ck_assert_int_eq(again.code, ERROR_SYSTEM);
    ck_assert(!relay_wait(relay, &again));
    relay_free(relay);
    buffer_free(&taken.bytes);
}
END_TEST

/* With a piece under way, and nobody who waits for it. */
START_TEST(test_free_waits)
{
    static unsigned char bytes[2 * RELAY_INLINE];
    struct taken taken = {.bytes = BUFFER_INIT};
    struct relay *relay = relay_new(take, &taken);
    struct error err = ERROR_INIT;

    ck_assert(relay_hand(relay, bytes, RELAY_INLINE, &err));
    ck_assert(relay_hand(relay, bytes, sizeof bytes, &err));
    relay_free(relay);
    ck_assert_uint_eq(taken.bytes.length, RELAY_INLINE + sizeof bytes);
    buffer_free(&taken.bytes);
}
END_TEST

static bool count(const void *data, size_t length, void *context, struct error *err)
{
    (void)data;
    (void)err;
    *(size_t *)context += length;
    return true;
}

/* Where there is no room for another thread, the caller does the work. */
START_TEST(test_thread_that_does_not_start)
{
    static unsigned char bytes[RELAY_INLINE];
    static struct relay *relays[500];
    static size_t counts[500];
    struct rlimit limit = {256UL << 20, 256UL << 20};
    struct error err = ERROR_INIT;

    if (LIMITABLE)
        ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
    for (size_t i = 0; i < 500; i++) {
        relays[i] = relay_new(count, &counts[i]);
        for (int piece = 0; piece < 3; piece++)
            ck_assert(relay_hand(relays[i], bytes, sizeof bytes, &err));
    }
    for (size_t i = 0; i < 500; i++) {
        ck_assert(relay_wait(relays[i], &err));
        ck_assert_uint_eq(counts[i], 3 * sizeof bytes);
        relay_free(relays[i]);
    }
}
END_TEST

Suite *relay_suite(void)
{
    Suite *suite = suite_create("relay");
    TCase *tests = tcase_create("relay");

    tcase_add_test(tests, test_order);
    tcase_add_test(tests, test_small_streams_need_no_thread);
    tcase_add_loop_test(tests, test_failure, 0, 2);
    tcase_add_test(tests, test_free_waits);
    tcase_add_test(tests, test_thread_that_does_not_start);
    suite_add_tcase(suite, tests);
    return suite;
}
