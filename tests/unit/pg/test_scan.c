/* test_scan.c - what of a data directory belongs in a base backup */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "pgvigil/clock.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "pgvigil/scan.h"
#include "suites.h"
#include "support/scratch.h"

static char *base; /* of all that a test makes */
static char *data; /* the data directory */
static struct control control;

static void setup(void)
{
    base = scratch_make();
    data = files_join(base, "data");
    control = (struct control){.control_version = 1300,
                               .catalog_version = 202209061,
                               .major = 15,
                               .relation_segment_blocks = 131072};
    ck_assert_int_eq(mkdir(data, 0700), 0);
}

static void teardown(void)
{
    free(data);
    scratch_remove(base);
}

/* Paths ending in '/' are directories; a file has as many bytes as its path. */
static void make(const char *path)
{
    struct error err = ERROR_INIT;
    char *whole = mem_printf("%s/%s", data, path);
    char *slash = strrchr(whole, '/');

    *slash = '\0';
    ck_assert_msg(files_make_directories(whole, &err), "%s", err.message);
    *slash = '/';
    if (slash[1] != '\0') {
        ck_assert_msg(files_write(whole, path, strlen(path), 0600, &err), "%s", err.message);
    }
    free(whole);
}

static void make_all(const char *const *paths)
{
    for (; *paths; paths++) {
        make(*paths);
    }
}

static void make_link(const char *target, const char *path)
{
    char *whole = files_join(data, path);

    ck_assert_int_eq(symlink(target, whole), 0);
    free(whole);
}

static struct scan *scan(void)
{
    struct error err = ERROR_INIT;
    struct scan *result = NULL;

    ck_assert_msg(scan_data_directory(data, &control, &result, &err), "%s", err.message);
    return result;
}

static void expect_scan_error(enum error_code code, const char *part)
{
    struct error err = ERROR_INIT;
    struct scan *result = NULL;

    ck_assert(!scan_data_directory(data, &control, &result, &err));
    ck_assert_ptr_null(result);
    ck_assert_msg(err.code == code, "%d: %s", err.code, err.message);
    ck_assert_msg(strstr(err.message, part) != NULL, "%s", err.message);
}

/* The paths, each with a letter for what it is, against the expected ones up to NULL. */
static void expect_paths(const struct scan *result, const char *const *expected)
{
    static const char letters[] = "dfrt";

    for (size_t i = 0; i < result->count; i++) {
        char *shown =
            mem_printf("%c %s", letters[result->entries[i].kind], result->entries[i].path);
        ck_assert_msg(expected[i] != NULL, "surplus: %s", shown);
        ck_assert_str_eq(shown, expected[i]);
        free(shown);
    }
    ck_assert_msg(expected[result->count] == NULL, "missing: %s", expected[result->count]);
}

static const struct scan_entry *find(const struct scan *result, const char *path)
{
    for (size_t i = 0; i < result->count; i++) {
        if (strcmp(result->entries[i].path, path) == 0) {
            return &result->entries[i];
        }
    }
    ck_abort_msg("%s was not found", path);
}

