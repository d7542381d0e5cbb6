#include "pgvigil/ship.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgvigil/clock.h"
#include "pgvigil/debt.h"
#include "pgvigil/files.h"
#include "pgvigil/layout.h"
#include "pgvigil/mem.h"
#include "pgvigil/outage.h"
#include "pgvigil/repository.h"
#include "suites.h"
#include "support/archive.h"
#include "support/key_files.h"
#include "support/scratch.h"

#define SEGMENT "000000010000000000000005"

static char *root;
static struct config *config;
static struct buffer segment;
static struct error err;
static enum wal_outcome outcome;

static void make_repository(size_t index)
{
    enum repository_creation creation;

    ck_assert_msg(repository_create(config, &config->repositories[index], &creation, &err), "%s",
                  err.message);
}

/* Data directory and current directory are the same, as when PostgreSQL calls. */
static void set_up(void)
{
    root = scratch_make();
    config = archive_config(root, 2);
    error_clear(&err);
    make_repository(0);
    make_repository(1);
    archive_control(config->pgdata, ARCHIVE_SYSTEM);
    ck_assert_int_eq(chdir(config->pgdata), 0);
    ck_assert_int_eq(mkdir("pg_wal", 0700), 0);
    archive_segment(&segment, ARCHIVE_SEGMENT_SIZE, 1, 5, ARCHIVE_SYSTEM, 1);
    free(archive_file("pg_wal", SEGMENT, segment.data, segment.length));
}

static void tear_down(void)
{
    ck_assert_int_eq(chdir("/"), 0);
    buffer_free(&segment);
    config_free(config);
    scratch_remove(root);
}

static bool ship(const char *file)
{
    char *path = files_join("pg_wal", file);
    bool ok = ship_file(config, path, &outcome, &err);

    free(path);
    return ok;
}

static bool is_in(size_t index, const char *file)
{
    struct repository *repository;
    bool exists;

    ck_assert(repository_open(config, &config->repositories[index], &repository, &err));
    repository_select(repository, ARCHIVE_SYSTEM);
    ck_assert(wal_archive_exists(repository, file, &exists, &err));
    repository_close(repository);
    return exists;
}

static void ck_refused(enum error_code code, const char *message)
{
    ck_assert_msg(err.code == code, "%d %s", (int)err.code, err.message);
    ck_assert_msg(strstr(err.message, message) != NULL, "%s", err.message);
}

START_TEST(every_repository_gets_it)
{
    ck_assert_msg(ship(SEGMENT), "%s", err.message);
    ck_assert_int_eq(outcome, WAL_STORED);
    ck_assert(is_in(0, SEGMENT) && is_in(1, SEGMENT));
    ck_assert(ship(SEGMENT));
    ck_assert_int_eq(outcome, WAL_ALREADY_THERE);
}
END_TEST

/* Two names for one place would be taken for two that have it. */
START_TEST(one_place_is_no_two_repositories)
{
    char *place = mem_printf("%s/r2", root), *away = mem_printf("%s/away", root);
    char *pin = mem_printf("%s/repository/r2", config->state_dir);

    config->archive.require = 2;
    ck_assert_int_eq(rename(place, away), 0);
    ck_assert_int_eq(symlink("r1", place), 0);
    ck_assert_int_eq(unlink(pin), 0);
    ck_assert(!ship(SEGMENT));
    ck_refused(ERROR_CONFIG, "repositories \"r1\" and \"r2\" are the same one");
    free(pin);
    free(place);
    free(away);
}
END_TEST

/* A push that failed half-way is completed by the next one. */
START_TEST(one_repository_fewer_than_required_is_no_success)
{
    char *place = mem_printf("%s/r2", root), *away = mem_printf("%s/away", root);

    config->archive.require = 2;
    ck_assert_int_eq(rename(place, away), 0);
    ck_assert(!ship(SEGMENT));
    ck_refused(ERROR_STORE, "does not exist");
    ck_assert_int_eq(rename(away, place), 0);
    ck_assert(is_in(0, SEGMENT) && !is_in(1, SEGMENT));
    ck_assert(ship(SEGMENT));
    ck_assert_int_eq(outcome, WAL_STORED);
    ck_assert(is_in(0, SEGMENT) && is_in(1, SEGMENT));
    free(place);
    free(away);
}
END_TEST

