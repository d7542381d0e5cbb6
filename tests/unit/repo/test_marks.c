#include "pgvigil/marks.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/clock.h"
#include "pgvigil/layout.h"
#include "pgvigil/object.h"
#include "suites.h"
#include "support/archive.h"
#include "support/memory_store.h"

#define RUN INT64_C(1795140000) /* 2026-11-20 02:00:00 UTC */

static struct repository *repository;
static struct error err;

static void set_up(void)
{
    repository = archive_repository();
    error_clear(&err);
}

static void tear_down(void)
{
    archive_free_repository(repository);
}

static enum marks_outcome turn(int64_t run, enum marks_note note)
{
    enum marks_outcome outcome;

    ck_assert_msg(marks_write(repository, run, note, &outcome, &err), "%s", err.message);
    return outcome;
}

static struct marks *read_marks(void)
{
    struct marks *marks;

    ck_assert_msg(marks_read(repository, &marks, &err), "%s", err.message);
    return marks;
}

START_TEST(nothing_is_marked_at_first)
{
    struct marks *marks = read_marks();
    size_t count;

    ck_assert(!marks_kept(marks, RUN));
    ck_assert(!marks_expired(marks, RUN));
    ck_assert_int_eq(marks_expired_at(marks, RUN), 0);
    free(marks_runs(marks, &count));
    ck_assert_uint_eq(count, 0);
    marks_free(marks);
}
END_TEST

START_TEST(each_run_has_two_switches)
{
    int64_t before = clock_now();
    size_t count;

    ck_assert(turn(RUN, MARKS_KEEP) == MARKS_TURNED);
    ck_assert(turn(RUN + 1, MARKS_EXPIRE) == MARKS_TURNED);
    ck_assert(turn(RUN + 2, MARKS_KEEP) == MARKS_TURNED);
    ck_assert(turn(RUN + 2, MARKS_EXPIRE) == MARKS_TURNED);
    struct marks *marks = read_marks();

    ck_assert(marks_kept(marks, RUN) && !marks_expired(marks, RUN));
    ck_assert(!marks_kept(marks, RUN + 1) && marks_expired(marks, RUN + 1));
    ck_assert(marks_kept(marks, RUN + 2) && marks_expired(marks, RUN + 2));
    ck_assert(!marks_kept(marks, RUN + 3) && !marks_expired(marks, RUN + 3));
    ck_assert_int_ge(marks_expired_at(marks, RUN + 1), before);
    int64_t *runs = marks_runs(marks, &count);
    ck_assert_uint_eq(count, 3);
    for (size_t i = 0; i < count; i++)
        ck_assert_int_eq(runs[i], RUN + (int64_t)i);
    free(runs);
    marks_free(marks);
}
END_TEST

/* Past ten, where lists are no longer in the order of the numbers. */
START_TEST(the_last_word_counts)
{
    for (int i = 1; i <= 23; i++) {
        bool on = i % 2 == 1;

        ck_assert(turn(RUN, on ? MARKS_UNKEEP : MARKS_KEEP) == MARKS_AS_IT_WAS);
        ck_assert(turn(RUN, on ? MARKS_KEEP : MARKS_UNKEEP) == MARKS_TURNED);
        struct marks *marks = read_marks();
        ck_assert(marks_kept(marks, RUN) == on);
        ck_assert(!marks_expired(marks, RUN));
        marks_free(marks);
    }
}
END_TEST

START_TEST(an_unmarked_run_is_no_longer_expired)
{
    turn(RUN, MARKS_EXPIRE);
    ck_assert(turn(RUN, MARKS_EXPIRE) == MARKS_AS_IT_WAS);
    ck_assert(turn(RUN, MARKS_UNEXPIRE) == MARKS_TURNED);
    struct marks *marks = read_marks();
    ck_assert(!marks_expired(marks, RUN));
    ck_assert_int_eq(marks_expired_at(marks, RUN), 0);
    marks_free(marks);
}
END_TEST

START_TEST(a_note_says_who)
{
    const struct layout_mark mark = {.kind = LAYOUT_KEEP, .run = RUN, .number = 1};
    struct buffer text = BUFFER_INIT;
    char name[LAYOUT_NAME_SIZE];

    turn(RUN, MARKS_KEEP);
    ck_assert_msg(object_get_buffer(repository, layout_mark(&mark, name), TRAILER_KEEP,
                                    OBJECT_PLAIN, 10000, &text, NULL, &err),
                  "%s", err.message);
    ck_assert_ptr_nonnull(strstr(buffer_text(&text), "\"note\": \"keep\""));
    ck_assert_ptr_nonnull(strstr(buffer_text(&text), "\"run\": \"20261120T020000Z\""));
    buffer_free(&text);
}
END_TEST

START_TEST(an_outage_is_no_answer)
{
    enum marks_outcome outcome;
    struct marks *marks;

    turn(RUN, MARKS_KEEP);
    memory_store_break(repository->store, true);
    ck_assert(!marks_read(repository, &marks, &err));
    ck_assert(!marks_write(repository, RUN, MARKS_UNKEEP, &outcome, &err));
    memory_store_break(repository->store, false);
}
END_TEST

Suite *marks_suite(void)
{
    Suite *suite = suite_create("marks");
    TCase *tc = tcase_create("marks");

    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, nothing_is_marked_at_first);
    tcase_add_test(tc, each_run_has_two_switches);
    tcase_add_test(tc, the_last_word_counts);
    tcase_add_test(tc, an_unmarked_run_is_no_longer_expired);
    tcase_add_test(tc, a_note_says_who);
    tcase_add_test(tc, an_outage_is_no_answer);
    suite_add_tcase(suite, tc);
    return suite;
}