START_TEST(test_exclusions)
{
    static const char *const made[] = {"PG_VERSION",
                                       "postgresql.auto.conf",
                                       "postgresql.auto.conf.tmp",
                                       "current_logfiles",
                                       "current_logfiles.tmp",
                                       "backup_label",
                                       "backup_label.old",
                                       "tablespace_map",
                                       "tablespace_map.old",
                                       "backup_manifest",
                                       "backup_manifest.old",
                                       "postmaster.pid",
                                       "postmaster.opts",
                                       "standby.signal",
                                       "recovery.signal",
                                       "log/postgresql.log",
                                       "log/postmaster.pid",
                                       "global/pg_control",
                                       "global/pg_filenode.map",
                                       "global/pg_internal.init",
                                       "global/pg_internal.init.123",
                                       "global/1262",
                                       "global/1262_fsm",
                                       "base/pgsql_tmp/pgsql_tmp1.0",
                                       "base/5/PG_VERSION",
                                       "base/5/pg_internal.init",
                                       "base/5/pg_filenode.map",
                                       "base/5/pgsql_tmp123",
                                       "pg_stat_tmp/db_5.stat",
                                       "pg_replslot/slot/state",
                                       "pg_dynshmem/x",
                                       "pg_notify/0000",
                                       "pg_serial/0000",
                                       "pg_snapshots/x",
                                       "pg_subtrans/0000",
                                       "pg_stat/pgstat.stat",
                                       "pg_xact/0000",
                                       "pg_tblspc/",
                                       "pg_wal/000000010000000000000001",
                                       "pg_wal/archive_status/x.ready",
                                       NULL};
    static const char *const expected[] = {"f PG_VERSION",
                                           "f backup_label.old",
                                           "f backup_manifest.old",
                                           "d base",
                                           "d base/5",
                                           "f base/5/PG_VERSION",
                                           "f base/5/pg_filenode.map",
                                           "f current_logfiles",
                                           "d global",
                                           "r global/1262",
                                           "r global/1262_fsm",
                                           "f global/pg_control",
                                           "f global/pg_filenode.map",
                                           "d log",
                                           "f log/postgresql.log",
                                           "d pg_dynshmem",
                                           "d pg_notify",
                                           "d pg_replslot",
                                           "d pg_serial",
                                           "d pg_snapshots",
                                           "d pg_stat",
                                           "f pg_stat/pgstat.stat",
                                           "d pg_stat_tmp",
                                           "d pg_subtrans",
                                           "d pg_tblspc",
                                           "d pg_wal",
                                           "d pg_wal/archive_status",
                                           "d pg_xact",
                                           "f pg_xact/0000",
                                           "f postgresql.auto.conf",
                                           "f recovery.signal",
                                           "f standby.signal",
                                           "f tablespace_map.old",
                                           NULL};

    make_all(made);
    struct scan *result = scan();
    expect_paths(result, expected);
    ck_assert_uint_eq(result->skipped_count, 0);
    scan_free(result);
    scan_free(NULL);
}
END_TEST

START_TEST(test_relations)
{
    static const char *const made[] = {
        "base/5/1259", "base/5/1259_fsm", "base/5/1259_vm", "base/5/1259.1",
        "base/5/1259_fsm.32767", "base/5/1259.32768", "base/5/1259.0", "base/5/1259.01",
        "base/5/1259_x", "base/5/1259_init_fsm", "base/5/0123", "base/5/4294967296", "base/5/1259.",
        "base/5/x1259", "base/5/1259 ",
        /* unlogged */
        "base/5/2000", "base/5/2000.1", "base/5/2000_fsm", "base/5/2000_vm.2", "base/5/2000_init",
        "base/5/20001", "base/5/200",
        /* an init fork of another database says nothing */
        "base/6/2000", "base/6/2001_init",
        /* temporary */
        "base/5/t3_1234", "base/5/t3_1234_fsm.1", "base/5/t3_1234x", "base/5/t_1234", "base/5/t3_",
        "global/t3_1234",
        /* not in a database */
        "base/1259", "base/x/1259", "log/1259", "base/5/deep/1259", NULL};
    static const char *const expected[] = {"d base",
                                           "f base/1259",
                                           "d base/5",
                                           "f base/5/0123",
                                           "r base/5/1259",
                                           "f base/5/1259 ",
                                           "f base/5/1259.",
                                           "f base/5/1259.0",
                                           "f base/5/1259.01",
                                           "r base/5/1259.1",
                                           "f base/5/1259.32768",
                                           "r base/5/1259_fsm",
                                           "r base/5/1259_fsm.32767",
                                           "f base/5/1259_init_fsm",
                                           "r base/5/1259_vm",
                                           "f base/5/1259_x",
                                           "r base/5/200",
                                           "r base/5/20001",
                                           "r base/5/2000_init",
                                           "f base/5/4294967296",
                                           "d base/5/deep",
                                           "f base/5/deep/1259",
                                           "f base/5/t3_",
                                           "f base/5/t3_1234x",
                                           "f base/5/t_1234",
                                           "f base/5/x1259",
                                           "d base/6",
                                           "r base/6/2000",
                                           "r base/6/2001_init",
                                           "d base/x",
                                           "f base/x/1259",
                                           "d global",
                                           "f global/t3_1234",
                                           "d log",
                                           "f log/1259",
                                           NULL};

    make_all(made);
    struct scan *result = scan();
    expect_paths(result, expected);
    ck_assert_uint_eq(find(result, "base/5/1259")->first_block, 0);
    ck_assert_uint_eq(find(result, "base/5/1259.1")->first_block, 131072);
    ck_assert_uint_eq(find(result, "base/5/1259_fsm.32767")->first_block, 32767u * 131072);
    scan_free(result);
}
END_TEST

