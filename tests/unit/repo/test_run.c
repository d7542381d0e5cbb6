#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/clock.h"
#include "pgvigil/layout.h"
#include "pgvigil/object.h"
#include "pgvigil/trailer.h"
#include "repo/run_timing.h"
#include "store/retry.h"
#include "suites.h"
#include "support/archive.h"
#include "support/memory_store.h"
#include "support/scratch.h"

#define MILLISECOND INT64_C(1000)
#define PATIENCE (20 * CLOCK_SECOND) /* until a test that waits for a thread gives up */

static struct repository *repository;
static struct config config; /* of this host: where its state is */
static struct error err;

static void set_up(void)
{
    config.state_dir = scratch_make();
    repository = archive_repository();
    repository->all = &config;
    error_clear(&err);
}

static void tear_down(void)
{
    archive_free_repository(repository);
    scratch_remove(config.state_dir);
}

static json_t *read_note(const char *name, enum trailer_kind kind)
{
    struct buffer text = BUFFER_INIT;

    ck_assert_msg(object_get_buffer(repository, name, kind, OBJECT_PLAIN, 10000, &text, NULL, &err),
                  "%s", err.message);
    json_t *note = json_loadb(buffer_text(&text), text.length, 0, NULL);
    ck_assert_ptr_nonnull(note);
    buffer_free(&text);
    return note;
}

static bool exists(const char *name)
{
    char *full = repository_object_name(repository, name);
    struct store_info info;
    struct error ignored = ERROR_INIT;
    bool there = store_stat(repository->store, full, &info, &ignored);

    free(full);
    return there;
}

static bool wait_for_lease(int64_t id, unsigned number)
{
    int64_t until = clock_monotonic() + PATIENCE;
    char name[LAYOUT_NAME_SIZE];

    layout_lease(id, number, name);
    while (!exists(name)) {
        if (clock_monotonic() > until)
            return false;
        clock_sleep(5 * MILLISECOND);
    }
    return true;
}

START_TEST(begin_note_says_who)
{
    int64_t before = clock_now() / CLOCK_SECOND;
    char name[LAYOUT_NAME_SIZE], text[CLOCK_COMPACT_SIZE];
    struct run *run;

    ck_assert_msg(run_begin(repository, "backup", 1795140000, &run, &err), "%s", err.message);
    ck_assert_int_ge(run_id(run), before);
    ck_assert_int_le(run_id(run), before + 5);
    json_t *note = read_note(layout_begin(run_id(run), name), TRAILER_BEGIN);
    ck_assert_str_eq(json_string_value(json_object_get(note, "run")),
                     layout_run_text(run_id(run), text));
    ck_assert_str_eq(json_string_value(json_object_get(note, "kind")), "backup");
    ck_assert_str_eq(json_string_value(json_object_get(note, "base")), "20261120T020000Z");
    ck_assert_int_eq(json_integer_value(json_object_get(note, "pid")), getpid());
    ck_assert_ptr_nonnull(json_string_value(json_object_get(note, "host")));
    ck_assert_ptr_nonnull(json_string_value(json_object_get(note, "user")));
    ck_assert_ptr_nonnull(json_string_value(json_object_get(note, "started")));
    ck_assert_ptr_nonnull(json_string_value(json_object_get(note, "version")));
    json_decref(note);
    ck_assert(run_check(run, &err));
    run_end(run);
}
END_TEST

START_TEST(ids_are_never_shared)
{
    struct run *runs[5];
    char name[LAYOUT_NAME_SIZE];

    for (size_t i = 0; i < 5; i++) {
        ck_assert_msg(run_begin(repository, "backup", 0, &runs[i], &err), "%s", err.message);
        for (size_t j = 0; j < i; j++)
            ck_assert_int_ne(run_id(runs[i]), run_id(runs[j]));
    }
    json_t *note = read_note(layout_begin(run_id(runs[4]), name), TRAILER_BEGIN);
    ck_assert(json_is_null(json_object_get(note, "base")));
    json_decref(note);
    for (size_t i = 0; i < 5; i++)
        run_end(runs[i]);
}
END_TEST

/* Two repositories that are never seen at the same time. */
START_TEST(ids_are_not_used_twice_by_a_host)
{
    struct repository *other = archive_repository();
    struct run *here, *there;
    int64_t first;

    other->all = &config;
    ck_assert_msg(run_begin(repository, "backup", 0, &here, &err), "%s", err.message);
    first = run_id(here);
    ck_assert_msg(run_begin(other, "backup", 0, &there, &err), "%s", err.message);
    ck_assert_int_gt(run_id(there), first);
    run_end(here);
    run_end(there);

    /* What this host remembers can be lost, or cannot be kept: runs go on. */
    char *directory = config.state_dir;
    config.state_dir = (char *)(uintptr_t) "/nonexistent";
    ck_assert_msg(run_begin(other, "backup", 0, &there, &err), "%s", err.message);
    run_end(there);
    archive_free_repository(other);
    config.state_dir = directory;
}
END_TEST

