#include "pgvigil/fetch.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgvigil/files.h"
#include "pgvigil/layout.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/repository.h"
#include "suites.h"
#include "support/archive.h"
#include "support/scratch.h"

#define PATH "pg_wal/RECOVERYXLOG"
#define TEMPORARY PATH ".pgvigil-tmp"

static char *root;
static struct config *config;
static struct repository *repositories[3];
static struct error err;
static enum fetch_answer answer;
static struct fetch_request request;

static void set_up_with(size_t count)
{
    enum repository_creation creation;

    root = scratch_make();
    config = archive_config(root, count);
    error_clear(&err);
    log_set_level(LOG_ERROR);
    for (size_t i = 0; i < count; i++) {
        ck_assert(repository_create(config, &config->repositories[i], &creation, &err));
        ck_assert(repository_open(config, &config->repositories[i], &repositories[i], &err));
        repository_select(repositories[i], ARCHIVE_SYSTEM);
    }
    archive_control(config->pgdata, ARCHIVE_SYSTEM);
    ck_assert_int_eq(chdir(config->pgdata), 0);
    ck_assert_int_eq(mkdir("pg_wal", 0700), 0);
    request = (struct fetch_request){.path = PATH};
}

static void set_up(void)
{
    set_up_with(2);
}

static void set_up_three(void)
{
    set_up_with(3);
    config->archive.require = 2;
}

static void tear_down(void)
{
    ck_assert_int_eq(chdir("/"), 0);
    for (size_t i = 0; i < config->repository_count; i++)
        repository_close(repositories[i]);
    config_free(config);
    scratch_remove(root);
}

static bool fetch(const char *file)
{
    request.file = file;
    bool ok = fetch_file(config, &request, &answer, &err);

    /* Whatever comes of it, nothing half-written stays. */
    ck_assert_int_ne(access(TEMPORARY, F_OK), 0);
    return ok;
}

static void ck_absent(const char *file)
{
    ck_assert_msg(fetch(file), "%s", err.message);
    ck_assert_int_eq(answer, FETCH_ABSENT);
    ck_assert_int_ne(access(PATH, F_OK), 0);
}

static void ck_delivered(const char *file)
{
    struct stat info;

    ck_assert_msg(fetch(file), "%s", err.message);
    ck_assert_int_eq(answer, FETCH_DELIVERED);
    ck_assert_int_eq(stat(PATH, &info), 0);
    ck_assert_int_eq(info.st_mode & 0777, 0600);
    ck_assert_int_eq(unlink(PATH), 0);
}

static void ck_unknown(const char *file, enum error_code code, const char *message)
{
    ck_assert_msg(!fetch(file), "%s: %d", file, (int)answer);
    ck_assert_msg(err.code == code, "%d %s", (int)err.code, err.message);
    ck_assert_msg(strstr(err.message, message) != NULL, "%s", err.message);
    ck_assert_int_ne(access(PATH, F_OK), 0);
    error_clear(&err);
}

static void both(void (*store)(struct repository *repository, uint32_t timeline, uint64_t number),
                 uint32_t timeline, uint64_t number)
{
    store(repositories[0], timeline, number);
    store(repositories[1], timeline, number);
}

static void move_place(const char *from, const char *to)
{
    char *old = files_join(root, from), *new = files_join(root, to);

    ck_assert_int_eq(rename(old, new), 0);
    free(old);
    free(new);
}

START_TEST(delivered_whole)
{
    struct buffer expected = BUFFER_INIT, got = BUFFER_INIT;

    both(archive_store_segment, 1, 5);
    ck_assert(files_write(TEMPORARY, "left by a killed one", 20, 0600, &err));
    ck_assert_msg(fetch("000000010000000000000005"), "%s", err.message);
    ck_assert_int_eq(answer, FETCH_DELIVERED);
    archive_segment(&expected, ARCHIVE_SEGMENT_SIZE, 1, 5, ARCHIVE_SYSTEM, UINT64_C(1) << 32 | 5);
    ck_assert(files_read(PATH, ARCHIVE_SEGMENT_SIZE, &got, &err));
    ck_assert_uint_eq(got.length, expected.length);
    ck_assert(memcmp(got.data, expected.data, got.length) == 0);
    buffer_free(&expected);
    buffer_free(&got);
}
END_TEST