/* As many as required have it: the other one is owed it, and gets it from them. */
START_TEST(one_repository_more_than_required_may_wait)
{
    char *place = mem_printf("%s/r2", root), *away = mem_printf("%s/away", root);
    char *down = mem_printf("%s/down", config->state_dir);
    size_t owed;

    ck_assert_int_eq(rename(place, away), 0);
    ck_assert_msg(ship(SEGMENT), "%s", err.message);
    ck_assert(debt_count(config, config->repositories[1].name, &owed, &err));
    ck_assert_uint_eq(owed, 1);
    ck_assert_int_eq(rename(away, place), 0);
    ck_assert(!is_in(1, SEGMENT));
    /* It is left out for a while. */
    ck_assert(ship(SEGMENT));
    ck_assert(!is_in(1, SEGMENT));
    ck_assert(files_remove_tree(down, &err));
    ck_assert(ship(SEGMENT));
    ck_assert(is_in(1, SEGMENT));
    ck_assert(ship(SEGMENT));
    ck_assert(debt_count(config, config->repositories[1].name, &owed, &err));
    ck_assert_uint_eq(owed, 0);
    free(down);
    free(place);
    free(away);
}
END_TEST

static size_t owed_to(size_t index)
{
    size_t owed;

    ck_assert(debt_count(config, config->repositories[index].name, &owed, &err));
    return owed;
}

/* What has to be mended, and does not pass by itself, is one repository's matter as well: r2 is
 * encrypted, which the configuration does not know of. Nothing plain gets into it. */
START_TEST(one_that_the_configuration_does_not_fit_holds_up_no_other)
{
    char *place = mem_printf("%s/r2", root),
         *pin = mem_printf("%s/repository/r2", config->state_dir);
    char *wal = mem_printf("%s/main", place);
    char *crt[] = {key_files_path(root, "a", ".crt")};

    key_files_make(root, "a", KEYPAIR_EC, NULL);
    ck_assert(files_remove_tree(place, &err) && unlink(pin) == 0);
    config->encryption.recipients = (struct config_paths){.paths = crt, .count = 1};
    make_repository(1);
    config->encryption.recipients = (struct config_paths){.count = 0};
    ck_assert_msg(ship(SEGMENT), "%s", err.message);
    ck_assert(is_in(0, SEGMENT));
    ck_assert_int_ne(access(wal, F_OK), 0);
    ck_assert_uint_eq(owed_to(1), 1);

    config->archive.require = 2;
    ck_assert(!ship(SEGMENT));
    ck_refused(ERROR_CONFIG, "repository \"r2\"");
    ck_assert_msg(strstr(err.message, "is encrypted, but the configuration") != NULL, "%s",
                  err.message);
    ck_assert_int_ne(access(wal, F_OK), 0);

    /* Nobody to encrypt for: r1 is the one that does not fit, and r2 cannot be written to. */
    config->archive.require = 1;
    config->encryption.recipients = (struct config_paths){.paths = crt, .count = 1};
    ck_assert_int_eq(unlink(crt[0]), 0);
    ck_assert(!ship(SEGMENT));
    ck_refused(ERROR_CONFIG, "is not encrypted, but the configuration");
    ck_assert_msg(strstr(err.detail, "repository \"r2\" cannot be written to") != NULL, "%s",
                  err.detail);
    config->encryption.recipients = (struct config_paths){.count = 0};
    free(crt[0]);
    free(wal);
    free(pin);
    free(place);
}
END_TEST

/* Each cause, and not just that of the first; nor that it was so a moment ago. */
START_TEST(all_causes_are_told)
{
    char *place = mem_printf("%s/r2", root), *other = mem_printf("%s/r1", root);

    ck_assert(files_remove_tree(place, &err));
    ck_assert_msg(ship(SEGMENT), "%s", err.message);
    ck_assert(!outage_error(config, "r2", &err));
    ck_assert_msg(strstr(err.message, "\"r2\" did not answer a moment ago: ") != NULL &&
                      strstr(err.message, "does not exist") != NULL &&
                      strstr(err.hint, "mounted") != NULL,
                  "%s: %s", err.message, err.hint);
    ck_assert(files_remove_tree(other, &err));
    ck_assert(!ship(SEGMENT));
    ck_refused(ERROR_STORE, "/r1\"");
    ck_assert_msg(strstr(err.detail, "/r2\"") != NULL &&
                      strstr(err.detail, "does not exist") != NULL,
                  "%s", err.detail);
    ck_assert_msg(strstr(err.hint, "mounted") != NULL, "%s", err.hint);
    free(place);
    free(other);
}
END_TEST

static void damage(size_t index, const char *object)
{
    struct buffer bytes = BUFFER_INIT;
    struct repository *repository;

    ck_assert(repository_open(config, &config->repositories[index], &repository, &err));
    repository_select(repository, ARCHIVE_SYSTEM);
    archive_read(repository, object, &bytes);
    bytes.data[bytes.length / 2] ^= 1;
    archive_replace(repository, object, bytes.data, bytes.length);
    repository_close(repository);
    buffer_free(&bytes);
}

