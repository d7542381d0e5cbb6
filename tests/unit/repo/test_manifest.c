#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgvigil/files.h"
#include "pgvigil/layout.h"
#include "pgvigil/manifest.h"
#include "pgvigil/mem.h"
#include "pgvigil/object.h"
#include "pgvigil/trailer.h"
#include "repo/manifest_schema.h"
#include "suites.h"
#include "support/archive.h"
#include "support/scratch.h"

#define RUN INT64_C(1795140000) /* 2026-11-20T02:00:00Z */

static struct repository *repository;
static struct error err;
static char *scratch;

static char label[] = "START WAL LOCATION: 0/2000028\n", tablespace_map[] = "16400 /fast/ts\n";
static const struct manifest_meta meta = {.backup_label = label,
                                          .tablespace_map = tablespace_map,
                                          .secret = {[0] = 0xab, [191] = 0xcd}};

static void set_up(void)
{
    repository = archive_repository();
    scratch = scratch_make();
    error_clear(&err);
}

static void tear_down(void)
{
    scratch_remove(scratch);
    archive_free_repository(repository);
}

static struct manifest_file make_file(const char *path, uint64_t size)
{
    struct manifest_file file = {.path = path,
                                 .kind = MANIFEST_FILE,
                                 .size = size,
                                 .modified = INT64_C(1795140000123456),
                                 .mode = 0600,
                                 .crc32c = 0xdeadbeef};

    if (size > 0) {
        file.map.frame.pack = (struct layout_pack){.run = RUN, .number = 3};
        file.map.frame.offset = 1000;
        file.map.frame.length = 200;
        file.map.item_offset = 24;
        file.map.item_length = 52;
    }
    return file;
}

/* Two of each kind, not in the order of their paths. */
static size_t make_files(struct manifest_file files[8])
{
    files[0] = make_file("global/pg_control", 8192);
    files[1] = make_file("base/5/1259", 1 << 20);
    files[1].map.frame.pack.number = 2;
    files[2] = make_file("base/5/16399", 0);
    files[3] = make_file("/etc/postgresql/15/main/postgresql.conf", 30000);
    files[3].kind = MANIFEST_CONFIG;
    files[4] = (struct manifest_file){.path = "base", .kind = MANIFEST_DIRECTORY, .mode = 0700};
    files[5] = (struct manifest_file){
        .path = "pg_tblspc/16400", .kind = MANIFEST_TABLESPACE, .mode = 0700, .link = "/fast/ts"};
    files[6] = make_file("base/5/\xC3\xA4 odd \xFF\nname", 1);
    files[6].map.frame.pack = (struct layout_pack){.run = RUN - 60, .number = 9};
    files[7] = make_file("base/5/1259_fsm", 3 * 8192);
    files[7].map.item_offset = 8;
    return 8;
}

static void write_manifest(const struct manifest_file *files, size_t count, int64_t run,
                           unsigned char sha256[DIGEST_SHA256_SIZE])
{
    struct manifest_writer *writer;

    ck_assert_msg(manifest_writer_new(scratch, &writer, &err), "%s", err.message);
    for (size_t i = 0; i < count; i++)
        ck_assert_msg(manifest_writer_add(writer, &files[i], &err), "%s", err.message);
    ck_assert_msg(manifest_writer_store(writer, &meta, repository, run, sha256, &err), "%s",
                  err.message);
    manifest_writer_free(writer);
}

static struct manifest *fetch_manifest(const unsigned char sha256[DIGEST_SHA256_SIZE])
{
    struct manifest *manifest;

    ck_assert_msg(manifest_fetch(repository, RUN, sha256, scratch, &manifest, &err), "%s",
                  err.message);
    return manifest;
}

