/* The texts that a restore writes: settings, tablespace_map, backup_manifest. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "job/restore_config.h"
#include "job/restore_manifest.h"
#include "pgvigil/digest.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "suites.h"
#include "support/scratch.h"

static struct config config;
static struct restore_request request;
static struct restore_target_choice choice;
static struct backup_info backup;
static struct restore_place place;
static struct restore_plan plan;
static struct restore_config restore;
static struct buffer text;
static struct error err;
static char path[] = "/etc/pgvigil/main.conf";

static void set_up(void)
{
    config = (struct config){.path = path};
    request = (struct restore_request){.target = RESTORE_LATEST};
    backup = (struct backup_info){.run = 1000, .version_num = 150018, .timeline = 3};
    choice = (struct restore_target_choice){.backup = &backup, .timeline = 5};
    place = (struct restore_place){.count = 0};
    plan = (struct restore_plan)RESTORE_PLAN_INIT;
    restore = (struct restore_config){
        .config = &config, .request = &request, .choice = &choice, .place = &place, .plan = &plan};
    error_clear(&err);
}

static void tear_down(void)
{
    buffer_free(&text);
}

static const char *settings(const char *old)
{
    buffer_clear(&text);
    restore_config_settings(&restore, "/usr/bin/pgvigil", old, &text);
    return buffer_text(&text);
}

static void check_has(const char *line)
{
    ck_assert_msg(strstr(buffer_text(&text), line) != NULL, "no %s in:\n%s", line,
                  buffer_text(&text));
}

static void check_lacks(const char *line)
{
    ck_assert_msg(strstr(buffer_text(&text), line) == NULL, "%s in:\n%s", line, buffer_text(&text));
}

START_TEST(of_the_latest)
{
    settings("");
    check_has("\nrestore_command = '/usr/bin/pgvigil -c /etc/pgvigil/main.conf archive-get "
              "\"%f\" \"%p\"'\n");
    check_has("\nrecovery_target = ''\n");
    check_has("\nrecovery_target_lsn = ''\n");
    check_has("\nrecovery_target_name = ''\n");
    check_has("\nrecovery_target_time = ''\n");
    check_has("\nrecovery_target_xid = ''\n");
    check_has("\nrecovery_target_timeline = '5'\n");
    check_has("\nrecovery_target_action = 'promote'\n");
    check_has("\nrecovery_end_command = ''\n");
    check_has("\narchive_mode = 'off'\n");
    check_lacks("recovery_prefetch");
}
END_TEST

/* The server goes through them in order, and takes an empty one behind the one set for a second. */
START_TEST(the_target_comes_last)
{
    const char *set;

    request.target = RESTORE_TIME;
    request.time = INT64_C(1800000000000042);
    request.bound = RESTORE_EXCLUSIVE;
    set = strstr(settings(""), "recovery_target_time = '2027-01-15 08:00:00.000042+00'\n");
    ck_assert_msg(set != NULL, "%s", buffer_text(&text));
    ck_assert(strstr(set, " = ''\nrecovery_target") == NULL);
    check_has("\nrecovery_target_inclusive = 'off'\n");
    request.time = -1;
    settings("");
    check_has("recovery_target_time = '1969-12-31 23:59:59.999999+00'\n");
    request.target = RESTORE_LSN;
    request.lsn = UINT64_C(0x16B374D848);
    settings("");
    check_has("\nrecovery_target_lsn = '16/B374D848'\n");
    check_has("\nrecovery_target_time = ''\n");
    request.target = RESTORE_IMMEDIATE;
    settings("");
    check_has("\nrecovery_target = 'immediate'\n");
    request.target = RESTORE_XID;
    request.xid = UINT32_MAX;
    settings("");
    check_has("\nrecovery_target_xid = '4294967295'\n");
}
END_TEST

START_TEST(quoting)
{
    static char strange[] = "/a b/100%/it's\\here/new\nline.conf";
    const char *without[] = {"west", NULL};

    config.path = strange;
    request.target = RESTORE_NAME;
    request.name = "it's \\n";
    request.repository = "east";
    request.without = without;
    settings("");
    check_has("restore_command = '/usr/bin/pgvigil -c "
              "''/a b/100%%/it''\\\\''''s\\\\here/new\\nline.conf'' archive-get --repository east "
              "--without west \"%f\" \"%p\"'\n");
    check_has("recovery_target_name = 'it''s \\\\n'\n");
}
END_TEST

START_TEST(old_lines)
{
    settings("# a comment\n"
             "work_mem = '5MB'\n"
             "  Recovery_Target_XID '7'\n"
             "recovery_target='immediate'\n"
             "restore_command = 'cp'\n"
             "archive_mode = 'on'\n"
             "archive_command = 'true'\n"
             "primary_conninfo = 'host=a'\n"
             "recovery_min_apply_delay = 5");
    check_has("# a comment\nwork_mem = '5MB'\n");
    check_has("# before the restore:   Recovery_Target_XID '7'\n");
    check_has("# before the restore: recovery_target='immediate'\n");
    check_has("# before the restore: restore_command = 'cp'\n");
    check_has("# before the restore: archive_mode = 'on'\n");
    check_has("\narchive_command = 'true'\n");
    check_has("\nprimary_conninfo = 'host=a'\n");
}
END_TEST