static bool ship_number(uint64_t number)
{
    char file[WAL_NAME_SIZE];

    wal_segment_name(1, number, ARCHIVE_SEGMENT_SIZE, file);
    archive_segment(&segment, ARCHIVE_SEGMENT_SIZE, 1, number, ARCHIVE_SYSTEM, number);
    free(archive_file("pg_wal", file, segment.data, segment.length));
    return ship(file);
}

START_TEST(what_cannot_be_paid_keeps_nothing_else_back)
{
    char *place = mem_printf("%s/r2", root), *away = mem_printf("%s/away", root);
    const char *name = config->repositories[1].name;
    char oldest[LAYOUT_NAME_SIZE];
    struct repository_set set;
    size_t owed, paid;

    ck_assert_int_eq(rename(place, away), 0);
    for (uint64_t number = 5; number < 9; number++)
        ck_assert_msg(ship_number(number), "%s", err.message);
    ck_assert_int_eq(rename(away, place), 0);
    damage(0, layout_wal_segment(SEGMENT, oldest));
    ck_assert(
        repository_set_open(config, REPOSITORY_SET_ASK_ALL, ARCHIVE_SYSTEM, 0, 1, &set, &err));
    ck_assert(!debt_pay(&set, 1, &paid, &err));
    ck_assert_uint_eq(paid, 0);
    ck_refused(ERROR_INTEGRITY, "is damaged");
    ck_assert(!debt_pay(&set, SIZE_MAX, &paid, &err));
    ck_assert_uint_eq(paid, 3);
    ck_refused(ERROR_INTEGRITY, "is damaged");
    ck_assert(debt_count(config, name, &owed, &err));
    ck_assert_uint_eq(owed, 1);
    repository_set_close(&set);
    free(place);
    free(away);
}
END_TEST

/* Of another server with the same system identifier, that could reach this one. */
static void store_elsewhere(size_t index, uint64_t number)
{
    struct repository *repository;
    struct buffer bytes = BUFFER_INIT;
    char file[WAL_NAME_SIZE];

    ck_assert(repository_open(config, &config->repositories[index], &repository, &err));
    repository_select(repository, ARCHIVE_SYSTEM);
    wal_segment_name(1, number, ARCHIVE_SEGMENT_SIZE, file);
    archive_segment(&bytes, ARCHIVE_SEGMENT_SIZE, 1, number, ARCHIVE_SYSTEM, 77);
    ck_assert(archive_store(repository, file, bytes.data, bytes.length, &outcome, &err));
    buffer_free(&bytes);
    repository_close(repository);
}

/* It archived while this one was out of our reach: neither what comes next nor what is owed must go on from
 * there, as nobody could tell one WAL from the other afterwards. */
START_TEST(nothing_goes_behind_another_servers_wal)
{
    static const char another[] = "different files of the name \"00000001000000000000000";
    char *place = mem_printf("%s/r2", root), *away = mem_printf("%s/away", root);
    char *wal = mem_printf("%s/main", place), *other = mem_printf("%s/r1", root);
    struct repository_set set;
    size_t owed, paid;

    ck_assert(ship_number(4));
    ck_assert_int_eq(rename(place, away), 0);
    ck_assert(ship_number(5) && ship_number(6) && ship_number(7));
    ck_assert_int_eq(rename(away, place), 0);
    outage_end(config, "r2");
    store_elsewhere(1, 5);
    store_elsewhere(1, 6);
    ck_assert(
        repository_set_open(config, REPOSITORY_SET_ASK_ALL, ARCHIVE_SYSTEM, 0, 1, &set, &err));
    ck_assert(!debt_pay(&set, SIZE_MAX, &paid, &err));
    ck_refused(ERROR_INTEGRITY, another);
    ck_assert_msg(strstr(err.hint, "nothing is stored behind it in \"r2\"") != NULL, "%s",
                  err.hint);
    ck_assert_uint_eq(paid, 0);
    ck_assert(!is_in(1, "000000010000000000000007"));
    repository_set_close(&set);

    ck_assert(!ship_number(8));
    ck_refused(ERROR_INTEGRITY, another);
    ck_assert(!is_in(0, "000000010000000000000008") && !is_in(1, "000000010000000000000008"));
    /* Nor where nobody else can be asked. */
    ck_assert_int_eq(rename(other, away), 0);
    ck_assert(!ship_number(8));
    ck_refused(ERROR_INTEGRITY,
               "\"r2\" has a different file of the name \"000000010000000000000005\"");
    ck_assert_int_eq(rename(away, other), 0);
    outage_end(config, "r1");
    /* Once that is cleared away all goes on. */
    ck_assert(files_remove_tree(wal, &err));
    ck_assert_msg(ship_number(8), "%s", err.message);
    ck_assert(is_in(1, "000000010000000000000007") && is_in(1, "000000010000000000000008"));
    ck_assert(debt_count(config, "r2", &owed, &err));
    ck_assert_uint_eq(owed, 0);
    free(other);
    free(wal);
    free(place);
    free(away);
}
END_TEST

