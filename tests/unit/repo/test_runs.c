#include "pgvigil/runs.h"

#include <check.h>

#include "pgvigil/clock.h"
#include "pgvigil/layout.h"
#include "suites.h"
#include "support/archive.h"
#include "support/memory_store.h"
#include "support/scratch.h"

#define BASE INT64_C(1795140000)

static struct repository *repository;
static struct config config; /* of this host: where its state is */
static struct runs runs;
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
    runs_free(&runs);
    archive_free_repository(repository);
    scratch_remove(config.state_dir);
}

static struct run *begin(const char *kind, int64_t base)
{
    struct run *run;

    ck_assert_msg(run_begin(repository, kind, base, &run, &err), "%s", err.message);
    return run;
}

static const struct runs_entry *look(const struct run *run, int64_t later)
{
    runs_free(&runs);
    ck_assert_msg(runs_read(repository, clock_now() + later, &runs, &err), "%s", err.message);
    return runs_find(&runs, run_id(run));
}

START_TEST(a_run_lives_until_it_ends)
{
    struct run *run = begin("backup", BASE);
    int64_t id = run_id(run);
    const struct runs_entry *entry = look(run, 0);

    ck_assert(entry && entry->lives && entry->readable);
    ck_assert_str_eq(entry->kind, "backup");
    ck_assert_int_eq(entry->base, BASE);
    ck_assert_ptr_eq(runs_holder(&runs, BASE), entry);
    ck_assert_ptr_null(runs_holder(&runs, BASE + 1));
    ck_assert_ptr_eq(runs_living(&runs, "backup", 0), entry);
    ck_assert_ptr_null(runs_living(&runs, "backup", id));
    ck_assert_ptr_null(runs_living(&runs, "expire", 0));
    run_end(run);
    runs_free(&runs);
    ck_assert(runs_read(repository, clock_now(), &runs, &err));
    ck_assert(!runs_find(&runs, id)->lives);
    ck_assert_ptr_null(runs_holder(&runs, BASE));
}
END_TEST

START_TEST(or_until_its_lease_has_lapsed_for_long)
{
    struct run *run = begin("backup", BASE);

    ck_assert(look(run, RUNS_PATIENCE - CLOCK_SECOND)->lives);
    ck_assert(!look(run, RUNS_PATIENCE + CLOCK_SECOND)->lives);
    ck_assert_ptr_null(runs_holder(&runs, BASE));
    run_end(run);
}
END_TEST

START_TEST(claims_hold_as_the_base_does)
{
    struct run *run = begin("backup", 0);

    ck_assert(run_claim(run, BASE + 7, &err));
    ck_assert(run_claim(run, BASE + 7, &err));
    ck_assert(run_claim(run, BASE + 8, &err));
    const struct runs_entry *entry = look(run, 0);
    ck_assert_uint_eq(entry->claim_count, 2);
    ck_assert_ptr_eq(runs_holder(&runs, BASE + 7), entry);
    ck_assert_ptr_eq(runs_holder(&runs, BASE + 8), entry);
    ck_assert_ptr_null(runs_holder(&runs, BASE));
    run_end(run);
}
END_TEST

/* What it builds on cannot be known: it may be anything, and the run of any kind. */
START_TEST(an_unreadable_note_holds_everything)
{
    struct run *run = begin("restore", BASE);
    char name[LAYOUT_NAME_SIZE];

    archive_replace(repository, layout_begin(run_id(run), name), "no note", 7);
    const struct runs_entry *entry = look(run, 0);
    ck_assert(entry->lives && !entry->readable);
    ck_assert_ptr_eq(runs_holder(&runs, BASE + 1), entry);
    ck_assert_ptr_eq(runs_living(&runs, "expire", 0), entry);
    run_end(run);
}
END_TEST

START_TEST(an_outage_is_no_answer)
{
    struct run *run = begin("backup", BASE);

    memory_store_break(repository->store, true);
    ck_assert(!runs_read(repository, clock_now(), &runs, &err));
    memory_store_break(repository->store, false);
    run_end(run);
}
END_TEST

Suite *runs_suite(void)
{
    Suite *suite = suite_create("runs");
    TCase *tc = tcase_create("runs");

    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, a_run_lives_until_it_ends);
    tcase_add_test(tc, or_until_its_lease_has_lapsed_for_long);
    tcase_add_test(tc, claims_hold_as_the_base_does);
    tcase_add_test(tc, an_unreadable_note_holds_everything);
    tcase_add_test(tc, an_outage_is_no_answer);
    suite_add_tcase(suite, tc);
    return suite;
}