static void check_same(const struct manifest_file *a, const struct manifest_file *b)
{
    ck_assert_str_eq(a->path, b->path);
    ck_assert_int_eq(a->kind, b->kind);
    ck_assert_uint_eq(a->size, b->size);
    ck_assert_int_eq(a->modified, b->modified);
    ck_assert_uint_eq(a->mode, b->mode);
    ck_assert_uint_eq(a->crc32c, b->crc32c);
    ck_assert_pstr_eq(a->link, b->link);
    ck_assert_int_eq(layout_compare_packs(&a->map.frame.pack, &b->map.frame.pack), 0);
    ck_assert_uint_eq(a->map.frame.offset, b->map.frame.offset);
    ck_assert_uint_eq(a->map.frame.length, b->map.frame.length);
    ck_assert_uint_eq(a->map.item_offset, b->map.item_offset);
    ck_assert_uint_eq(a->map.item_length, b->map.item_length);
}

struct expected {
    const struct manifest_file *files;
    const size_t *order;
    size_t next;
};

static bool see_file(const struct manifest_file *file, void *context, struct error *error)
{
    struct expected *expected = context;

    (void)error;
    check_same(file, &expected->files[expected->order[expected->next++]]);
    return true;
}

static size_t count_leftovers(void)
{
    char *folder = files_join(scratch, "tmp");
    DIR *entries = opendir(folder);
    size_t count = 0;

    ck_assert_ptr_nonnull(entries);
    for (struct dirent *entry; (entry = readdir(entries));)
        count += entry->d_name[0] != '.';
    closedir(entries);
    free(folder);
    return count;
}

START_TEST(there_and_back)
{
    static const size_t by_path[] = {3, 4, 1, 7, 2, 6, 0, 5};
    static const size_t by_map[] = {4, 2, 5, 6, 1, 7, 3, 0};
    struct manifest_file files[8];
    size_t count = make_files(files);
    unsigned char sha256[DIGEST_SHA256_SIZE];
    struct expected expected = {.files = files, .order = by_path};

    write_manifest(files, count, RUN, sha256);
    ck_assert_uint_eq(count_leftovers(), 0);
    struct manifest *manifest = fetch_manifest(sha256);
    ck_assert_uint_eq(count_leftovers(), 0);
    ck_assert_str_eq(manifest_meta(manifest)->backup_label, label);
    ck_assert_str_eq(manifest_meta(manifest)->tablespace_map, tablespace_map);
    ck_assert_mem_eq(manifest_meta(manifest)->secret, meta.secret, DIGEST_SECRET_SIZE);
    ck_assert(manifest_each(manifest, MANIFEST_BY_PATH, see_file, &expected, &err));
    ck_assert_uint_eq(expected.next, count);
    expected = (struct expected){.files = files, .order = by_map};
    ck_assert(manifest_each(manifest, MANIFEST_BY_MAP, see_file, &expected, &err));
    ck_assert_uint_eq(expected.next, count);
    manifest_free(manifest);
}
END_TEST

static bool stop_at_second(const struct manifest_file *file, void *context, struct error *error)
{
    int *seen = context;

    (void)file;
    return ++*seen < 2 || error_set(error, ERROR_CANCELLED, "enough");
}

START_TEST(callback_stops)
{
    struct manifest_file files[8];
    unsigned char sha256[DIGEST_SHA256_SIZE];
    int seen = 0;

    write_manifest(files, make_files(files), RUN, sha256);
    struct manifest *manifest = fetch_manifest(sha256);
    ck_assert(!manifest_each(manifest, MANIFEST_BY_PATH, stop_at_second, &seen, &err));
    ck_assert_int_eq(err.code, ERROR_CANCELLED);
    ck_assert_int_eq(seen, 2);
    manifest_free(manifest);
}
END_TEST

