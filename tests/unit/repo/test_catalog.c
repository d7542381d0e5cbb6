#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/catalog.h"
#include "pgvigil/layout.h"
#include "pgvigil/object.h"
#include "suites.h"
#include "support/archive.h"
#include "support/memory_store.h"

#define RUN INT64_C(1795140000)

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

static void commit(int64_t run, uint32_t timeline, uint64_t stop_lsn)
{
    static char text[] = "/x";
    struct backup_info info = {.run = run,
                               .system_identifier = ARCHIVE_SYSTEM,
                               .version_num = 150018,
                               .timeline = timeline,
                               .start_lsn = 0x1000028,
                               .stop_lsn = stop_lsn,
                               .wal_segment_size = 16 * 1024 * 1024,
                               .host = text,
                               .data_directory = text};

    ck_assert_msg(backup_info_store(repository, &info, &err), "%s", err.message);
}

static struct catalog *read_catalog(void)
{
    struct catalog *catalog;

    ck_assert_msg(catalog_read(repository, &catalog, &err), "%s", err.message);
    return catalog;
}

START_TEST(empty_repository)
{
    struct catalog *catalog = read_catalog();

    ck_assert_uint_eq(catalog->count, 0);
    ck_assert_uint_eq(catalog->damaged_count, 0);
    catalog_free(catalog);
    catalog_free(NULL);
}
END_TEST

/* The clock went back between the second and the third. */
START_TEST(order_is_by_wal_not_by_clock)
{
    static const int64_t order[] = {RUN + 10, RUN + 5, RUN + 30, RUN};
    struct catalog *catalog;

    commit(RUN, 2, 0x9000000);
    commit(RUN + 10, 1, 0x3000000);
    commit(RUN + 30, 2, 0x5000000);
    commit(RUN + 5, 1, 0x4000000);
    catalog = read_catalog();
    ck_assert_uint_eq(catalog->count, 4);
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(catalog->backups[i]->run, order[i]);
    catalog_free(catalog);
}
END_TEST

START_TEST(not_committed_is_not_listed)
{
    char name[LAYOUT_NAME_SIZE];
    enum store_outcome outcome;
    struct catalog *catalog;

    ck_assert(object_put(repository, layout_manifest(RUN, name), TRAILER_MANIFEST, OBJECT_ZSTD, 1,
                         "x", 1, &outcome, NULL, &err));
    ck_assert(object_put(repository, layout_begin(RUN, name), TRAILER_BEGIN, OBJECT_PLAIN, 0, "{}",
                         2, &outcome, NULL, &err));
    commit(RUN + 1, 1, 0x3000000);
    catalog = read_catalog();
    ck_assert_uint_eq(catalog->count, 1);
    ck_assert_uint_eq(catalog->damaged_count, 0);
    catalog_free(catalog);
}
END_TEST

START_TEST(damage_does_not_hide_the_rest)
{
    char name[LAYOUT_NAME_SIZE];
    struct catalog *catalog;

    for (int i = 0; i < 3; i++)
        commit(RUN + i, 1, 0x3000000 + (uint64_t)i);
    archive_replace(repository, layout_backup(RUN + 1, name), "rubbish", 7);
    catalog = read_catalog();
    ck_assert_uint_eq(catalog->count, 2);
    ck_assert_int_eq(catalog->backups[1]->run, RUN + 2);
    ck_assert_uint_eq(catalog->damaged_count, 1);
    ck_assert_int_eq(catalog->damaged[0].run, RUN + 1);
    ck_assert_int_eq(catalog->damaged[0].error.code, ERROR_INTEGRITY);
    ck_assert_ptr_nonnull(strstr(catalog->damaged[0].error.message, name));
    ck_assert_int_eq(err.code, ERROR_NONE);
    catalog_free(catalog);
}
END_TEST

static bool has_nothing(struct store *store, const char *name, uint64_t offset, uint64_t length,
                        store_sink sink, void *context, struct error *error)
{
    (void)store;
    (void)offset;
    (void)length;
    (void)sink;
    (void)context;
    return error_set(error, ERROR_NOT_FOUND, "object \"%s\" does not exist", name);
}

/* Deleted meanwhile, or the store's parts do not agree: who removes what no backup needs must know. */
START_TEST(listed_but_not_there)
{
    struct store_driver forgetful = *repository->store->driver;
    const struct store_driver *usual = repository->store->driver;
    struct catalog *catalog;

    commit(RUN, 1, 0x3000000);
    forgetful.get = has_nothing;
    repository->store->driver = &forgetful;
    catalog = read_catalog();
    repository->store->driver = usual;
    ck_assert_uint_eq(catalog->count, 0);
    ck_assert_uint_eq(catalog->damaged_count, 0);
    ck_assert_uint_eq(catalog->vanished, 1);
    catalog_free(catalog);
}
END_TEST

