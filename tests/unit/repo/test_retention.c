#include "pgvigil/retention.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/buffer.h"
#include "pgvigil/clock.h"
#include "suites.h"
#include "support/seed.h"

#define DAY (24 * 60 * 60 * CLOCK_SECOND)
#define HOUR (60 * 60 * CLOCK_SECOND)
#define NOW (INT64_C(1795600800) * CLOCK_SECOND) /* 2026-11-25 10:00 UTC, a Wednesday */
#define MOST 40
#define SEGMENT 100u

static struct config_retention settings;
static struct backup_info infos[MOST];
static struct retention_backup backups[MOST];
static struct history histories[MOST];
static struct retention_timeline timelines[MOST];
static struct retention retention;

static void set_up(void)
{
    settings = (struct config_retention){.window = 7 * DAY, .minimum = 1};
    retention = (struct retention){
        .settings = &settings, .now = NOW, .backups = backups, .timelines = timelines};
    memset(timelines, 0, sizeof(timelines));
}

static void tear_down(void)
{
    for (size_t i = 0; i < retention.timeline_count; i++)
        history_free(&histories[i]);
    memset(histories, 0, sizeof(histories));
}

/* In the order of the calls: by timeline and LSN. The LSN ends where the backup does. */
static struct retention_backup *add(uint32_t timeline, uint64_t lsn, int64_t age)
{
    struct retention_backup *backup = &backups[retention.count];

    infos[retention.count] = (struct backup_info){.run = (NOW - age) / CLOCK_SECOND,
                                                  .timeline = timeline,
                                                  .start_lsn = lsn - 10,
                                                  .stop_lsn = lsn,
                                                  .start_time = NOW - age - HOUR,
                                                  .stop_time = NOW - age,
                                                  .wal_segment_size = SEGMENT};
    *backup = (struct retention_backup){.info = &infos[retention.count++], .complete = true};
    return backup;
}

/* `text` is a history file's; NULL: there is none. */
static void add_timeline(uint32_t timeline, const char *text, int64_t newest_wal_age)
{
    struct retention_timeline *one = &timelines[retention.timeline_count];
    struct history *history = &histories[retention.timeline_count++];
    struct error err = ERROR_INIT;

    ck_assert_msg(history_parse(timeline, text, text ? strlen(text) : 0, history, &err), "%s",
                  err.message);
    *one = (struct retention_timeline){.timeline = timeline,
                                       .history = text || timeline == 1 ? history : NULL,
                                       .newest_wal = NOW - newest_wal_age};
}

static void check_reasons(const struct retention_backup *backup, unsigned reasons)
{
    ck_assert_msg(backup->reasons == reasons, "backup %td: %#x, not %#x", backup - backups,
                  backup->reasons, reasons);
}

START_TEST(the_window_begins_with_the_last_backup_before_it)
{
    add_timeline(1, NULL, 0);
    add(1, 100, 9 * DAY);
    add(1, 200, 8 * DAY);
    add(1, 300, 6 * DAY);
    add(1, 400, DAY);
    settings.minimum = 2;
    retention_judge(&retention);
    check_reasons(&backups[0], 0);
    check_reasons(&backups[1], RETENTION_BASE);
    check_reasons(&backups[2], RETENTION_WINDOW | RETENTION_MINIMUM);
    check_reasons(&backups[3], RETENTION_WINDOW | RETENTION_MINIMUM);
    ck_assert(!retention_needs_wal(&retention, 1, 0, 100));
    ck_assert(retention_needs_wal(&retention, 1, 100, 200)); /* 190 is where the base begins */
    ck_assert(retention_needs_wal(&retention, 1, 1000000, 1000100));
    ck_assert(retention_needs_wal(&retention, 2, 0, 100)); /* nobody knows that one */
}
END_TEST

/* However old: there is no other. */
START_TEST(the_last_backup_always_stays)
{
    add_timeline(1, NULL, 400 * DAY);
    add(1, 100, 500 * DAY);
    add(1, 200, 450 * DAY);
    retention_judge(&retention);
    check_reasons(&backups[0], 0);
    check_reasons(&backups[1], RETENTION_BASE | RETENTION_MINIMUM);
}
END_TEST

START_TEST(damage_takes_nobodys_place)
{
    add_timeline(1, NULL, 0);
    add(1, 100, 10 * DAY);
    add(1, 200, 9 * DAY);
    infos[add(1, 300, 8 * DAY) - backups].page_errors = 1;
    add(1, 400, 7 * DAY + HOUR)->complete = false;
    add(1, 500, 7 * DAY + HOUR / 2)->damaged = true;
    settings.daily = 1;
    retention_judge(&retention);
    check_reasons(&backups[0], 0);
    check_reasons(&backups[1], RETENTION_BASE | RETENTION_MINIMUM | RETENTION_DAILY);
    for (size_t i = 2; i < 5; i++)
        check_reasons(&backups[i], RETENTION_WINDOW);
}
END_TEST