/* Of segment 6, acknowledged while one repository was enough, the others know by segment 7 at the latest. */
START_TEST(what_came_before_more_were_required)
{
    both(archive_store_segment, 1, 5);
    archive_store_segment(repositories[2], 1, 5);
    archive_store_segment(repositories[2], 1, 6);
    move_place("r3", "away");
    ck_absent("000000010000000000000006");
    archive_store_segment(repositories[1], 1, 7);
    ck_unknown("000000010000000000000006", ERROR_INTEGRITY, "is missing in repository \"r2\"");
    config->archive.require = 1;
    ck_unknown("000000010000000000000008", ERROR_STORE, "does not exist");
}
END_TEST

static void store_of_another_server(struct repository *repository, uint64_t number)
{
    struct buffer bytes = BUFFER_INIT;
    enum wal_outcome outcome;
    char name[WAL_NAME_SIZE];

    archive_segment(&bytes, ARCHIVE_SEGMENT_SIZE, 1, number, ARCHIVE_SYSTEM, 77);
    wal_segment_name(1, number, ARCHIVE_SEGMENT_SIZE, name);
    ck_assert(archive_store(repository, name, bytes.data, bytes.length, &outcome, &err));
    buffer_free(&bytes);
}

/* Two servers archived under the same names, each into the repository that it could reach. */
START_TEST(recovery_does_not_go_on_with_another_server)
{
    static const char *const without[] = {"r1", NULL};

    both(archive_store_segment, 1, 5);
    archive_store_segment(repositories[0], 1, 6);
    store_of_another_server(repositories[1], 6);
    store_of_another_server(repositories[1], 7);
    store_of_another_server(repositories[1], 8);
    ck_delivered("000000010000000000000005");
    ck_delivered("000000010000000000000006");
    ck_unknown("000000010000000000000007", ERROR_INTEGRITY,
               "different files of the name \"000000010000000000000006\"");
    /* What the first has nothing before, it says nothing of. */
    ck_delivered("000000010000000000000008");
    /* Whoever asks for one alone has made up his mind. */
    request.without = without;
    ck_delivered("000000010000000000000007");
}
END_TEST

START_TEST(the_end_of_the_wal_is_absence)
{
    both(archive_store_segment, 1, 5);
    ck_absent("000000010000000000000006");
    ck_absent("00000002.history");
    ck_absent("00000001.history");
    ck_absent("000000010000000000000005.partial");
    ck_absent("000000010000000000000005.00000028.backup");
    ck_absent("000000020000000000000005");
}
END_TEST

START_TEST(a_gap_is_no_absence)
{
    both(archive_store_segment, 1, 5);
    archive_store_segment(repositories[1], 1, 7);
    ck_unknown("000000010000000000000006", ERROR_INTEGRITY,
               "is missing in repository \"r2\", although later WAL of timeline 1 is there");
    ck_unknown("000000010000000000000004", ERROR_INTEGRITY, "is missing");
    ck_delivered("000000010000000000000007");
}
END_TEST

/* Timeline 2 left timeline 1 at 0/780000, in the middle of its segment 7. */
START_TEST(what_a_descendant_needs_is_no_absence)
{
    both(archive_store_segment, 1, 5);
    archive_store_history(repositories[0], 2, "1\t0/780000\tx\n");
    ck_unknown("000000010000000000000006", ERROR_INTEGRITY, "later WAL of timeline 2");
    ck_absent("000000010000000000000007");
    ck_absent("000000010000000000000008");
    /* What lies before the timeline began was never written on it. */
    both(archive_store_segment, 2, 9);
    ck_absent("000000020000000000000006");
    ck_unknown("000000020000000000000007", ERROR_INTEGRITY, "later WAL of timeline 2");
    /* A grandchild that left timeline 2 later. */
    archive_store_history(repositories[0], 3, "1\t0/780000\tx\n2\t0/B00000\ty\n");
    ck_unknown("00000002000000000000000A", ERROR_INTEGRITY, "later WAL of timeline 3");
    ck_absent("00000002000000000000000B");
}
END_TEST

START_TEST(a_timeline_left_at_a_boundary_keeps_its_last_segment)
{
    both(archive_store_segment, 1, 5);
    archive_store_history(repositories[0], 2, "1\t0/700000\tx\n");
    ck_unknown("000000010000000000000006", ERROR_INTEGRITY, "later WAL of timeline 2");
    ck_absent("000000010000000000000007");
}
END_TEST

START_TEST(a_history_with_wal_behind_it_is_no_absence)
{
    both(archive_store_segment, 1, 5);
    archive_store_segment(repositories[1], 2, 6);
    ck_unknown("00000002.history", ERROR_INTEGRITY, "WAL of timeline 2 is there");
}
END_TEST