START_TEST(test_attributes)
{
    static const struct timeval times[2] = {{1700000000, 0}, {1700000000, 654321}};
    char *path = files_join(data, "some file\nwith \xFF name");
    struct error err = ERROR_INIT;

    ck_assert(files_write(path, "12345", 5, 0600, &err));
    ck_assert_int_eq(chmod(path, 0640), 0);
    ck_assert_int_eq(utimes(path, times), 0);
    make("pg_xact/0000");
    struct scan *result = scan();
    const struct scan_entry *entry = find(result, "some file\nwith \xFF name");
    ck_assert_uint_eq(entry->mode, 0640);
    ck_assert_uint_eq(entry->size, 5);
    ck_assert_int_eq(entry->modified, 1700000000 * CLOCK_SECOND + 654321);
    ck_assert_ptr_null(entry->link);
    ck_assert_uint_eq(find(result, "pg_xact")->mode, 0700);
    ck_assert_uint_eq(result->total_bytes, 5 + strlen("pg_xact/0000"));
    scan_free(result);
    free(path);
}
END_TEST

/* pg_wal and directories that are emptied are kept as directories where they are links. */
START_TEST(test_linked_directories)
{
    static const char *const expected[] = {"d pg_stat_tmp", "d pg_wal", "d pg_wal/archive_status",
                                           "d pg_wal/summaries", NULL};
    char *wal = files_join(base, "wal");
    char *inside = files_join(wal, "000000010000000000000001");
    struct error err = ERROR_INIT;

    ck_assert_int_eq(mkdir(wal, 0750), 0);
    ck_assert_int_eq(chmod(wal, 0750), 0);
    ck_assert(files_write(inside, "x", 1, 0600, &err));
    make_link(wal, "pg_wal");
    make_link("/nonexistent", "pg_stat_tmp");
    control.control_version = 1700;
    struct scan *result = scan();
    expect_paths(result, expected);
    ck_assert_uint_eq(find(result, "pg_wal")->mode, 0750);
    ck_assert_uint_eq(find(result, "pg_wal/summaries")->mode, 0750);
    ck_assert_uint_eq(find(result, "pg_stat_tmp")->mode, 0700);
    scan_free(result);
    free(inside);
    free(wal);
}
END_TEST