START_TEST(where_all_are_damaged_the_newest_counts)
{
    add_timeline(1, NULL, 0);
    for (uint64_t i = 0; i < 3; i++) {
        add(1, 100 + 100 * i, (int64_t)(20 - i) * DAY);
        infos[i].page_errors = 1;
    }
    retention_judge(&retention);
    check_reasons(&backups[0], 0);
    check_reasons(&backups[2], RETENTION_BASE | RETENTION_MINIMUM);
}
END_TEST

START_TEST(last_of_each_period)
{
    add_timeline(1, NULL, 0);
    settings = (struct config_retention){
        .window = HOUR, .minimum = 1, .daily = 2, .weekly = 2, .monthly = 3, .yearly = 2};
    add(1, 100, 400 * DAY);       /* 2025-10-21 */
    add(1, 200, 340 * DAY);       /* 2025-12-20 */
    add(1, 300, 40 * DAY);        /* 2026-10-16 */
    add(1, 400, 4 * DAY);         /* Saturday */
    add(1, 500, 3 * DAY);         /* Sunday */
    add(1, 600, 2 * DAY);         /* Monday */
    add(1, 700, DAY + 12 * HOUR); /* 23rd, 22:00 */
    add(1, 800, DAY + 2 * HOUR);  /* 24th, 8:00 */
    add(1, 900, DAY);             /* 24th, 10:00 */
    retention_judge(&retention);
    check_reasons(&backups[0], 0);
    check_reasons(&backups[1], RETENTION_MONTHLY | RETENTION_YEARLY);
    check_reasons(&backups[2], RETENTION_MONTHLY);
    check_reasons(&backups[3], 0);
    check_reasons(&backups[4], RETENTION_WEEKLY);
    check_reasons(&backups[5], 0);
    check_reasons(&backups[6], RETENTION_DAILY);
    check_reasons(&backups[7], 0);
    check_reasons(&backups[8], RETENTION_BASE | RETENTION_MINIMUM | RETENTION_DAILY |
                                   RETENTION_WEEKLY | RETENTION_MONTHLY | RETENTION_YEARLY);
}
END_TEST

START_TEST(what_is_kept_by_hand_needs_its_own_wal_only)
{
    add_timeline(1, NULL, 0);
    add(1, 150, 90 * DAY)->kept = true;
    add(1, 950, 8 * DAY);
    retention_judge(&retention);
    check_reasons(&backups[0], RETENTION_KEPT);
    ck_assert(!retention_needs_wal(&retention, 1, 0, 100));
    ck_assert(retention_needs_wal(&retention, 1, 100, 200));
    ck_assert(!retention_needs_wal(&retention, 1, 200, 300));
    ck_assert(!retention_needs_wal(&retention, 1, 800, 900));
    ck_assert(retention_needs_wal(&retention, 1, 900, 1000));
}
END_TEST

START_TEST(what_lingers_needs_its_own_wal)
{
    add_timeline(1, NULL, 0);
    add(1, 150, 90 * DAY);
    add(1, 950, 8 * DAY);
    retention_judge(&retention);
    check_reasons(&backups[0], 0);
    ck_assert(!retention_needs_wal(&retention, 1, 100, 200));
    backups[0].lingers = true;
    ck_assert(retention_needs_wal(&retention, 1, 100, 200));
    ck_assert(!retention_needs_wal(&retention, 1, 200, 300));
}
END_TEST

START_TEST(what_a_run_holds_stays_with_all_that_follows)
{
    add_timeline(1, NULL, 0);
    add(1, 150, 90 * DAY)->held = true;
    add(1, 950, 8 * DAY);
    retention_judge(&retention);
    check_reasons(&backups[0], RETENTION_HELD);
    ck_assert(retention_needs_wal(&retention, 1, 500, 600));
}
END_TEST

/* Timeline 2 left the first one at 250; the old primary went on there till yesterday. */
START_TEST(both_branches_of_the_window)
{
    add_timeline(1, NULL, DAY);
    add_timeline(2, "1\t0/FA\tx\n", 0);
    add(1, 100, 30 * DAY);
    add(1, 200, 20 * DAY);
    add(1, 300, 8 * DAY); /* behind the parting */
    add(2, 400, 2 * DAY);
    retention_judge(&retention);
    check_reasons(&backups[0], 0);
    check_reasons(&backups[1], RETENTION_BASE); /* the second timeline's */
    check_reasons(&backups[2], RETENTION_BASE);
    check_reasons(&backups[3], RETENTION_WINDOW | RETENTION_MINIMUM);
}
END_TEST

