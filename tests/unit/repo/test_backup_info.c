#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/backup_info.h"
#include "pgvigil/layout.h"
#include "pgvigil/object.h"
#include "pgvigil/trailer.h"
#include "suites.h"
#include "support/archive.h"

#define RUN INT64_C(1795140000) /* 2026-11-20T02:00:00Z */

static struct repository *repository;
static struct error err;

static char host[] = "db1", directory[] = "/var/lib/postgresql/15/main", fast[] = "/fast/ts";
static char page1[] = "base/5/1259 block 7", page2[] = "base/5/1249 block 0";
static char *pages[] = {page1, page2};
static struct backup_tablespace tablespaces[] = {{.oid = 16400, .location = fast}};
static const struct backup_info sample = {.run = RUN,
                                          .system_identifier = ARCHIVE_SYSTEM,
                                          .version_num = 150018,
                                          .timeline = 3,
                                          .start_lsn = UINT64_C(0xA00000028),
                                          .stop_lsn = UINT64_C(0xAFE000138),
                                          .start_time = RUN * 1000000 + 5,
                                          .stop_time = (RUN + 90) * 1000000,
                                          .wal_segment_size = 16 * 1024 * 1024,
                                          .data_checksums = true,
                                          .host = host,
                                          .data_directory = directory,
                                          .tablespaces = tablespaces,
                                          .tablespace_count = 1,
                                          .file_count = 1234,
                                          .database_bytes = UINT64_C(5000000000000),
                                          .stored_bytes = 77,
                                          .pack_bytes = 78,
                                          .page_errors = 2,
                                          .page_error_list = pages,
                                          .page_error_list_count = 2,
                                          .manifest_sha256 = {0xab},
                                          .refs_sha256 = {[31] = 0xcd}};

static void set_up(void)
{
    repository = archive_repository();
    error_clear(&err);
}

static void tear_down(void)
{
    archive_free_repository(repository);
}

static void check_sample(const struct backup_info *info)
{
    ck_assert_int_eq(info->run, sample.run);
    ck_assert_uint_eq(info->system_identifier, sample.system_identifier);
    ck_assert_int_eq(info->version_num, 150018);
    ck_assert_uint_eq(info->timeline, 3);
    ck_assert_uint_eq(info->start_lsn, sample.start_lsn);
    ck_assert_uint_eq(info->stop_lsn, sample.stop_lsn);
    ck_assert_int_eq(info->start_time, sample.start_time);
    ck_assert_int_eq(info->stop_time, sample.stop_time);
    ck_assert_uint_eq(info->wal_segment_size, sample.wal_segment_size);
    ck_assert(info->data_checksums);
    ck_assert_str_eq(info->host, host);
    ck_assert_str_eq(info->data_directory, directory);
    ck_assert_uint_eq(info->tablespace_count, 1);
    ck_assert_uint_eq(info->tablespaces[0].oid, 16400);
    ck_assert_str_eq(info->tablespaces[0].location, fast);
    ck_assert_uint_eq(info->file_count, 1234);
    ck_assert_uint_eq(info->database_bytes, sample.database_bytes);
    ck_assert_uint_eq(info->stored_bytes, 77);
    ck_assert_uint_eq(info->pack_bytes, 78);
    ck_assert_uint_eq(info->page_errors, 2);
    ck_assert_uint_eq(info->page_error_list_count, 2);
    ck_assert_str_eq(info->page_error_list[1], page2);
    ck_assert_mem_eq(info->manifest_sha256, sample.manifest_sha256, DIGEST_SHA256_SIZE);
    ck_assert_mem_eq(info->refs_sha256, sample.refs_sha256, DIGEST_SHA256_SIZE);
}

START_TEST(there_and_back)
{
    struct buffer json = BUFFER_INIT;
    struct backup_info *info;

    backup_info_encode(&sample, &json);
    ck_assert_int_eq(json.data[json.length - 1], '\n');
    ck_assert_ptr_nonnull(strstr(buffer_text(&json), "\"start_lsn\": \"A/28\""));
    ck_assert_ptr_nonnull(strstr(buffer_text(&json), "\"run\": \"20261120T020000Z\""));
    ck_assert_ptr_nonnull(
        strstr(buffer_text(&json), "\"start_time\": \"2026-11-20T02:00:00.000005Z\""));
    ck_assert_ptr_nonnull(
        strstr(buffer_text(&json), "\"system_identifier\": \"7300000000000000001\""));
    ck_assert_msg(backup_info_parse(buffer_text(&json), json.length, &info, &err), "%s",
                  err.message);
    check_sample(info);
    backup_info_free(info);
    buffer_free(&json);
}
END_TEST

START_TEST(names_that_are_no_utf8)
{
    char odd[] = "/srv/\xE4pfel";
    struct backup_info info = sample, *back;
    struct buffer json = BUFFER_INIT;

    info.data_directory = odd;
    backup_info_encode(&info, &json);
    ck_assert_msg(backup_info_parse(buffer_text(&json), json.length, &back, &err), "%s",
                  err.message);
    ck_assert_str_eq(back->data_directory, "/srv/\xEF\xBF\xBDpfel");
    backup_info_free(back);
    buffer_free(&json);
}
END_TEST