START_TEST(another_clusters_segment_is_refused)
{
    archive_segment(&segment, ARCHIVE_SEGMENT_SIZE, 1, 5, 42, 1);
    free(archive_file("pg_wal", SEGMENT, segment.data, segment.length));
    ck_assert(!ship(SEGMENT));
    ck_refused(ERROR_INTEGRITY, "WAL segment \"" SEGMENT "\" belongs to another cluster (system "
                                "identifier 42, expected 7300000000000000001)");
    ck_assert(!is_in(0, SEGMENT));
}
END_TEST

/* Which cluster it is: the configured directory, or else the current one. */
START_TEST(whose_wal_it_is)
{
    char *clone = mem_printf("%s/clone", root), *moved = mem_printf("%s/moved", root);
    char *path = mem_printf("%s/pg_wal/" SEGMENT, moved);

    /* The configuration of one cluster, called in another one's directory. */
    archive_control(clone, 42);
    ck_assert_int_eq(chdir(clone), 0);
    char *original = mem_printf("%s/pg_wal/" SEGMENT, config->pgdata);
    ck_assert(!ship_file(config, original, &outcome, &err));
    ck_refused(ERROR_CONFIG, "is a data directory of another cluster");
    free(original);

    /* By hand from anywhere. */
    ck_assert_int_eq(chdir("/"), 0);
    original = mem_printf("%s/pg_wal/" SEGMENT, config->pgdata);
    ck_assert_msg(ship_file(config, original, &outcome, &err), "%s", err.message);
    free(original);

    /* The data directory has been moved: the current one tells. */
    ck_assert_int_eq(rename(config->pgdata, moved), 0);
    ck_assert(!ship_file(config, path, &outcome, &err));
    ck_refused(ERROR_CONFIG, "could not tell which cluster");
    ck_assert_int_eq(chdir(moved), 0);
    ck_assert(ship(SEGMENT));
    ck_assert_int_eq(outcome, WAL_ALREADY_THERE);
    free(path);
    free(moved);
    free(clone);
}
END_TEST

START_TEST(a_damaged_control_file_is_no_missing_one)
{
    char *path = files_join(config->pgdata, "global/pg_control");

    ck_assert(files_write(path, "x", 1, 0600, &err));
    ck_assert(!ship(SEGMENT));
    ck_refused(ERROR_INTEGRITY, "pg_control");
    free(path);
}
END_TEST

START_TEST(what_cannot_be_pushed)
{
    ck_assert(!ship("000000010000000000000006"));
    ck_refused(ERROR_SYSTEM, "No such file");
    ck_assert(!ship("xlogtemp.123"));
    ck_refused(ERROR_USAGE, "is not the name of a WAL file");
    ck_assert(!ship_file(config, "", &outcome, &err));
    ck_refused(ERROR_USAGE, "is not the name of a WAL file");
    ck_assert_int_eq(mkdir("pg_wal/000000010000000000000007", 0700), 0);
    ck_assert(!ship("000000010000000000000007"));
    ck_refused(ERROR_USAGE, "is not a regular file");
    ck_assert_int_eq(mkfifo("pg_wal/000000010000000000000008", 0600), 0);
    ck_assert(!ship("000000010000000000000008"));
    ck_refused(ERROR_USAGE, "is not a regular file");
}
END_TEST

START_TEST(the_timeout_counts)
{
    config->archive.timeout = 1;
    clock_sleep(1000);
    ck_assert(!ship(SEGMENT));
    ck_refused(ERROR_TIMEOUT, "could not archive");
    ck_assert(!is_in(0, SEGMENT));
}
END_TEST

Suite *ship_suite(void)
{
    Suite *suite = suite_create("ship");
    TCase *tests = tcase_create("ship");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, every_repository_gets_it);
    tcase_add_test(tests, one_place_is_no_two_repositories);
    tcase_add_test(tests, one_repository_fewer_than_required_is_no_success);
    tcase_add_test(tests, one_repository_more_than_required_may_wait);
    tcase_add_test(tests, one_that_the_configuration_does_not_fit_holds_up_no_other);
    tcase_add_test(tests, all_causes_are_told);
    tcase_add_test(tests, what_cannot_be_paid_keeps_nothing_else_back);
    tcase_add_test(tests, nothing_goes_behind_another_servers_wal);
    tcase_add_test(tests, another_clusters_segment_is_refused);
    tcase_add_test(tests, whose_wal_it_is);
    tcase_add_test(tests, a_damaged_control_file_is_no_missing_one);
    tcase_add_test(tests, what_cannot_be_pushed);
    tcase_add_test(tests, the_timeout_counts);
    suite_add_tcase(suite, tests);
    return suite;
}
