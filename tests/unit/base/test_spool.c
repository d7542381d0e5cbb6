/* Lists that are added to in any order come back whole. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgvigil/mem.h"
#include "pgvigil/spool.h"
#include "pgvigil/workers.h"
#include "suites.h"
#include "support/seed.h"

#define THREADS 3

static struct error err;

static int empty_file(void)
{
    FILE *file = tmpfile();
    int fd;

    ck_assert_ptr_nonnull(file);
    fd = dup(fileno(file));
    ck_assert_int_ge(fd, 0);
    fclose(file);
    return fd;
}

/* Records of random lengths in random lists, against the same lists in memory. */
START_TEST(lists_come_back)
{
    static const size_t counts[] = {1, 7, 3000};
    const size_t count = counts[_i];
    struct spool *spool = spool_new(empty_file(), count);
    struct buffer *expected = mem_calloc(count, sizeof *expected), got = BUFFER_INIT;
    uint64_t state = seed_start("spool");
    unsigned char record[700];

    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 5000; i++) {
            const size_t list = seed_next(&state) % count;
            const size_t length = seed_next(&state) % sizeof record;

            seed_fill(&state, record, length);
            ck_assert(spool_add(spool, list, record, length, &err));
            buffer_append(&expected[list], record, length);
        }
        for (size_t list = 0; list < count; list++) {
            ck_assert_uint_eq(spool_bytes(spool, list), expected[list].length);
            ck_assert(spool_take(spool, list, &got, &err));
            ck_assert_uint_eq(got.length, expected[list].length);
            if (got.length > 0)
                ck_assert_mem_eq(got.data, expected[list].data, got.length);
            ck_assert_uint_eq(spool_bytes(spool, list), 0);
            buffer_clear(&expected[list]);
        }
    }
    for (size_t list = 0; list < count; list++)
        buffer_free(&expected[list]);
    free(expected);
    buffer_free(&got);
    spool_free(spool);
}
END_TEST

static bool add_many(struct workers *workers, int number, void *context, struct error *error)
{
    unsigned char record[100];

    (void)workers;
    memset(record, 'a' + number, sizeof record);
    for (int i = 0; i < 5000; i++)
        if (!spool_add(context, (size_t)i % 2, record, sizeof record, error))
            return false;
    return true;
}

START_TEST(records_of_threads_stay_together)
{
    struct spool *spool = spool_new(empty_file(), 2);
    struct buffer got = BUFFER_INIT;

    ck_assert(workers_run(THREADS, add_many, spool, &err));
    for (size_t list = 0; list < 2; list++) {
        size_t of[THREADS] = {0};

        ck_assert(spool_take(spool, list, &got, &err));
        ck_assert_uint_eq(got.length, THREADS * 2500 * 100);
        for (size_t i = 0; i < got.length; i += 100) {
            if (memcmp(&got.data[i], &got.data[i + 1], 99) != 0)
                ck_abort_msg("a record of list %zu is mixed with another", list);
            of[got.data[i] - 'a']++;
        }
        for (int i = 0; i < THREADS; i++)
            ck_assert_uint_eq(of[i], 2500);
    }
    buffer_free(&got);
    spool_free(spool);
}
END_TEST

START_TEST(a_full_disk_is_an_error)
{
    struct spool *spool = spool_new(open("/dev/full", O_RDWR | O_CLOEXEC), 1);
    unsigned char record[4096] = {0};
    bool ok = true;

    for (int i = 0; ok && i < 1000; i++)
        ok = spool_add(spool, 0, record, sizeof record, &err);
    ck_assert(!ok);
    ck_assert_int_eq(err.code, ERROR_SYSTEM);
    spool_free(spool);
}
END_TEST

Suite *spool_suite(void)
{
    Suite *suite = suite_create("spool");
    TCase *tests = tcase_create("spool");

    tcase_add_loop_test(tests, lists_come_back, 0, 3);
    tcase_add_test(tests, records_of_threads_stay_together);
    tcase_add_test(tests, a_full_disk_is_an_error);
    suite_add_tcase(suite, tests);
    return suite;
}