/* Changes one key of the sample, given as JSON; NULL takes the key away. */
static bool parse_changed(const char *key, const char *value)
{
    struct buffer json = BUFFER_INIT;
    struct backup_info *info = NULL;
    char *text;
    bool ok;

    backup_info_encode(&sample, &json);
    json_t *object = json_loadb(buffer_text(&json), json.length, 0, NULL);
    if (value)
        ck_assert_int_eq(json_object_set_new(object, key, json_loads(value, JSON_DECODE_ANY, NULL)),
                         0);
    else
        ck_assert_int_eq(json_object_del(object, key), 0);
    text = json_dumps(object, 0);
    error_clear(&err);
    ok = backup_info_parse(text, strlen(text), &info, &err);
    if (ok)
        backup_info_free(info);
    else
        ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    free(text);
    json_decref(object);
    buffer_free(&json);
    return ok;
}

static const char *const keys[] = {
    "format",          "run",          "system_identifier", "version_num", "timeline",
    "start_lsn",       "stop_lsn",     "start_time",        "stop_time",   "wal_segment_size",
    "data_checksums",  "host",         "data_directory",    "tablespaces", "file_count",
    "database_bytes",  "stored_bytes", "pack_bytes",        "page_errors", "page_error_list",
    "manifest_sha256", "refs_sha256"};

START_TEST(every_key_is_needed)
{
    ck_assert(!parse_changed(keys[_i], NULL));
    ck_assert_msg(strstr(err.message, keys[_i]) != NULL, "%s: %s", keys[_i], err.message);
    ck_assert(!parse_changed(keys[_i], "null"));
    ck_assert(!parse_changed(keys[_i], "-1"));
    ck_assert(!parse_changed(keys[_i], "1e3"));
    ck_assert(!parse_changed(keys[_i], "{}"));
}
END_TEST

static const struct {
    const char *key, *value;
} impossible[] = {
    {"format", "2"},
    {"run", "\"20261120T0200\""},
    {"system_identifier", "7400000000000000001"},
    {"system_identifier", "\"0\""},
    {"system_identifier", "\"-1\""},
    {"system_identifier", "\"18446744073709551616\""},
    {"system_identifier", "\" 7\""},
    {"version_num", "15"},
    {"timeline", "0"},
    {"timeline", "4294967296"},
    {"start_lsn", "\"0/0\""},
    {"start_lsn", "\"B/0\""}, /* behind the stop */
    {"start_lsn", "\"a/28\""},
    {"start_time", "\"2026-11-20 02:00:00Z\""},
    {"start_time", "\"2026-11-20T02:00:00+01:00\""},
    {"start_time", "\"2026-11-20T02:00:00\""},
    {"wal_segment_size", "1000000"},
    {"tablespaces", "[1]"},
    {"tablespaces", "[{\"oid\":0,\"location\":\"/a\"}]"},
    {"tablespaces", "[{\"oid\":1,\"location\":\"a\"}]"},
    {"tablespaces", "[{\"oid\":1}]"},
    {"database_bytes", "9007199254740993"},
    {"page_errors", "1"},
    {"page_error_list", "[1]"},
    {"manifest_sha256", "\"ab\""},
    {"refs_sha256", "\"\""},
};

START_TEST(impossible_values)
{
    ck_assert(!parse_changed(impossible[_i].key, impossible[_i].value));
    if (_i == 0)
        ck_assert_ptr_nonnull(strstr(err.hint, "newer"));
}
END_TEST

START_TEST(more_keys_are_fine)
{
    ck_assert(parse_changed("later", "{\"a\": [1, 2.5]}"));
}
END_TEST

START_TEST(not_even_json)
{
    static const char *const texts[] = {"", "[]", "{", "{} {}", "{\"run\":1,\"run\":1}", "\xFF"};
    struct backup_info *info;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        ck_assert(!backup_info_parse(texts[i], strlen(texts[i]), &info, &err));
        ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    }
}
END_TEST

START_TEST(stored_and_fetched)
{
    struct backup_info *info;

    ck_assert_msg(backup_info_store(repository, &sample, &err), "%s", err.message);
    ck_assert_msg(backup_info_fetch(repository, RUN, &info, &err), "%s", err.message);
    check_sample(info);
    backup_info_free(info);
    ck_assert(!backup_info_store(repository, &sample, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    error_clear(&err);
    ck_assert(!backup_info_fetch(repository, RUN + 1, &info, &err));
    ck_assert_int_eq(err.code, ERROR_NOT_FOUND);
}
END_TEST

/* The record of one backup under the name of another. */
START_TEST(another_backups_record)
{
    struct buffer json = BUFFER_INIT;
    char name[LAYOUT_NAME_SIZE];
    struct backup_info *info = NULL;

    backup_info_encode(&sample, &json);
    ck_assert(object_put(repository, layout_backup(RUN + 1, name), TRAILER_BACKUP, OBJECT_PLAIN, 0,
                         json.data, json.length, &(enum store_outcome){STORE_TAKEN}, NULL, &err));
    ck_assert(!backup_info_fetch(repository, RUN + 1, &info, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_ptr_nonnull(strstr(err.message, name));
    ck_assert_ptr_null(info);
    buffer_free(&json);
}
END_TEST

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

Suite *backup_info_suite(void)
{
    Suite *suite = suite_create("backup_info");
    TCase *tests = tcase_create("backup_info");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, there_and_back);
    tcase_add_test(tests, names_that_are_no_utf8);
    tcase_add_loop_test(tests, every_key_is_needed, 0, COUNT(keys));
    tcase_add_loop_test(tests, impossible_values, 0, COUNT(impossible));
    tcase_add_test(tests, more_keys_are_fine);
    tcase_add_test(tests, not_even_json);
    tcase_add_test(tests, stored_and_fetched);
    tcase_add_test(tests, another_backups_record);
    suite_add_tcase(suite, tests);
    return suite;
}