START_TEST(lease_is_renewed)
{
    const struct run_timing timing = {
        .lease = 10 * CLOCK_SECOND, .renewal = 20 * MILLISECOND, .retry = MILLISECOND};
    char name[LAYOUT_NAME_SIZE], text[CLOCK_COMPACT_SIZE];
    struct run *run;

    ck_assert(run_begin_timed(repository, "backup", 0, &timing, &run, &err));
    ck_assert(wait_for_lease(run_id(run), 1));
    ck_assert(wait_for_lease(run_id(run), 3));
    json_t *lease = read_note(layout_lease(run_id(run), 1, name), TRAILER_LEASE);
    ck_assert_str_eq(json_string_value(json_object_get(lease, "run")),
                     layout_run_text(run_id(run), text));
    json_decref(lease);
    ck_assert(run_check(run, &err));
    run_end(run);
}
END_TEST

START_TEST(failed_renewals_are_retried)
{
    const struct run_timing timing = {
        .lease = 60 * CLOCK_SECOND, .renewal = 20 * MILLISECOND, .retry = 10 * MILLISECOND};
    struct run *run;

    ck_assert(run_begin_timed(repository, "backup", 0, &timing, &run, &err));
    memory_store_break(repository->store, true);
    clock_sleep(100 * MILLISECOND);
    ck_assert(run_check(run, &err)); /* the lease holds for a minute */
    memory_store_break(repository->store, false);
    ck_assert(wait_for_lease(run_id(run), 1));
    ck_assert(wait_for_lease(run_id(run), 2));
    run_end(run);
}
END_TEST

/* What another run, or an attempt of this one that seemed to fail, has stored is passed over. */
START_TEST(taken_lease_numbers)
{
    const struct run_timing timing = {
        .lease = 60 * CLOCK_SECOND, .renewal = 300 * MILLISECOND, .retry = MILLISECOND};
    char name[LAYOUT_NAME_SIZE];
    enum store_outcome outcome;
    struct run *run;

    ck_assert(run_begin_timed(repository, "backup", 0, &timing, &run, &err));
    ck_assert(object_put(repository, layout_lease(run_id(run), 1, name), TRAILER_LEASE,
                         OBJECT_PLAIN, 0, "{}", 2, &outcome, NULL, &err));
    ck_assert_int_eq(outcome, STORE_STORED);
    ck_assert(wait_for_lease(run_id(run), 2));
    run_end(run);
}
END_TEST

START_TEST(lapsed_lease_stays_lapsed)
{
    const struct run_timing timing = {
        .lease = 100 * MILLISECOND, .renewal = 20 * MILLISECOND, .retry = 20 * MILLISECOND};
    char id[CLOCK_COMPACT_SIZE];
    struct run *run;

    ck_assert(run_begin_timed(repository, "backup", 0, &timing, &run, &err));
    memory_store_break(repository->store, true);
    clock_sleep(300 * MILLISECOND);
    ck_assert(!run_check(run, &err));
    ck_assert_int_eq(err.code, ERROR_STORE);
    ck_assert_ptr_nonnull(strstr(err.message, layout_run_text(run_id(run), id)));
    ck_assert_str_ne(err.detail, "");
    memory_store_break(repository->store, false);
    ck_assert(wait_for_lease(run_id(run), 2));
    ck_assert(!run_check(run, &err));
    run_end(run);
}
END_TEST

/* The repository went away while the run lasted: an attempt to renew the lease would go on for minutes. */
START_TEST(its_end_waits_for_nobody)
{
    const struct run_timing timing = {
        .lease = 60 * CLOCK_SECOND, .renewal = 20 * MILLISECOND, .retry = MILLISECOND};
    struct store *memory = repository->store;
    struct run *run;

    repository->store = retry_new(memory, 300 * CLOCK_SECOND);
    ck_assert(run_begin_timed(repository, "restore", 0, &timing, &run, &err));
    memory_store_fail(memory, 1000000);
    clock_sleep(CLOCK_SECOND / 2);
    int64_t began = clock_monotonic();
    run_end(run);
    ck_assert_int_lt(clock_monotonic() - began, 15 * CLOCK_SECOND);
    ck_assert_int_eq(repository->store->deadline, 0);
}
END_TEST

START_TEST(unusable_repository)
{
    struct run *run;

    memory_store_break(repository->store, true);
    ck_assert(!run_begin(repository, "backup", 0, &run, &err));
    ck_assert_int_eq(err.code, ERROR_STORE);
    run_end(NULL);
}
END_TEST

Suite *run_suite(void)
{
    Suite *suite = suite_create("run");
    TCase *tests = tcase_create("run");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 30);
    tcase_add_test(tests, begin_note_says_who);
    tcase_add_test(tests, ids_are_never_shared);
    tcase_add_test(tests, ids_are_not_used_twice_by_a_host);
    tcase_add_test(tests, lease_is_renewed);
    tcase_add_test(tests, failed_renewals_are_retried);
    tcase_add_test(tests, taken_lease_numbers);
    tcase_add_test(tests, lapsed_lease_stays_lapsed);
    tcase_add_test(tests, its_end_waits_for_nobody);
    tcase_add_test(tests, unusable_repository);
    suite_add_tcase(suite, tests);
    return suite;
}
