/* Writing beneath the target and nowhere else, and the checks of where that may be. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "job/restore_place.h"
#include "job/restore_tree.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "suites.h"

static uint64_t kept; /* of files that were there; here always anew */
#include "support/scratch.h"

static char *directory;
static char *real; /* the directory without symbolic links in its path */
static struct restore_place place;
static struct restore_tree *tree;
static struct config config;
static struct backup_info backup;
static struct backup_tablespace tablespaces[2];
static struct restore_request request;
static struct restore_mapping mappings[2];
static char *paths[8];
static size_t path_count;
static struct error err;

/* A path beneath the scratch directory, freed at the end. */
static char *at(const char *name)
{
    ck_assert_uint_lt(path_count, sizeof paths / sizeof *paths);
    return paths[path_count++] = files_join(real, name);
}

static void set_up(void)
{
    directory = scratch_make();
    real = realpath(directory, NULL);
    ck_assert_ptr_nonnull(real);
    path_count = 0;
    config = (struct config){.pgdata = NULL};
    backup = (struct backup_info){.tablespaces = tablespaces};
    request = (struct restore_request){.to = at("target"), .mappings = mappings};
    error_clear(&err);
}

static void tear_down(void)
{
    restore_tree_free(tree);
    tree = NULL;
    restore_place_free(&place);
    for (size_t i = 0; i < path_count; i++)
        free(paths[i]);
    free(real);
    scratch_remove(directory);
}

static bool choose(void)
{
    restore_place_free(&place);
    error_clear(&err);
    return restore_place_choose(&config, &request, &backup, &place, &err);
}

static void make(void)
{
    ck_assert_msg(choose(), "%s", err.message);
    ck_assert_msg(restore_tree_new(&place, "test", &tree, &err), "%s", err.message);
}

static bool exists(const char *name)
{
    char *path = files_join(real, name);
    struct stat status;
    const bool there = lstat(path, &status) == 0;

    free(path);
    return there;
}

static void write_file(const char *name, const char *text)
{
    char *path = files_join(real, name);

    ck_assert_msg(files_write(path, text, strlen(text), 0600, &err), "%s", err.message);
    free(path);
}

START_TEST(nothing_leaves_the_target)
{
    static const char *const hostile[] = {"../outside", "link/file",    "a/../../outside",
                                          "/tmp/x",     "up/outside",   "pg_tblspc/16400/../x",
                                          "a/link/b",   "pg_tblspc/1/x"};
    char *outside = at("outside-directory");

    make();
    ck_assert_int_eq(mkdir(outside, 0700), 0);
    ck_assert(restore_tree_make_directory(tree, "a", &err));
    ck_assert(restore_tree_make_directory(tree, "pg_tblspc", &err));
    ck_assert_int_eq(symlink(outside, at("target/link")), 0);
    ck_assert_int_eq(symlink("..", at("target/up")), 0);
    ck_assert_int_eq(symlink(outside, at("target/a/link")), 0);
    ck_assert_int_eq(symlink(outside, at("target/pg_tblspc/1")), 0);
    for (size_t i = 0; i < sizeof hostile / sizeof *hostile; i++) {
        struct buffer bytes = BUFFER_INIT;
        int fd;

        ck_assert_msg(!restore_tree_make_file(tree, hostile[i], 10, &kept, &err), "%s", hostile[i]);
        ck_assert_msg(!restore_tree_make_directory(tree, hostile[i], &err), "%s", hostile[i]);
        ck_assert_msg(!restore_tree_write(tree, hostile[i], "x", 1, &err), "%s", hostile[i]);
        ck_assert_msg(!restore_tree_open(tree, hostile[i], &fd, &err), "%s", hostile[i]);
        ck_assert_msg(!restore_tree_set_mode(tree, hostile[i], 0777, &err), "%s", hostile[i]);
        ck_assert_msg(!restore_tree_read(tree, hostile[i], 10, &bytes, &err), "%s", hostile[i]);
        buffer_free(&bytes);
    }
    /* A link as the last component is not followed either. */
    ck_assert(!restore_tree_set_mode(tree, "link", 0777, &err));
    ck_assert(!restore_tree_make_file(tree, "link", 0, &kept, &err));
    ck_assert(!exists("outside"));
    ck_assert_int_eq(rmdir(outside), 0); /* still empty */
}
END_TEST