/* The same when the first one has been silent for longer than the window. */
START_TEST(a_branch_that_was_left_expires)
{
    add_timeline(1, NULL, 15 * DAY);
    add_timeline(2, "1\t0/FA\tx\n", 0);
    add(1, 100, 30 * DAY);
    add(1, 300, 16 * DAY);
    add(2, 400, 8 * DAY);
    add(2, 500, 2 * DAY);
    retention_judge(&retention);
    check_reasons(&backups[0], 0);
    check_reasons(&backups[1], 0);
    check_reasons(&backups[2], RETENTION_BASE);
    ck_assert(!retention_needs_wal(&retention, 1, 200, 300));
    ck_assert(!retention_needs_wal(&retention, 1, 900, 1000));
}
END_TEST

/* The moment with which the window begins is in it. */
START_TEST(a_branch_that_ended_as_the_window_begins)
{
    add_timeline(1, NULL, 7 * DAY);
    add_timeline(2, "1\t0/FA\tx\n", 0);
    add(1, 300, 16 * DAY);
    add(2, 400, 8 * DAY);
    retention_judge(&retention);
    check_reasons(&backups[0], RETENTION_BASE);
    check_reasons(&backups[1], RETENTION_BASE | RETENTION_MINIMUM);
}
END_TEST

START_TEST(without_a_history_nothing_below_is_given_up)
{
    add_timeline(1, NULL, 15 * DAY);
    add_timeline(2, NULL, 0);
    add(1, 100, 30 * DAY);
    add(1, 300, 16 * DAY);
    add(2, 400, 8 * DAY);
    retention_judge(&retention);
    check_reasons(&backups[0], 0);
    check_reasons(&backups[1], RETENTION_BASE);
    check_reasons(&backups[2], RETENTION_BASE | RETENTION_MINIMUM);
    ck_assert(retention_needs_wal(&retention, 2, 300, 400));
}
END_TEST

/* The server's clock was in the past for one backup, and in the future for another. */
START_TEST(clocks_that_went_wrong_expire_nothing)
{
    add_timeline(1, NULL, 0);
    add(1, 100, 8 * DAY);
    add(1, 200, 3 * DAY);
    add(1, 300, 5000 * DAY);
    retention_judge(&retention);
    check_reasons(&backups[0], RETENTION_BASE);
    check_reasons(&backups[1], RETENTION_WINDOW);
    check_reasons(&backups[2], RETENTION_WINDOW | RETENTION_MINIMUM);
}
END_TEST

/* -- random histories against the meaning of the rules -------------------------------------------- */

struct world {
    uint32_t parent[8]; /* of a timeline */
    uint64_t left[8];   /* where it left it */
    int64_t age[8];     /* and how long ago */
    uint32_t count;
};

static uint64_t random_state;

static uint64_t pick(uint64_t below)
{
    return seed_next(&random_state) % below;
}

/* Time and LSN go together along a timeline: an hour is a byte of WAL. */
static uint64_t lsn_at(int64_t age)
{
    return (uint64_t)((100 * DAY - age) / HOUR) + 100;
}

static void write_history(const struct world *world, uint32_t timeline, struct buffer *text)
{
    if (timeline == 1)
        return;
    write_history(world, world->parent[timeline], text);
    buffer_append_format(text, "%u\t0/%X\tx\n", world->parent[timeline],
                         (unsigned)world->left[timeline]);
}

/* Promotions, oldest first; each leaves some timeline at a moment that this one went through. */
static void make_world(struct world *world)
{
    int64_t age = 90 * DAY;

    *world = (struct world){.count = 1 + (uint32_t)pick(4), .age[1] = 100 * DAY};
    for (uint32_t timeline = 2; timeline <= world->count; timeline++) {
        age -= (int64_t)pick(25 * 24) * HOUR;
        world->parent[timeline] = 1 + (uint32_t)pick(timeline - 1);
        world->age[timeline] = age;
        world->left[timeline] = lsn_at(age);
    }
    for (uint32_t timeline = 1; timeline <= world->count; timeline++) {
        struct buffer text = BUFFER_INIT;
        /* It went on until now, or until a while after its beginning. */
        int64_t end =
            pick(2) ? 0 : (int64_t)pick((uint64_t)(world->age[timeline] / HOUR + 1)) * HOUR;

        write_history(world, timeline, &text);
        add_timeline(timeline, timeline == 1 ? NULL : buffer_text(&text), end);
        buffer_free(&text);
    }
}

static void make_backups(const struct world *world)
{
    for (uint32_t timeline = 1; timeline <= world->count; timeline++) {
        int64_t age = world->age[timeline];
        int64_t end = NOW - timelines[timeline - 1].newest_wal;

        while (retention.count < MOST - 1) {
            age -= (int64_t)(12 + pick(20 * 24)) * HOUR;
            if (age < end)
                break;
            struct retention_backup *backup = add(timeline, lsn_at(age), age);
            backup->complete = pick(10) > 0;
            infos[backup - backups].page_errors = pick(10) == 0;
            backup->kept = pick(15) == 0;
        }
    }
}