START_TEST(an_archive_without_any_wal_tells_nothing)
{
    ck_unknown("000000010000000000000006", ERROR_STORE, "has no WAL at all of cluster \"main\"");
    ck_unknown("00000002.history", ERROR_STORE, "has no WAL at all");
    /* One that was made a moment ago says as little against what the others say as for it. */
    archive_store_segment(repositories[1], 1, 5);
    ck_absent("000000010000000000000006");
    ck_absent("00000002.history");
    ck_delivered("000000010000000000000005");
}
END_TEST

START_TEST(a_repository_out_of_reach_is_no_absence)
{
    static const char *const without[] = {"r2", NULL};

    both(archive_store_segment, 1, 5);
    move_place("r2", "away");
    ck_delivered("000000010000000000000005");
    ck_unknown("000000010000000000000006", ERROR_STORE, "does not exist");
    ck_unknown("00000002.history", ERROR_STORE, "does not exist");
    /* The first timeline has none: a standby that is promoted asks for it, and must not die of that. */
    ck_absent("00000001.history");
    request.without = without;
    ck_absent("000000010000000000000006");
    request.without = NULL;
    request.repository = "r1";
    ck_absent("000000010000000000000006");
    request.repository = "r2";
    ck_unknown("000000010000000000000005", ERROR_STORE, "does not exist");
}
END_TEST

/* Two have every file: one of them is lost for good, the other does not answer just now, and the third
 * was down when the last segment came. */
START_TEST(one_left_out_may_have_what_one_that_fails_has)
{
    static const char *const without[] = {"r2", NULL};

    both(archive_store_segment, 1, 5);
    archive_store_segment(repositories[2], 1, 5);
    both(archive_store_segment, 1, 6);
    request.without = without;
    ck_delivered("000000010000000000000006");
    move_place("r1", "away");
    ck_delivered("000000010000000000000005");
    ck_unknown("000000010000000000000006", ERROR_STORE, "does not exist");
    ck_unknown("00000002.history", ERROR_STORE, "does not exist");
    move_place("away", "r1");
    ck_delivered("000000010000000000000006");
    ck_absent("000000010000000000000007");
    move_place("r1", "away");
    request.without = NULL;
    ck_absent("000000010000000000000007");
}
END_TEST

START_TEST(what_may_be_left_out)
{
    static const char *const all[] = {"r1", "r2", NULL}, *const unknown[] = {"r3", NULL};

    both(archive_store_segment, 1, 5);
    request.without = all;
    ck_unknown("000000010000000000000005", ERROR_USAGE, "no repository is left");
    request.without = unknown;
    ck_unknown("000000010000000000000005", ERROR_USAGE, "there is no repository \"r3\"");
    request.without = NULL;
    request.repository = "r3";
    ck_unknown("000000010000000000000005", ERROR_USAGE, "there is no repository \"r3\"");
    request.repository = NULL;
    ck_unknown("RECOVERYXLOG", ERROR_USAGE, "is not the name of a WAL file");
    ck_unknown("../000000010000000000000005", ERROR_USAGE, "is not the name of a WAL file");
}
END_TEST

static void damage(size_t index, const char *segment)
{
    char name[LAYOUT_NAME_SIZE];
    struct buffer bytes = BUFFER_INIT;

    layout_wal_segment(segment, name);
    archive_read(repositories[index], name, &bytes);
    bytes.data[bytes.length / 2] ^= 1;
    archive_replace(repositories[index], name, bytes.data, bytes.length);
    buffer_free(&bytes);
}

START_TEST(a_damaged_copy_is_neither_delivered_nor_absence)
{
    both(archive_store_segment, 1, 5);
    damage(0, "000000010000000000000005");
    ck_delivered("000000010000000000000005");
    damage(1, "000000010000000000000005");
    ck_unknown("000000010000000000000005", ERROR_INTEGRITY, "is damaged");
}
END_TEST