START_TEST(files_and_directories)
{
    struct buffer text = BUFFER_INIT;
    struct stat status;

    make();
    ck_assert(exists("target/" RESTORE_PLACE_MARKER));
    ck_assert(restore_tree_make_directory(tree, "global", &err));
    ck_assert(restore_tree_make_directory(tree, "global", &err));
    ck_assert(!restore_tree_make_directory(tree, "none/below", &err));
    ck_assert(restore_tree_make_file(tree, RESTORE_TREE_CONTROL, 100000, &kept, &err));
    ck_assert(!restore_tree_make_file(tree, RESTORE_TREE_CONTROL, 1, &kept, &err));
    ck_assert(restore_tree_write(tree, "text", "longer than", 11, &err));
    ck_assert(restore_tree_write(tree, "text", "short", 5, &err));
    ck_assert(restore_tree_read(tree, "text", 5, &text, &err));
    ck_assert_str_eq(buffer_text(&text), "short");
    ck_assert(!restore_tree_read(tree, "text", 4, &text, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert(!restore_tree_read(tree, "absent", 4, &text, &err));
    ck_assert_int_eq(err.code, ERROR_NOT_FOUND);
    ck_assert(restore_tree_set_mode(tree, "text", 0640, &err));
    ck_assert(!exists("target/global/pg_control"));
    ck_assert_msg(restore_tree_finish(tree, &err), "%s", err.message);
    ck_assert(exists("target/global/pg_control"));
    ck_assert(!exists("target/" RESTORE_TREE_CONTROL));
    ck_assert(!exists("target/" RESTORE_PLACE_MARKER));
    ck_assert_int_eq(stat(at("target/text"), &status), 0);
    ck_assert_int_eq(status.st_mode & 07777, 0640);
    ck_assert_int_eq(stat(at("target"), &status), 0);
    ck_assert_int_eq(status.st_mode & 07777, 0700);
    buffer_free(&text);
}
END_TEST

START_TEST(tablespaces_have_roots_of_their_own)
{
    tablespaces[0] = (struct backup_tablespace){.oid = 16400, .location = at("original")};
    tablespaces[1] = (struct backup_tablespace){.oid = 164, .location = at("second")};
    backup.tablespace_count = 2;
    mappings[0] = (struct restore_mapping){.from = "16400", .to = at("moved")};
    request.mapping_count = 1;
    make();
    ck_assert(restore_tree_make_directory(tree, "pg_tblspc", &err));
    ck_assert(!restore_tree_make_link(tree, "pg_tblspc/1", tablespaces[0].location, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert(!restore_tree_make_link(tree, "pg_tblspc/164", tablespaces[0].location, &err));
    for (int i = 0; i < 2; i++) {
        char *link = mem_printf("pg_tblspc/%u", tablespaces[i].oid);
        char *file = mem_printf("pg_tblspc/%u/file", tablespaces[i].oid);

        ck_assert(restore_tree_make_link(tree, link, tablespaces[i].location, &err));
        ck_assert(restore_tree_make_file(tree, file, 5, &kept, &err));
        ck_assert_uint_eq(restore_tree_root(tree, file), (size_t)i + 1);
        free(link);
        free(file);
    }
    ck_assert(exists("moved/file"));
    ck_assert(exists("second/file"));
    ck_assert(exists("moved/" RESTORE_PLACE_MARKER));
    ck_assert(!exists("original"));
    ck_assert_uint_eq(restore_tree_root(tree, "base/1"), 0);
    ck_assert_uint_eq(restore_tree_root(tree, "pg_tblspc/16401/x"), 0);
}
END_TEST

START_TEST(space_is_asked_for_beforehand)
{
    uint64_t bytes[2] = {1000, 0};

    tablespaces[0] = (struct backup_tablespace){.oid = 1, .location = at("one")};
    backup.tablespace_count = 1;
    make();
    ck_assert(restore_tree_check_space(tree, bytes, &err));
    bytes[1] = UINT64_C(1) << 62; /* one file system has to take both */
    ck_assert(!restore_tree_check_space(tree, bytes, &err));
    ck_assert_int_eq(err.code, ERROR_SYSTEM);
}
END_TEST

START_TEST(a_second_restore_to_one_place_is_refused)
{
    struct restore_tree *second;

    ck_assert(choose());
    ck_assert(restore_tree_new(&place, "first", &tree, &err));
    ck_assert(choose()); /* what is there looks like remains */
    restore_tree_free(tree);
    ck_assert(restore_tree_new(&place, "second", &second, &err));
    tree = second;
}
END_TEST

START_TEST(remains_of_a_failed_restore)
{
    tablespaces[0] = (struct backup_tablespace){.oid = 1, .location = at("one")};
    backup.tablespace_count = 1;
    make();
    ck_assert(restore_tree_make_directory(tree, "base", &err));
    ck_assert(restore_tree_write(tree, "base/file", "x", 1, &err));
    ck_assert(restore_tree_write(tree, "pg_tblspc/1/file", "x", 1, &err));
    restore_tree_free(tree);
    make();
    ck_assert(!exists("target/base"));
    ck_assert(!exists("one/file"));
    restore_tree_free(tree);
    tree = NULL;

    /* Another mark in the tablespace: somebody else's. */
    write_file("one/" RESTORE_PLACE_MARKER, "another");
    write_file("one/data", "of somebody");
    ck_assert(!choose());
    ck_assert_int_eq(err.code, ERROR_USAGE);
    /* A directory that could be started is nobody's remains. */
    ck_assert_int_eq(unlink(at("one/data")), 0);
    ck_assert(choose());
    ck_assert_int_eq(mkdir(at("target/global"), 0700), 0);
    write_file("target/global/pg_control", "");
    ck_assert(!choose());
}
END_TEST

START_TEST(the_configured_directory_is_known_by_any_name)
{
    char *link = at("link");

    ck_assert(choose());
    ck_assert(!place.configured);
    config.pgdata = at("link/target");
    ck_assert_int_eq(symlink(real, link), 0);
    ck_assert(choose());
    ck_assert(place.configured);
    config.pgdata = at("other");
    ck_assert(choose());
    ck_assert(!place.configured);
}
END_TEST

Suite *restore_tree_suite(void)
{
    Suite *suite = suite_create("restore_tree");
    TCase *tests = tcase_create("restore_tree");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, nothing_leaves_the_target);
    tcase_add_test(tests, files_and_directories);
    tcase_add_test(tests, tablespaces_have_roots_of_their_own);
    tcase_add_test(tests, space_is_asked_for_beforehand);
    tcase_add_test(tests, a_second_restore_to_one_place_is_refused);
    tcase_add_test(tests, remains_of_a_failed_restore);
    tcase_add_test(tests, the_configured_directory_is_known_by_any_name);
    suite_add_tcase(suite, tests);
    return suite;
}
