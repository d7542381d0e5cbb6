/* test_version.c - what differs between PostgreSQL's major versions */
#include <check.h>
#include <string.h>

#include "pgvigil/version.h"
#include "suites.h"

START_TEST(test_magics)
{
    ck_assert_int_eq(version_of_wal_magic(0xD110), 15);
    ck_assert_int_eq(version_of_wal_magic(0xD113), 16);
    ck_assert_int_eq(version_of_wal_magic(0xD116), 17);
    ck_assert_int_eq(version_of_wal_magic(0xD118), 18);
    ck_assert_int_eq(version_of_wal_magic(0xD10D), 0); /* 14 */
    ck_assert_int_eq(version_of_wal_magic(0xD119), 0);
    ck_assert_int_eq(version_of_wal_magic(0), 0);
}
END_TEST

START_TEST(test_servers)
{
    struct error err = ERROR_INIT;

    ck_assert(version_check_server(150000, &err));
    ck_assert(version_check_server(180099, &err));
    ck_assert(!version_check_server(149999, &err));
    ck_assert_int_eq(err.code, ERROR_CONFIG);
    ck_assert_str_eq(err.message, "PostgreSQL 14 is not supported");
    ck_assert_ptr_nonnull(strstr(err.hint, "15 to 18"));
    ck_assert(!version_check_server(190000, &err));
    ck_assert_ptr_nonnull(strstr(err.hint, "newer pgvigil"));
}
END_TEST

START_TEST(test_formats)
{
    ck_assert_int_eq(version_manifest(15), 1);
    ck_assert_int_eq(version_manifest(16), 1);
    ck_assert_int_eq(version_manifest(17), 2);
    ck_assert_int_eq(version_manifest(18), 2);
    ck_assert_uint_eq(version_xact_stats_item_size(15), 12);
    ck_assert_uint_eq(version_xact_stats_item_size(17), 12);
    ck_assert_uint_eq(version_xact_stats_item_size(18), 16);
}
END_TEST

Suite *version_suite(void)
{
    Suite *suite = suite_create("version");
    TCase *tests = tcase_create("version");

    tcase_add_test(tests, test_magics);
    tcase_add_test(tests, test_servers);
    tcase_add_test(tests, test_formats);
    suite_add_tcase(suite, tests);
    return suite;
}