START_TEST(wrong_object)
{
    struct manifest_file files[8];
    unsigned char sha256[DIGEST_SHA256_SIZE];
    struct manifest *manifest = NULL;

    write_manifest(files, make_files(files), RUN, sha256);
    sha256[0] ^= 1;
    ck_assert(!manifest_fetch(repository, RUN, sha256, scratch, &manifest, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_uint_eq(count_leftovers(), 0);
    error_clear(&err);
    ck_assert(!manifest_fetch(repository, RUN + 1, sha256, scratch, &manifest, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY); /* a committed backup has one */
    ck_assert_ptr_null(manifest);
    ck_assert_uint_eq(count_leftovers(), 0);
}
END_TEST

START_TEST(writer_given_up)
{
    struct manifest_file file = make_file("PG_VERSION", 3);
    struct manifest_writer *writer;

    ck_assert(manifest_writer_new(scratch, &writer, &err));
    ck_assert(manifest_writer_add(writer, &file, &err));
    ck_assert_uint_eq(count_leftovers(), 0);
    manifest_writer_free(writer);
    manifest_writer_free(NULL);
    manifest_free(NULL);
    ck_assert_uint_eq(count_leftovers(), 0);
}
END_TEST

START_TEST(same_path_twice)
{
    struct manifest_file file = make_file("PG_VERSION", 3);
    struct manifest_writer *writer;

    ck_assert(manifest_writer_new(scratch, &writer, &err));
    ck_assert(manifest_writer_add(writer, &file, &err));
    ck_assert(!manifest_writer_add(writer, &file, &err));
    ck_assert_ptr_nonnull(strstr(err.message, "PG_VERSION"));
    manifest_writer_free(writer);
}
END_TEST

START_TEST(sweeps_what_a_killed_process_left)
{
    char *folder = files_join(scratch, "tmp");
    char *old = files_join(folder, "manifest-aaaaaa"), *locked = files_join(folder, "manifest-b");
    char *young = files_join(folder, "manifest-c"), *other = files_join(folder, "other");
    char *const paths[] = {old, locked, young, other};
    struct timespec long_ago[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    struct manifest_writer *writer;

    ck_assert(files_make_directories(folder, &err));
    for (size_t i = 0; i < 4; i++) {
        ck_assert(files_write(paths[i], "x", 1, 0600, &err));
        if (paths[i] != young)
            ck_assert_int_eq(utimensat(AT_FDCWD, paths[i], long_ago, 0), 0);
    }
    int fd = open(locked, O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(flock(fd, LOCK_EX), 0);
    ck_assert(manifest_writer_new(scratch, &writer, &err));
    ck_assert_int_ne(access(old, F_OK), 0);
    ck_assert_int_eq(access(locked, F_OK), 0);
    ck_assert_int_eq(access(young, F_OK), 0);
    ck_assert_int_eq(access(other, F_OK), 0);
    manifest_writer_free(writer);
    close(fd);
    for (size_t i = 0; i < 4; i++)
        free(paths[i]);
    free(folder);
}
END_TEST

START_TEST(paths)
{
    static const char *const valid[] = {"a", "a/b", "...", ".x/..y", "a b/\xFF\n", "base/5/1259.1"};
    static const char *const invalid[] = {"",    "/",      "/a",    "a/",   "a//b",
                                          ".",   "..",     "./a",   "../a", "a/..",
                                          "a/.", "a/../b", "a/./b", "//",   "a/b/"};
    char *edge = mem_alloc(4097);

    for (size_t i = 0; i < sizeof(valid) / sizeof(valid[0]); i++)
        ck_assert_msg(manifest_path_valid(valid[i]), "%s", valid[i]);
    for (size_t i = 0; i < sizeof(invalid) / sizeof(invalid[0]); i++)
        ck_assert_msg(!manifest_path_valid(invalid[i]), "%s", invalid[i]);
    for (size_t i = 0; i < 4096; i++)
        edge[i] = i % 256 == 255 ? '/' : 'x'; /* names of 255 bytes */
    edge[4096] = '\0';
    ck_assert(!manifest_path_valid(edge));
    edge[4095] = '\0';
    ck_assert(manifest_path_valid(edge));
    edge[255] = 'x'; /* and one of more */
    ck_assert(!manifest_path_valid(edge));
    free(edge);
}
END_TEST

static void refuse(struct manifest_file file, int line)
{
    struct manifest_writer *writer;

    error_clear(&err);
    ck_assert(manifest_writer_new(scratch, &writer, &err));
    ck_assert_msg(!manifest_writer_add(writer, &file, &err), "line %d", line);
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    manifest_writer_free(writer);
}

/* Changes one member of a file that is right. */
#define REFUSE(member, value)                                                                      \
    do {                                                                                           \
        struct manifest_file changed = make_file("base/5/1259", 8192);                             \
        changed.member = value;                                                                    \
        refuse(changed, __LINE__);                                                                 \
    } while (0)

START_TEST(files_that_cannot_be)
{
    REFUSE(path, "../etc/passwd");
    REFUSE(path, "/etc/passwd");
    REFUSE(kind, MANIFEST_CONFIG);
    REFUSE(kind, MANIFEST_DIRECTORY);
    REFUSE(kind, MANIFEST_TABLESPACE);
    REFUSE(kind, (enum manifest_kind)'x');
    REFUSE(size, 0);
    REFUSE(size, MAP_FILE_SIZE_MAXIMUM + 1);
    REFUSE(size, UINT64_MAX);
    REFUSE(mode, 0100600);
    REFUSE(link, "/a");
    REFUSE(map.frame.pack.number, 0);
    REFUSE(map.frame.length, 0);
    REFUSE(map.frame.offset, PACK_SIZE);
    REFUSE(map.frame.length, PACK_SIZE);
    REFUSE(map.item_length, 0);
    REFUSE(map.item_offset, MAP_ITEM_MAXIMUM);
    REFUSE(map.item_length, MAP_ITEM_MAXIMUM);
}
END_TEST

START_TEST(links_that_cannot_be)
{
    struct manifest_file link = {.path = "pg_tblspc/16400", .kind = MANIFEST_TABLESPACE};

    refuse(link, __LINE__);
    link.link = "relative";
    refuse(link, __LINE__);
    link.link = "/fast";
    link.path = "pg_tblspc/a";
    refuse(link, __LINE__);
    link.path = "pg_wal";
    refuse(link, __LINE__);
    link.path = "pg_tblspc/1/2";
    refuse(link, __LINE__);
    link.path = "pg_tblspc/01";
    refuse(link, __LINE__);
    struct manifest_file config = make_file("/etc/../x", 1);
    config.kind = MANIFEST_CONFIG;
    refuse(config, __LINE__);
}
END_TEST

/* A sound manifest in a file, changed by some SQL; what is left is opened. */
static bool open_changed(const char *sql)
{
    static int64_t run = RUN; /* another object each time */
    struct manifest_file files[8];
    unsigned char sha256[DIGEST_SHA256_SIZE];
    char *path = files_join(scratch, "changed");
    char name[LAYOUT_NAME_SIZE];
    struct buffer bytes = BUFFER_INIT;
    struct manifest *manifest = NULL;
    char *message = NULL;
    sqlite3 *database;

    write_manifest(files, make_files(files), run, sha256);
    layout_manifest(run++, name);
    ck_assert(object_get_buffer(repository, name, TRAILER_MANIFEST, OBJECT_ZSTD, 1 << 24, &bytes,
                                NULL, &err));
    ck_assert(files_write(path, bytes.data, bytes.length, 0600, &err));
    ck_assert_int_eq(sqlite3_open(path, &database), SQLITE_OK);
    sqlite3_exec(database, "PRAGMA writable_schema = ON", NULL, NULL, NULL);
    sqlite3_exec(database, sql, NULL, NULL, &message);
    ck_assert_msg(message == NULL, "%s: %s", sql, message);
    sqlite3_close(database);
    error_clear(&err);
    bool ok = manifest_open_file(path, &manifest, &err);
    if (!ok)
        ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    manifest_free(manifest);
    buffer_free(&bytes);
    free(path);
    return ok;
}

static const char *const changes[] = {
    "CREATE TABLE more(a)",
    "CREATE INDEX more ON file(size)",
    "CREATE VIEW more AS SELECT 1",
    "CREATE TRIGGER more AFTER INSERT ON file BEGIN SELECT 1; END",
    "DROP TABLE file",
    "ALTER TABLE file ADD COLUMN more INTEGER",
    "ALTER TABLE meta RENAME TO other",
    "UPDATE sqlite_schema SET sql = replace(sql, 'STRICT, ', '')",
    "UPDATE sqlite_schema SET rootpage = 1",
    "DELETE FROM sqlite_schema",
    "CREATE VIRTUAL TABLE more USING fts5(a)",
    "PRAGMA application_id = 1",
    "PRAGMA user_version = 2",
    "PRAGMA journal_mode = WAL",
    "DELETE FROM meta WHERE key = 'format'",
    "DELETE FROM meta",
    "INSERT INTO meta VALUES ('zzz', '')",
    "INSERT INTO meta VALUES ('', '')",
    "UPDATE meta SET value = '2' WHERE key = 'format'",
    "UPDATE meta SET value = substr(value, 2) WHERE key = 'digest_secret'",
    "UPDATE meta SET value = replace(value, 'a', 'g') WHERE key = 'digest_secret'",
    "UPDATE meta SET value = 'today' WHERE key = 'run'",
    "UPDATE meta SET value = '' WHERE key = 'system_identifier'",
    "UPDATE meta SET value = CAST(x'610062' AS TEXT) WHERE key = 'backup_label'",
    "UPDATE meta SET value = hex(zeroblob(2000000)) WHERE key = 'backup_label'",
    "UPDATE file SET path = '../' || path",
    "UPDATE file SET path = '/' || path WHERE kind = 'f'",
    "UPDATE file SET path = CAST(x'610062' AS TEXT) WHERE path = 'base'",
    "UPDATE file SET path = hex(zeroblob(600000)) WHERE path = 'base'",
    "UPDATE file SET kind = 'ff' WHERE kind = 'f'",
    "UPDATE file SET kind = 'x' WHERE kind = 'f'",
    "UPDATE file SET kind = 'd' WHERE kind = 'f'",
    "UPDATE file SET kind = '' WHERE kind = 'd'",
    "UPDATE file SET size = -1 WHERE kind = 'd'",
    "UPDATE file SET size = 0 WHERE path = 'global/pg_control'",
    "UPDATE file SET size = 9000000000000000000 WHERE path = 'global/pg_control'",
    "UPDATE file SET mode = 32768",
    "UPDATE file SET mode = -1",
    "UPDATE file SET crc32c = NULL WHERE kind = 'f'",
    "UPDATE file SET crc32c = 1 WHERE kind = 'd'",
    "UPDATE file SET crc32c = 4294967296 WHERE kind = 'f'",
    "UPDATE file SET crc32c = -1 WHERE kind = 'c'",
    "UPDATE file SET link = 'fast' WHERE kind = 'l'",
    "UPDATE file SET link = NULL WHERE kind = 'l'",
    "UPDATE file SET link = '/x' WHERE kind = 'f'",
    "UPDATE file SET map_run = NULL WHERE kind = 'f'",
    "UPDATE file SET map_run = '20261120' WHERE kind = 'f'",
    "UPDATE file SET map_pack = NULL WHERE kind = 'f' AND size > 0",
    "UPDATE file SET map_pack = 0 WHERE kind = 'f' AND size > 0",
    "UPDATE file SET map_pack = 4294967297 WHERE kind = 'f' AND size > 0",
    "UPDATE file SET map_frame_offset = 33554432 WHERE kind = 'f' AND size > 0",
    "UPDATE file SET map_frame_length = 0 WHERE kind = 'f' AND size > 0",
    "UPDATE file SET map_item_offset = -1 WHERE kind = 'f' AND size > 0",
    "UPDATE file SET map_item_length = 4294967296 WHERE kind = 'f' AND size > 0",
    "UPDATE file SET map_item_length = 1 WHERE kind = 'd'",
};

START_TEST(foreign_databases)
{
    ck_assert_msg(!open_changed(changes[_i]), "%s", changes[_i]);
}
END_TEST

START_TEST(harmless_changes)
{
    ck_assert_msg(open_changed("SELECT 1"), "%s", err.message);
    ck_assert_msg(open_changed("UPDATE file SET modified = -9000000000000000000"), "%s",
                  err.message);
    ck_assert_msg(open_changed("DELETE FROM file"), "%s", err.message);
    ck_assert_msg(open_changed("VACUUM"), "%s", err.message);
}
END_TEST

START_TEST(newer_format_is_told_apart)
{
    ck_assert(!open_changed("PRAGMA user_version = 2"));
    ck_assert_ptr_nonnull(strstr(err.hint, "newer"));
}
END_TEST

static bool see_nothing(const struct manifest_file *file, void *context, struct error *error)
{
    (void)file;
    (void)context;
    (void)error;
    return true;
}

/* Every byte in turn is wrong: whatever comes of it is an integrity error or still a manifest. */
START_TEST(any_damage)
{
    struct manifest_file files[8];
    unsigned char sha256[DIGEST_SHA256_SIZE];
    char *path = files_join(scratch, "damaged");
    char name[LAYOUT_NAME_SIZE];
    struct buffer bytes = BUFFER_INIT;
    size_t refused = 0;

    write_manifest(files, make_files(files), RUN, sha256);
    ck_assert(object_get_buffer(repository, layout_manifest(RUN, name), TRAILER_MANIFEST,
                                OBJECT_ZSTD, 1 << 24, &bytes, NULL, &err));
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert(files_write_fd(fd, path, bytes.data, bytes.length, &err));
    for (size_t i = 0; i < bytes.length; i++) {
        unsigned char wrong = bytes.data[i] ^ 0x55;
        struct manifest *manifest;

        if (bytes.data[i] == 0 && i % 16 != 0)
            continue; /* mostly free space */
        ck_assert_int_eq(pwrite(fd, &wrong, 1, (off_t)i), 1);
        error_clear(&err);
        if (manifest_open_file(path, &manifest, &err)) {
            ck_assert(manifest_each(manifest, MANIFEST_BY_MAP, see_nothing, NULL, &err));
            manifest_free(manifest);
        } else {
            ck_assert_msg(err.code == ERROR_INTEGRITY, "byte %zu: %s", i, err.message);
            refused++;
        }
        ck_assert_int_eq(pwrite(fd, &bytes.data[i], 1, (off_t)i), 1);
    }
    ck_assert_uint_gt(refused, 100);
    close(fd);
    buffer_free(&bytes);
    free(path);
}
END_TEST

START_TEST(not_a_database)
{
    static const char *const contents[] = {"", "x", "SQLite format 3"};
    char *path = files_join(scratch, "rubbish");
    struct manifest *manifest;

    for (size_t i = 0; i < 3; i++) {
        ck_assert(files_write(path, contents[i], strlen(contents[i]), 0600, &err));
        error_clear(&err);
        ck_assert(!manifest_open_file(path, &manifest, &err));
        ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    }
    ck_assert_int_eq(unlink(path), 0);
    ck_assert(!manifest_open_file(path, &manifest, &err));
    ck_assert_int_eq(err.code, ERROR_SYSTEM);
    free(path);
}
END_TEST

Suite *manifest_suite(void)
{
    Suite *suite = suite_create("manifest");
    TCase *tests = tcase_create("manifest");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, there_and_back);
    tcase_add_test(tests, callback_stops);
    tcase_add_test(tests, wrong_object);
    tcase_add_test(tests, writer_given_up);
    tcase_add_test(tests, same_path_twice);
    tcase_add_test(tests, sweeps_what_a_killed_process_left);
    tcase_add_test(tests, paths);
    tcase_add_test(tests, files_that_cannot_be);
    tcase_add_test(tests, links_that_cannot_be);
    tcase_add_loop_test(tests, foreign_databases, 0, (int)(sizeof(changes) / sizeof(changes[0])));
    tcase_add_test(tests, harmless_changes);
    tcase_add_test(tests, newer_format_is_told_apart);
    tcase_add_test(tests, any_damage);
    tcase_add_test(tests, not_a_database);
    suite_add_tcase(suite, tests);
    return suite;
}