/* From which this point on a timeline can be reached, by what is not `gone`: any backup before it, if
 * all WAL from its start to there is needed along the way. */
static bool can_reach(const struct world *world, uint32_t timeline, uint64_t lsn, bool after)
{
    for (size_t i = 0; i < retention.count; i++) {
        const struct backup_info *info = backups[i].info;
        uint32_t at = timeline;
        uint64_t to = lsn;
        bool ok = backups[i].complete && info->page_errors == 0;

        if (after && backups[i].reasons == 0)
            continue;
        while (at != info->timeline && at > 1) {
            for (uint64_t from = world->left[at] / SEGMENT * SEGMENT; after && from < to;
                 from += SEGMENT)
                ok = ok && retention_needs_wal(&retention, at, from, from + SEGMENT);
            to = world->left[at];
            at = world->parent[at];
        }
        if (at != info->timeline || info->stop_lsn > to)
            continue;
        for (uint64_t from = info->start_lsn / SEGMENT * SEGMENT; after && from < to;
             from += SEGMENT)
            ok = ok && retention_needs_wal(&retention, at, from, from + SEGMENT);
        if (ok)
            return true;
    }
    return false;
}

static void check_window(const struct world *world)
{
    for (uint32_t timeline = 1; timeline <= world->count; timeline++) {
        int64_t end = NOW - timelines[timeline - 1].newest_wal;

        for (int64_t age = settings.window; age >= end; age -= 6 * HOUR) {
            if (age > world->age[timeline])
                continue;
            if (can_reach(world, timeline, lsn_at(age), false))
                ck_assert_msg(can_reach(world, timeline, lsn_at(age), true),
                              "timeline %u: what was %lld hours ago cannot be reached any more",
                              timeline, (long long)(age / HOUR));
        }
    }
}

static void check_each(void)
{
    size_t kept = 0, sound = 0, kept_sound = 0;

    for (size_t i = 0; i < retention.count; i++) {
        bool is_sound = backups[i].complete && backups[i].info->page_errors == 0;

        sound += is_sound;
        kept += backups[i].reasons != 0;
        kept_sound += is_sound && backups[i].reasons != 0;
        ck_assert(!backups[i].kept || (backups[i].reasons & RETENTION_KEPT) != 0);
        /* Who stays has the WAL that makes it consistent. */
        for (uint64_t from = infos[i].start_lsn / SEGMENT * SEGMENT;
             backups[i].reasons != 0 && from < infos[i].stop_lsn; from += SEGMENT)
            ck_assert(retention_needs_wal(&retention, infos[i].timeline, from, from + SEGMENT));
        /* Inside the window all stay. */
        ck_assert(infos[i].stop_time <= NOW - settings.window || backups[i].reasons != 0);
    }
    ck_assert_uint_ge(kept_sound,
                      sound < (size_t)settings.minimum ? sound : (size_t)settings.minimum);
    ck_assert(retention.count == 0 || kept > 0);
}

START_TEST(random_histories)
{
    random_state = seed_start("retention");
    for (int round = 0; round < 3000; round++) {
        struct world world;

        tear_down();
        set_up();
        settings.window = (int64_t)(1 + pick(40)) * DAY;
        settings.minimum = 1 + (int)pick(3);
        settings.daily = (int)pick(5);
        settings.monthly = (int)pick(3);
        make_world(&world);
        make_backups(&world);
        retention_judge(&retention);
        check_window(&world);
        check_each();
    }
}
END_TEST

Suite *retention_suite(void)
{
    Suite *suite = suite_create("retention");
    TCase *tc = tcase_create("retention");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, the_window_begins_with_the_last_backup_before_it);
    tcase_add_test(tc, the_last_backup_always_stays);
    tcase_add_test(tc, damage_takes_nobodys_place);
    tcase_add_test(tc, where_all_are_damaged_the_newest_counts);
    tcase_add_test(tc, last_of_each_period);
    tcase_add_test(tc, what_is_kept_by_hand_needs_its_own_wal_only);
    tcase_add_test(tc, what_lingers_needs_its_own_wal);
    tcase_add_test(tc, what_a_run_holds_stays_with_all_that_follows);
    tcase_add_test(tc, both_branches_of_the_window);
    tcase_add_test(tc, a_branch_that_was_left_expires);
    tcase_add_test(tc, a_branch_that_ended_as_the_window_begins);
    tcase_add_test(tc, without_a_history_nothing_below_is_given_up);
    tcase_add_test(tc, clocks_that_went_wrong_expire_nothing);
    tcase_add_test(tc, random_histories);
    suite_add_tcase(suite, tc);
    return suite;
}