START_TEST(histories_are_remembered)
{
    static const char text[] = "1\t0/780000\tx\n";
    struct buffer got = BUFFER_INIT;
    char *memory = mem_printf("%s/history/%llu/00000002.history", config->state_dir,
                              (unsigned long long)ARCHIVE_SYSTEM);
    char name[LAYOUT_NAME_SIZE];

    both(archive_store_segment, 1, 5);
    archive_store_history(repositories[0], 2, text);
    ck_delivered("00000002.history");
    ck_assert(files_read(memory, 100, &got, &err));
    ck_assert_str_eq(buffer_text(&got), text);

    /* Out of reach, and lost. */
    move_place("r1", "away");
    ck_delivered("00000002.history");
    ck_unknown("00000003.history", ERROR_STORE, "does not exist");
    move_place("away", "r1");
    char *full = repository_object_name(repositories[0], layout_wal_history(2, name));
    ck_assert(store_remove(repositories[0]->store, full, &err));
    ck_delivered("00000002.history");
    ck_absent("00000003.history");

    /* What is remembered must be a history. */
    ck_assert(files_write(memory, "rubbish", 7, 0600, &err));
    ck_absent("00000002.history");
    /* A file that cannot be remembered is delivered all the same. */
    ck_assert(files_remove_tree(config->state_dir, &err));
    archive_store_history(repositories[1], 2, text);
    ck_delivered("00000002.history");
    buffer_free(&got);
    free(full);
    free(memory);
}
END_TEST

START_TEST(a_destination_that_cannot_be_written)
{
    both(archive_store_segment, 1, 5);
    request.path = "absent/RECOVERYXLOG";
    ck_unknown("000000010000000000000005", ERROR_SYSTEM, "could not create file");
    request.path = PATH;
    ck_assert_int_eq(mkdir(PATH, 0700), 0);
    ck_assert(!fetch("000000010000000000000005"));
    ck_assert_int_eq(err.code, ERROR_SYSTEM);
    ck_assert_int_eq(rmdir(PATH), 0);
}
END_TEST

/* pg_rewind runs restore_command from wherever it was started. */
START_TEST(the_path_tells_the_data_directory)
{
    char *other = mem_printf("%s/other", root), *folder = mem_printf("%s/pg_wal", other);
    char *path = mem_printf("%s/RECOVERYXLOG", folder);

    both(archive_store_segment, 1, 5);
    archive_control(other, 42);
    ck_assert_int_eq(mkdir(folder, 0700), 0);
    request.path = path;
    ck_unknown("000000010000000000000005", ERROR_STORE, "has no WAL at all");
    ck_assert_int_eq(chdir(other), 0);
    request.path = PATH;
    ck_unknown("000000010000000000000005", ERROR_STORE, "has no WAL at all");
    ck_assert_int_eq(chdir(root), 0);
    request.path = "RECOVERYXLOG";
    ck_assert(fetch("000000010000000000000005"));
    ck_assert_int_eq(answer, FETCH_DELIVERED);
    free(config->pgdata);
    config->pgdata = NULL;
    ck_assert(!fetch("000000010000000000000005"));
    ck_assert_int_eq(err.code, ERROR_CONFIG);
    free(path);
    free(folder);
    free(other);
}
END_TEST

START_TEST(who_is_a_standby)
{
    ck_assert(!fetch_is_for_standby(config, &request));
    free(archive_file(config->pgdata, "standby.signal", "", 0));
    ck_assert(fetch_is_for_standby(config, &request));
    ck_assert_int_eq(chdir("/"), 0);
    ck_assert(fetch_is_for_standby(config, &request));
}
END_TEST

Suite *fetch_suite(void)
{
    Suite *suite = suite_create("fetch");
    TCase *tests = tcase_create("fetch"), *three = tcase_create("fetch from three");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, delivered_whole);
    tcase_add_test(tests, recovery_does_not_go_on_with_another_server);
    tcase_add_test(tests, the_end_of_the_wal_is_absence);
    tcase_add_test(tests, a_gap_is_no_absence);
    tcase_add_test(tests, what_a_descendant_needs_is_no_absence);
    tcase_add_test(tests, a_timeline_left_at_a_boundary_keeps_its_last_segment);
    tcase_add_test(tests, a_history_with_wal_behind_it_is_no_absence);
    tcase_add_test(tests, an_archive_without_any_wal_tells_nothing);
    tcase_add_test(tests, a_repository_out_of_reach_is_no_absence);
    tcase_add_test(tests, what_may_be_left_out);
    tcase_add_test(tests, a_damaged_copy_is_neither_delivered_nor_absence);
    tcase_add_test(tests, histories_are_remembered);
    tcase_add_test(tests, a_destination_that_cannot_be_written);
    tcase_add_test(tests, the_path_tells_the_data_directory);
    tcase_add_test(tests, who_is_a_standby);
    suite_add_tcase(suite, tests);
    tcase_add_checked_fixture(three, set_up_three, tear_down);
    tcase_add_test(three, one_left_out_may_have_what_one_that_fails_has);
    tcase_add_test(three, what_came_before_more_were_required);
    suite_add_tcase(suite, three);
    return suite;
}