START_TEST(archiving_stays_where_it_belongs)
{
    place.configured = true;
    ck_assert(!restore_config_archiving_off(&restore));
    settings("archive_mode = 'on'\n");
    check_lacks("'off'");
    ck_assert(strncmp(buffer_text(&text), "archive_mode = 'on'\n", 20) == 0);
    place.configured = false;
    ck_assert(restore_config_archiving_off(&restore));
    request.archiving = RESTORE_TAKE_OVER;
    ck_assert(!restore_config_archiving_off(&restore));
}
END_TEST

START_TEST(special_cases)
{
    choice.follow = RESTORE_TARGET_CURRENT;
    choice.gap = true;
    plan.in_place = true;
    settings("");
    check_has("recovery_target_timeline = 'current'\n");
    check_has("recovery_prefetch = 'off'\n");
    check_has("allow_in_place_tablespaces = 'on'\n");
}
END_TEST

static bool map(const char *old)
{
    buffer_clear(&text);
    error_clear(&err);
    return restore_config_map(&place, old, &text, &err);
}

START_TEST(tablespace_map)
{
    static char from[] = "/x", plain[] = "/new/place", strange[] = "/new\nline\\and\rmore";
    struct restore_place_tablespace tablespaces[] = {{.oid = 16400, .from = from, .to = plain},
                                                     {.oid = 9, .from = from, .to = strange}};
    static const char *const bad[] = {"16401 /gone\n", "x /a\n",         "/a\n", "16400\n",
                                      "-1 /a\n",       "99999999999 /a", "\n",   "0 /a\n"};

    place.tablespaces = tablespaces;
    place.count = 2;
    ck_assert(map(""));
    ck_assert_uint_eq(text.length, 0);
    ck_assert(map("16400 /old/pl\\\nace\n9 /x\n"));
    ck_assert_str_eq(buffer_text(&text), "16400 /new/place\n9 /new\\\nline\\\\and\\\rmore\n");
    ck_assert(map("77 pg_tblspc/77\n16400 /x")); /* in place: as it was */
    ck_assert_str_eq(buffer_text(&text), "77 pg_tblspc/77\n16400 /new/place\n");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_msg(!map(bad[i]), "%s", bad[i]);
        ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    }
}
END_TEST

START_TEST(backup_manifest)
{
    static char control[] = RESTORE_TREE_CONTROL, odd[] = "od\"d\xff", wal[] = "pg_wal/x";
    static char conf[] = "postgresql.auto.conf";
    struct restore_plan_file files[] = {
        {.path = control, .size = 8192, .crc32c = 0x01020304, .modified = INT64_C(1000000)},
        {.path = odd, .size = 1, .crc32c = 5},
        {.path = wal, .size = 1},
        {.path = conf, .size = 1}};
    const struct restore_manifest_files others = {
        .files = {{.path = "backup_label", .size = 3, .crc32c = 6}}, .count = 1};
    char *directory = scratch_make(), *file, hex[DIGEST_SHA256_HEX_SIZE];
    unsigned char sha256[DIGEST_SHA256_SIZE];
    struct restore_tree *tree;
    const char *last;

    backup.version_num = 170002;
    backup.system_identifier = 77;
    backup.start_lsn = 0x3000028;
    backup.stop_lsn = 0x3000100;
    plan.files = files;
    plan.file_count = 4;
    place.path = files_join(directory, "target");
    file = files_join(place.path, "backup_manifest");
    ck_assert(restore_tree_new(&place, "test", &tree, &err));
    ck_assert(restore_manifest_write(tree, &plan, &others, &backup, &err));
    ck_assert(files_read(file, 1 << 20, &text, &err));
    check_has("{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": 77,\n"
              "\"Files\": [\n");
    check_has("\n{ \"Path\": \"global/pg_control\", \"Size\": 8192, \"Last-Modified\": "
              "\"1970-01-01 00:00:01 GMT\", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": "
              "\"04030201\" },\n");
    check_has("{ \"Encoded-Path\": \"6f642264ff\", ");
    check_has("\"Path\": \"backup_label\", \"Size\": 3");
    check_has("{ \"Timeline\": 3, \"Start-LSN\": \"0/3000028\", \"End-LSN\": \"0/3000100\" }\n");
    check_lacks("pg_wal");
    check_lacks("auto.conf");
    last = strstr(buffer_text(&text), "\"Manifest-Checksum\"");
    ck_assert_ptr_nonnull(last);
    digest_sha256(text.data, (size_t)(last - buffer_text(&text)), sha256);
    check_has(digest_to_hex(sha256, sizeof sha256, hex));
    restore_tree_free(tree);
    free(place.path);
    free(file);
    scratch_remove(directory);
}
END_TEST

Suite *restore_config_suite(void)
{
    Suite *suite = suite_create("restore_config");
    TCase *tests = tcase_create("restore_config");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, of_the_latest);
    tcase_add_test(tests, the_target_comes_last);
    tcase_add_test(tests, quoting);
    tcase_add_test(tests, old_lines);
    tcase_add_test(tests, archiving_stays_where_it_belongs);
    tcase_add_test(tests, special_cases);
    tcase_add_test(tests, tablespace_map);
    tcase_add_test(tests, backup_manifest);
    suite_add_tcase(suite, tests);
    return suite;
}
