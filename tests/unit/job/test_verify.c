#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "job/verify_inventory.h"
#include "job/verify_memory.h"
#include "pgvigil/buffer.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "pgvigil/wal_archive.h"
#include "suites.h"
#include "support/scratch.h"

#define PREFIX "main/7/"

static struct error err;
static char *directory;
static struct verify_memory *memory;
static struct buffer seen; /* names of rows */

static void set_up(void)
{
    error_clear(&err);
    directory = scratch_make();
    ck_assert_msg(verify_memory_open(directory, &memory, &err), "%s", err.message);
}

static void tear_down(void)
{
    verify_memory_close(memory);
    buffer_free(&seen);
    scratch_remove(directory);
}

static void open_again(void)
{
    verify_memory_close(memory);
    ck_assert_msg(verify_memory_open(directory, &memory, &err), "%s", err.message);
}

static void note(const char *repository, const char *prefix, const char *object, uint64_t size)
{
    struct verify_memory_row row = {.object = object, .size = size, .checked = 5};

    memset(row.sha256, (int)size, sizeof row.sha256);
    ck_assert_msg(verify_memory_note(memory, repository, prefix, &row, &err), "%s", err.message);
}

static void see(const struct verify_memory_row *row, void *context)
{
    (void)context;
    ck_assert_int_eq(row->checked, 5);
    ck_assert_uint_eq(row->sha256[31], row->size);
    buffer_append_format(&seen, "%s ", row->object);
}

static const char *all(const char *repository)
{
    buffer_clear(&seen);
    ck_assert_msg(verify_memory_each(memory, repository, PREFIX, see, NULL, &err), "%s",
                  err.message);
    return buffer_text(&seen);
}

START_TEST(memory_keeps_what_was_flushed)
{
    note("one", PREFIX, "pack/b", 2);
    note("one", PREFIX, "pack/a", 1);
    note("one", "main/70/", "pack/c", 3); /* of another cluster */
    note("two", PREFIX, "pack/d", 4);
    note("one", PREFIX, "pack/a", 6); /* anew */
    ck_assert(verify_memory_flush(memory, &err));
    open_again();
    ck_assert_str_eq(all("one"), "pack/a pack/b ");
    ck_assert_str_eq(all("two"), "pack/d ");
    ck_assert(verify_memory_forget(memory, "one", PREFIX, "pack/a", &err));
    ck_assert_str_eq(all("one"), "pack/b ");
}
END_TEST

START_TEST(memory_throws_a_damaged_one_away)
{
    char *path = files_join(directory, "verify.sqlite");

    note("one", PREFIX, "pack/b", 2);
    ck_assert(verify_memory_flush(memory, &err));
    verify_memory_close(memory);
    ck_assert(files_write(path, "SQLite format 3", 15, 0600, &err));
    ck_assert_msg(verify_memory_open(directory, &memory, &err), "%s", err.message);
    ck_assert_str_eq(all("one"), "");
    note("one", PREFIX, "pack/b", 2);
    ck_assert_str_eq(all("one"), "pack/b ");
    free(path);
}
END_TEST

START_TEST(memory_throws_away_what_is_no_file)
{
    static const char *const names[] = {"verify.sqlite", "verify.sqlite-journal"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char *path = files_join(directory, names[i]);

        verify_memory_close(memory);
        unlink(path);
        ck_assert_int_eq(mkfifo(path, 0600), 0);
        ck_assert_msg(verify_memory_open(directory, &memory, &err), "%s", err.message);
        note("one", PREFIX, "pack/b", 2);
        ck_assert_str_eq(all("one"), "pack/b ");
        free(path);
    }
}
END_TEST

START_TEST(kinds_of_names)
{
    static const struct {
        const char *name;
        enum trailer_kind kind;
    } rows[] = {
        {"pack/20261120T020000Z/00000001.zst", TRAILER_PACK},
        {"pack/20261120T020000Z/1.zst", 0},
        {"pack/20261120T020000Z", 0},
        {"backup/20261120T020000Z/backup.json", TRAILER_BACKUP},
        {"backup/20261120T020000Z/refs.zst", TRAILER_REFS},
        {"backup/20261120T020000Z/manifest.sqlite.zst", TRAILER_MANIFEST},
        {"backup/20261120T020000Z/more", 0},
        {"backup/20261120/backup.json", 0},
        {"run/20261120T020000Z/begin.json", TRAILER_BEGIN},
        {"run/20261120T020000Z/lease-12", TRAILER_LEASE},
        {"run/20261120T020000Z/lease-012", 0},
        {"run/20261120T020000Z/lease-0", 0},
        {"run/20261120T020000Z/lease-", 0},
        {"keep/20261120T020000Z/1", TRAILER_KEEP},
        {"wal/00000001/0000000100000000/000000010000000000000003.zst", TRAILER_WAL},
        {"wal/00000001/0000000100000000/000000010000000000000003.00000028.backup.zst",
         TRAILER_BACKUP_HISTORY},
        {"wal/00000002/00000002.history.zst", TRAILER_HISTORY},
        {"wal/00000002/00000003.history.zst", 0},
        {"README", 0},
        {"", 0},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        ck_assert_msg(verify_inventory_kind(rows[i].name) == rows[i].kind, "%s", rows[i].name);
}
END_TEST

static char *text_of(const struct wal_ranges *ranges)
{
    char *text = mem_strdup("");

    for (size_t i = 0; i < ranges->count; i++) {
        char *more =
            mem_printf("%s%u:%u-%u ", text, ranges->ranges[i].timeline,
                       (unsigned)ranges->ranges[i].first, (unsigned)ranges->ranges[i].last);
        free(text);
        text = more;
    }
    return text;
}

START_TEST(segments_left_out)
{
    static const struct wal_segment segments[] = {{1, 2},  {1, 3},  {1, 7}, {1, 7},
                                                  {1, 10}, {1, 50}, {2, 9}, {3, 1}};
    struct wal_ranges ranges = {.count = 4, .ranges = mem_calloc(4, sizeof *ranges.ranges)};
    char *text;

    ranges.ranges[0] = (struct wal_range){.timeline = 1, .first = 3, .last = 10};
    ranges.ranges[1] = (struct wal_range){.timeline = 1, .first = 20, .last = 21};
    ranges.ranges[2] = (struct wal_range){.timeline = 2, .first = 9, .last = 9};
    ranges.ranges[3] = (struct wal_range){.timeline = 2, .first = 11, .last = 12};
    wal_archive_leave_out(&ranges, NULL, 0);
    ck_assert_uint_eq(ranges.count, 4);
    wal_archive_leave_out(&ranges, segments, sizeof segments / sizeof segments[0]);
    text = text_of(&ranges);
    ck_assert_str_eq(text, "1:4-6 1:8-9 1:20-21 2:11-12 ");
    free(text);
    wal_archive_free_ranges(&ranges);
}
END_TEST

Suite *verify_suite(void)
{
    Suite *suite = suite_create("verify");
    TCase *names = tcase_create("names"), *remembering = tcase_create("memory");

    tcase_add_checked_fixture(remembering, set_up, tear_down);
    tcase_add_test(remembering, memory_keeps_what_was_flushed);
    tcase_add_test(remembering, memory_throws_a_damaged_one_away);
    tcase_add_test(remembering, memory_throws_away_what_is_no_file);
    suite_add_tcase(suite, remembering);
    tcase_add_test(names, kinds_of_names);
    tcase_add_test(names, segments_left_out);
    suite_add_tcase(suite, names);
    return suite;
}