/* They are read by several threads. */
START_TEST(many_backups)
{
    char name[LAYOUT_NAME_SIZE];
    struct catalog *catalog;

    for (int i = 0; i < 100; i++)
        commit(RUN + i, 1, 0x3000000 + (uint64_t)(i * 37 % 100));
    archive_replace(repository, layout_backup(RUN + 50, name), "rubbish", 7);
    catalog = read_catalog();
    ck_assert_uint_eq(catalog->count, 99);
    for (size_t i = 1; i < catalog->count; i++)
        ck_assert_uint_lt(catalog->backups[i - 1]->stop_lsn, catalog->backups[i]->stop_lsn);
    ck_assert_uint_eq(catalog->damaged_count, 1);
    ck_assert_int_eq(catalog->damaged[0].run, RUN + 50);
    catalog_free(catalog);
}
END_TEST

/* What cannot be reached is not a repository without backups. */
START_TEST(unusable_repository)
{
    struct catalog *catalog;

    commit(RUN, 1, 0x3000000);
    memory_store_break(repository->store, true);
    ck_assert(!catalog_read(repository, &catalog, &err));
    ck_assert_int_eq(err.code, ERROR_STORE);
}
END_TEST

START_TEST(other_clusters_are_not_seen)
{
    struct catalog *catalog;

    commit(RUN, 1, 0x3000000);
    repository_select(repository, 5);
    catalog = read_catalog();
    ck_assert_uint_eq(catalog->count, 0);
    catalog_free(catalog);
}
END_TEST

static void commit_to(struct repository *one, int64_t run, uint64_t stop_lsn)
{
    struct repository *first = repository;

    repository = one;
    commit(run, 1, stop_lsn);
    repository = first;
}

static struct repository *add_sibling(void)
{
    struct repository *other = archive_repository();

    other->name = "other";
    other->sibling = repository->sibling;
    repository->sibling = other;
    return other;
}

/* Each once, by WAL; what is damaged in one and sound in another is sound. */
START_TEST(what_several_have_between_them)
{
    struct repository *other = add_sibling();
    char name[LAYOUT_NAME_SIZE];
    struct catalog *catalog;

    for (int i = 0; i < 4; i++) {
        if (i != 2)
            commit_to(repository, RUN + i, 0x3000000 + (uint64_t)i);
        if (i != 0)
            commit_to(other, RUN + i, 0x3000000 + (uint64_t)i);
    }
    archive_replace(repository, layout_backup(RUN, name), "rubbish", 7);
    archive_replace(repository, layout_backup(RUN + 1, name), "rubbish", 7);
    archive_replace(other, layout_backup(RUN + 3, name), "rubbish", 7);
    ck_assert_msg(catalog_read_all(repository, &catalog, &err), "%s", err.message);
    ck_assert_uint_eq(catalog->count, 3);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(catalog->backups[i]->run, RUN + 1 + i);
    ck_assert_uint_eq(catalog->damaged_count, 1);
    ck_assert_int_eq(catalog->damaged[0].run, RUN);
    catalog_free(catalog);
}
END_TEST

/* A sibling out of reach has nothing; the first must answer. */
START_TEST(one_of_several_does_not_answer)
{
    struct repository *other = add_sibling();
    struct catalog *catalog;

    commit(RUN, 1, 0x3000000);
    memory_store_break(other->store, true);
    ck_assert_msg(catalog_read_all(repository, &catalog, &err), "%s", err.message);
    ck_assert_uint_eq(catalog->count, 1);
    catalog_free(catalog);
    memory_store_break(other->store, false);
    memory_store_break(repository->store, true);
    ck_assert(!catalog_read_all(repository, &catalog, &err));
    ck_assert_int_eq(err.code, ERROR_STORE);
}
END_TEST

Suite *catalog_suite(void)
{
    Suite *suite = suite_create("catalog");
    TCase *tests = tcase_create("catalog");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, empty_repository);
    tcase_add_test(tests, order_is_by_wal_not_by_clock);
    tcase_add_test(tests, not_committed_is_not_listed);
    tcase_add_test(tests, damage_does_not_hide_the_rest);
    tcase_add_test(tests, listed_but_not_there);
    tcase_add_test(tests, many_backups);
    tcase_add_test(tests, unusable_repository);
    tcase_add_test(tests, other_clusters_are_not_seen);
    tcase_add_test(tests, what_several_have_between_them);
    tcase_add_test(tests, one_of_several_does_not_answer);
    suite_add_tcase(suite, tests);
    return suite;
}
