/* test_workers.c - a fixed number of threads for one piece of work, and cancellation */
#include <check.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "pgvigil/clock.h"
#include "pgvigil/process.h"
#include "pgvigil/workers.h"
#include "suites.h"

struct work {
    atomic_uint seen; /* a bit per worker */
    atomic_int next;
    long sum[8];
};

static bool add_up(struct workers *workers, int number, void *context, struct error *err)
{
    struct work *work = context;

    atomic_fetch_or(&work->seen, 1U << number);
    for (int i; (i = atomic_fetch_add(&work->next, 1)) <= 1000;) {
        if (!workers_check(workers, err))
            return false;
        work->sum[number] += i;
    }
    return true;
}

START_TEST(test_all_work)
{
    struct work work = {.seen = 0};
    struct error err = ERROR_INIT;
    long sum = 0;

    ck_assert(workers_run(8, add_up, &work, &err));
    ck_assert_uint_eq(atomic_load(&work.seen), 0xFF);
    for (int i = 0; i < 8; i++)
        sum += work.sum[i];
    ck_assert_int_eq(sum, 500500);
    ck_assert_int_eq(err.code, ERROR_NONE);
}
END_TEST

/* Worker 2 fails; the others wait for that and end with ERROR_CANCELLED. */
static bool fail_one(struct workers *workers, int number, void *context, struct error *err)
{
    (void)context;
    if (number == 2) {
        clock_sleep(10000);
        return error_set(err, ERROR_INTEGRITY, "bad block");
    }
    while (workers_check(workers, err))
        clock_sleep(1000);
    ck_assert(workers_cancelled(workers));
    ck_assert_int_eq(err->code, ERROR_CANCELLED);
    return false;
}

START_TEST(test_first_error_counts)
{
    struct error err = ERROR_INIT;

    ck_assert(!workers_run(5, fail_one, NULL, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_str_eq(err.message, "bad block");
}
END_TEST

/* The cancelled one returns first, then comes the one with a reason. */
static bool fail_late(struct workers *workers, int number, void *context, struct error *err)
{
    (void)context;
    if (number == 0)
        return error_set(err, ERROR_CANCELLED, "told to");
    while (!workers_cancelled(workers))
        clock_sleep(1000);
    clock_sleep(10000);
    return error_set(err, ERROR_STORE, "disk full");
}

START_TEST(test_cancelled_hides_nothing)
{
    struct error err = ERROR_INIT;

    ck_assert(!workers_run(2, fail_late, NULL, &err));
    ck_assert_str_eq(err.message, "disk full");
}
END_TEST

static bool wait_for_signal(struct workers *workers, int number, void *context, struct error *err)
{
    (void)context;
    if (number == 0)
        kill(getpid(), SIGTERM);
    while (workers_check(workers, err))
        clock_sleep(1000);
    return false;
}

START_TEST(test_signal_cancels)
{
    struct error err = ERROR_INIT;

    process_catch_signals();
    ck_assert(!workers_run(3, wait_for_signal, NULL, &err));
    ck_assert_int_eq(err.code, ERROR_CANCELLED);
    ck_assert_str_eq(err.message, "interrupted by SIGTERM");
}
END_TEST

static bool wait_for_others(struct workers *workers, int number, void *context, struct error *err)
{
    (void)number;
    (void)context;
    while (workers_check(workers, err))
        clock_sleep(1000);
    return false;
}

/* With an address space too small for that many stacks some thread cannot be started. */
START_TEST(test_thread_that_does_not_start)
{
    struct rlimit limit = {256UL << 20, 256UL << 20};
    struct error err = ERROR_INIT;

    if (!LIMITABLE)
        return;
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
    ck_assert(!workers_run(500, wait_for_others, NULL, &err));
    ck_assert_int_eq(err.code, ERROR_SYSTEM);
    ck_assert_ptr_nonnull(strstr(err.message, "could not start thread"));
}
END_TEST

Suite *workers_suite(void)
{
    Suite *suite = suite_create("workers");
    TCase *tests = tcase_create("workers");

    tcase_add_test(tests, test_all_work);
    tcase_add_test(tests, test_first_error_counts);
    tcase_add_test(tests, test_cancelled_hides_nothing);
    tcase_add_test(tests, test_signal_cancels);
    tcase_add_test(tests, test_thread_that_does_not_start);
    suite_add_tcase(suite, tests);
    return suite;
}