START_TEST(test_tablespaces)
{
    static const char *const expected[] = {"d pg_tblspc",
                                           "t pg_tblspc/16400",
                                           "d pg_tblspc/16400/PG_15_202209061",
                                           "d pg_tblspc/16400/PG_15_202209061/5",
                                           "r pg_tblspc/16400/PG_15_202209061/5/1300",
                                           "r pg_tblspc/16400/PG_15_202209061/5/1301.1",
                                           "r pg_tblspc/16400/PG_15_202209061/5/1302_init",
                                           "t pg_tblspc/16401",
                                           "d pg_tblspc/16401/PG_15_202209061",
                                           "d pg_tblspc/16402",
                                           "d pg_tblspc/16402/PG_15_202209061",
                                           "d pg_tblspc/16402/PG_15_202209061/5",
                                           "r pg_tblspc/16402/PG_15_202209061/5/1400",
                                           "d within",
                                           NULL};
    static const char *const made[] = {"../ts/PG_15_202209061/5/1300",
                                       "../ts/PG_15_202209061/5/1301.1",
                                       "../ts/PG_15_202209061/5/1302",
                                       "../ts/PG_15_202209061/5/1302_init",
                                       "../ts/PG_15_202209061/5/t1_1",
                                       "../ts/PG_15_202209061/pgsql_tmp/pgsql_tmp1.1",
                                       "../ts/PG_14_202107181/5/1300",
                                       "../ts/stray",
                                       "within/PG_15_202209061/",
                                       "pg_tblspc/16402/PG_15_202209061/5/1400",
                                       "pg_tblspc/16402/PG_16_202307071/5/1400",
                                       NULL};
    char *target = files_join(base, "ts");
    char *within = files_join(data, "within");

    make_all(made);
    make_link(target, "pg_tblspc/16400");
    make_link(within, "pg_tblspc/16401");
    make_link(target, "pg_tblspc/stray");
    struct scan *result = scan();
    expect_paths(result, expected);
    ck_assert_str_eq(find(result, "pg_tblspc/16400")->link, target);
    ck_assert_uint_eq(find(result, "pg_tblspc/16401")->mode, 0700);
    ck_assert_uint_eq(find(result, "pg_tblspc/16400/PG_15_202209061/5/1301.1")->first_block,
                      131072);
    ck_assert_uint_eq(result->skipped_count, 1);
    ck_assert_str_eq(result->skipped[0], "pg_tblspc/stray");
    scan_free(result);
    free(within);
    free(target);
}
END_TEST

/* Its disk is not mounted: what is there must not be taken for an empty tablespace. */
START_TEST(test_tablespace_missing)
{
    char *target = files_join(base, "ts");

    make("pg_tblspc/");
    make_link(target, "pg_tblspc/16400");
    expect_scan_error(ERROR_SYSTEM, "tablespace \"pg_tblspc/16400\" has no data");
    ck_assert_int_eq(mkdir(target, 0700), 0);
    expect_scan_error(ERROR_SYSTEM, "tablespace \"pg_tblspc/16400\" has no data");
    free(target);
}
END_TEST

START_TEST(test_skipped)
{
    static const char *const expected[] = {"d conf.d", "d pg_xact", NULL};
    char *fifo = files_join(data, "fifo");

    make("conf.d/");
    make("pg_xact/");
    make_link("/etc/ssl/private/key.pem", "server.key");
    make_link("/etc", "conf.d/etc");
    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    struct scan *result = scan();
    expect_paths(result, expected);
    ck_assert_uint_eq(result->skipped_count, 3);
    ck_assert_str_eq(result->skipped[0], "conf.d/etc");
    ck_assert_str_eq(result->skipped[1], "fifo");
    ck_assert_str_eq(result->skipped[2], "server.key");
    scan_free(result);
    free(fifo);
}
END_TEST

/* The server would follow these, its own base backup would not, and leave out half the cluster. */
START_TEST(test_needed_links)
{
    static const char *const links[] = {
        "base", "global", "pg_xact", "pg_tblspc", "pg_multixact/members", "base/5", "base/5/1259"};
    static const char *const parents[] = {"x/",    "x/",     "x/", "x/", "pg_multixact/",
                                          "base/", "base/5/"};

    make(parents[_i]);
    make_link(base, links[_i]);
    expect_scan_error(ERROR_CONFIG, links[_i]);
}
END_TEST

START_TEST(test_no_directory)
{
    free(data);
    data = files_join(base, "absent");
    expect_scan_error(ERROR_SYSTEM, "absent");
}
END_TEST

Suite *scan_suite(void)
{
    Suite *suite = suite_create("scan");
    TCase *tests = tcase_create("scan");

    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_exclusions);
    tcase_add_test(tests, test_relations);
    tcase_add_test(tests, test_attributes);
    tcase_add_test(tests, test_linked_directories);
    tcase_add_test(tests, test_tablespaces);
    tcase_add_test(tests, test_tablespace_missing);
    tcase_add_test(tests, test_skipped);
    tcase_add_loop_test(tests, test_needed_links, 0, 7);
    tcase_add_test(tests, test_no_directory);
    suite_add_tcase(suite, tests);
    return suite;
}
