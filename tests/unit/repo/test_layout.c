#include "pgvigil/layout.h"

#include <check.h>
#include <string.h>

#include "pgvigil/digest.h"
#include "suites.h"

#define RUN INT64_C(1795140000) /* 2026-11-20 02:00:00 UTC */

static char name[LAYOUT_NAME_SIZE];

START_TEST(names_of_runs)
{
    const struct layout_pack pack = {.run = RUN, .number = 17};
    const struct layout_pack huge = {.run = RUN, .number = UINT32_MAX};
    char text[CLOCK_COMPACT_SIZE];

    ck_assert_str_eq(layout_run_text(RUN, text), "20261120T020000Z");
    ck_assert_str_eq(layout_pack(&pack, name), "pack/20261120T020000Z/00000017.zst");
    ck_assert_str_eq(layout_pack(&huge, name), "pack/20261120T020000Z/4294967295.zst");
    ck_assert_str_eq(layout_pack_prefix(RUN, name), "pack/20261120T020000Z/");
    ck_assert_str_eq(layout_begin(RUN, name), "run/20261120T020000Z/begin.json");
    ck_assert_str_eq(layout_lease(RUN, 3, name), "run/20261120T020000Z/lease-3");
    ck_assert_str_eq(layout_manifest(RUN, name), "backup/20261120T020000Z/manifest.sqlite.zst");
    ck_assert_str_eq(layout_refs(RUN, name), "backup/20261120T020000Z/refs.zst");
    ck_assert_str_eq(layout_backup(RUN, name), "backup/20261120T020000Z/backup.json");
}
END_TEST

START_TEST(notes_come_back)
{
    static const char *const wrong[] = {"run/",
                                        "run/20261120T020000Z",
                                        "run/20261120T020000Z/",
                                        "run/20261120T020000Z/begin",
                                        "run/20261120T020000Z/lease-",
                                        "run/20261120T020000Z/lease-0",
                                        "run/20261120T020000Z/lease-01",
                                        "run/20261120T020000Z/claim-20261120",
                                        "run/20261120T020000Z/claim-20261120T020000Z/",
                                        "run/20261120T020000Z/ends.json",
                                        "backup/20261120T020000Z/begin.json"};
    struct layout_note note;

    ck_assert_str_eq(layout_claim(RUN, RUN - 1, name),
                     "run/20261120T020000Z/claim-20261120T015959Z");
    ck_assert(layout_parse_note(name, &note));
    ck_assert(note.kind == LAYOUT_CLAIM && note.run == RUN && note.claimed == RUN - 1);
    ck_assert_str_eq(layout_end(RUN, name), "run/20261120T020000Z/end.json");
    ck_assert(layout_parse_note(name, &note) && note.kind == LAYOUT_END && note.run == RUN);
    ck_assert(layout_parse_note(layout_begin(RUN, name), &note) && note.kind == LAYOUT_BEGIN);
    ck_assert(layout_parse_note(layout_lease(RUN, 12, name), &note));
    ck_assert(note.kind == LAYOUT_LEASE && note.number == 12);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        ck_assert_msg(!layout_parse_note(wrong[i], &note), "%s", wrong[i]);
}
END_TEST

START_TEST(parts_of_backups_come_back)
{
    int64_t run = 0;

    ck_assert(layout_parse_backup_part("backup/20261120T020000Z/backup.json", &run));
    ck_assert_int_eq(run, RUN);
    ck_assert(layout_parse_backup_part("backup/20261120T020000Z/refs.zst", &run));
    ck_assert(layout_parse_backup_part("backup/20261120T020000Z/manifest.sqlite.zst", &run));
    ck_assert(!layout_parse_backup_part("backup/20261120T020000Z/other", &run));
    ck_assert(!layout_parse_backup_part("pack/20261120T020000Z/refs.zst", &run));
}
END_TEST

START_TEST(marks_come_back)
{
    static const char *const wrong[] = {"keep/",
                                        "keep/20261120T020000Z",
                                        "keep/20261120T020000Z/",
                                        "keep/20261120T020000Z/0",
                                        "keep/20261120T020000Z/01",
                                        "keep/20261120T020000Z/1.json",
                                        "keep/20261120T020000Z/4294967296",
                                        "expired/20261120T020000Z/1",
                                        "expire/20261320T020000Z/1",
                                        "run/20261120T020000Z/1"};
    const struct layout_mark keep = {.kind = LAYOUT_KEEP, .run = RUN, .number = 12};
    const struct layout_mark expire = {.kind = LAYOUT_EXPIRE, .run = RUN, .number = UINT32_MAX};
    struct layout_mark mark;

    ck_assert_str_eq(layout_mark_prefix(LAYOUT_EXPIRE, name), "expire/");
    ck_assert_str_eq(layout_mark(&keep, name), "keep/20261120T020000Z/12");
    ck_assert(layout_parse_mark(name, &mark));
    ck_assert(mark.kind == LAYOUT_KEEP && mark.run == RUN && mark.number == 12);
    ck_assert_str_eq(layout_mark(&expire, name), "expire/20261120T020000Z/4294967295");
    ck_assert(layout_parse_mark(name, &mark));
    ck_assert(mark.kind == LAYOUT_EXPIRE && mark.run == RUN && mark.number == UINT32_MAX);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        ck_assert_msg(!layout_parse_mark(wrong[i], &mark), "%s", wrong[i]);
}
END_TEST

START_TEST(names_of_wal)
{
    const char *segment = "0000000A00000001000000FE";
    unsigned char digest[DIGEST_SHA256_SIZE];

    for (size_t i = 0; i < sizeof(digest); i++)
        digest[i] = (unsigned char)(0xA0 + i);
    ck_assert_str_eq(layout_wal_timeline(10, name), "wal/0000000A/");
    ck_assert_str_eq(layout_wal_segment(segment, name),
                     "wal/0000000A/0000000A00000001/0000000A00000001000000FE.zst");
    ck_assert_str_eq(layout_wal_partial(segment, digest, name),
                     "wal/0000000A/0000000A00000001/"
                     "0000000A00000001000000FE.partial.a0a1a2a3a4a5a6a7.zst");
    ck_assert_str_eq(layout_wal_backup_history("0000000A00000001000000FE.00000028.backup", name),
                     "wal/0000000A/0000000A00000001/"
                     "0000000A00000001000000FE.00000028.backup.zst");
    ck_assert_str_eq(layout_wal_history(10, name), "wal/0000000A/0000000A.history.zst");
}
END_TEST

START_TEST(packs_and_backups_come_back)
{
    static const char *const wrong[] = {
        "",
        "pack/",
        "pack/20261120T020000Z/",
        "pack/20261120T020000Z/00000000.zst",
        "pack/20261120T020000Z/0000017.zst",
        "pack/20261120T020000Z/000000017.zst",
        "pack/20261120T020000Z/4294967296.zst",
        "pack/20261120T020000Z/99999999999999999999999.zst",
        "pack/20261120T020000Z/00000017",
        "pack/20261120T020000Z/00000017.zst.tmp",
        "pack/20261120T020000Z/-0000017.zst",
        "pack/20261320T020000Z/00000017.zst",
        "pack/20261120T020000Zx00000017.zst",
        "pack/20261120T020000/00000017.zst",
        "backup/20261120T020000Z/00000017.zst",
        "/pack/20261120T020000Z/00000017.zst",
    };
    struct layout_pack pack = {.run = 0}, other = {.run = RUN, .number = 17};
    int64_t run;

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        ck_assert_msg(!layout_parse_pack(wrong[i], &pack), "%s", wrong[i]);
    ck_assert(layout_parse_pack("pack/20261120T020000Z/00000017.zst", &pack));
    ck_assert_int_eq(layout_compare_packs(&pack, &other), 0);
    ck_assert(layout_parse_pack("pack/20261120T020000Z/4294967295.zst", &pack));
    ck_assert_uint_eq(pack.number, UINT32_MAX);
    ck_assert_int_gt(layout_compare_packs(&pack, &other), 0);
    other.run++;
    ck_assert_int_lt(layout_compare_packs(&pack, &other), 0);

    ck_assert(layout_parse_backup("backup/20261120T020000Z/backup.json", &run));
    ck_assert_int_eq(run, RUN);
    ck_assert(!layout_parse_backup("backup/20261120T020000Z/backup.json.x", &run));
    ck_assert(!layout_parse_backup("backup/20261120T020000Z/refs.zst", &run));
    ck_assert(!layout_parse_backup("backup/20261120T020000Z", &run));
    ck_assert(!layout_parse_backup("backup/20261120t020000Z/backup.json", &run));
    ck_assert(!layout_parse_run("20261120T020000", &run));
}
END_TEST

START_TEST(wal_comes_back)
{
    static const struct {
        const char *object;
        const char *file;
        enum wal_file_kind kind;
    } right[] = {
        {"wal/0000000A/0000000A00000001/0000000A00000001000000FE.zst", "0000000A00000001000000FE",
         WAL_SEGMENT},
        {"wal/0000000A/0000000A00000001/0000000A00000001000000FE.partial.00ff00ff00ff00ff.zst",
         "0000000A00000001000000FE.partial", WAL_PARTIAL},
        {"wal/0000000A/0000000A00000001/0000000A00000001000000FE.00000028.backup.zst",
         "0000000A00000001000000FE.00000028.backup", WAL_BACKUP_HISTORY},
        {"wal/0000000A/0000000A.history.zst", "0000000A.history", WAL_HISTORY},
    };
    static const char *const wrong[] = {
        "",
        "wal/",
        ".zst",
        "wal/0000000A/0000000A00000001/.zst",
        "wal/0000000A/0000000A00000001/0000000A00000001000000FE",
        "wal/0000000A/0000000A00000001/0000000A00000001000000FE.partial.zst",
        "wal/0000000A/0000000A00000001/0000000A00000001000000FE.partial.00FF00ff00ff00ff.zst",
        "wal/0000000A/0000000A00000001/0000000A00000001000000FE.partial.00ff00ff00ff00f.zst",
        "wal/0000000B/0000000A00000001/0000000A00000001000000FE.zst",
        "wal/0000000A/0000000A00000002/0000000A00000001000000FE.zst",
        "wal/0000000A/0000000A00000001000000FE.zst",
        "wal/0000000A/0000000B.history.zst",
        "wal/0000000A.history.zst",
        "wal/00000000/00000000.history.zst",
        "wal/0000000A/0000000A00000001/0000000a00000001000000FE.zst",
        "wal/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.zst",
    };
    char file[WAL_NAME_SIZE];
    struct wal_name parsed;

    for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
        ck_assert_msg(layout_parse_wal(right[i].object, file, &parsed), "%s", right[i].object);
        ck_assert_str_eq(file, right[i].file);
        ck_assert_int_eq(parsed.kind, right[i].kind);
        ck_assert_uint_eq(parsed.timeline, 10);
    }
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        ck_assert_msg(!layout_parse_wal(wrong[i], file, &parsed), "%s", wrong[i]);
}
END_TEST

START_TEST(what_is_secret)
{
    static const char *const secret[] = {
        "pack/20261120T020000Z/00000017.zst",
        "backup/20261120T020000Z/manifest.sqlite.zst",
        "wal/0000000A/0000000A00000001/0000000A00000001000000FE.zst",
        "wal/0000000A/0000000A00000001/0000000A00000001000000FE.00000028.backup.zst",
        "wal/0000000A/0000000A00000001/0000000A00000001000000FE.partial.0011223344556677.zst",
    };
    static const char *const open_to_all[] = {
        "pgvigil.json",
        "run/20261120T020000Z/begin.json",
        "backup/20261120T020000Z/refs.zst",
        "backup/20261120T020000Z/backup.json",
        "wal/0000000A/0000000A.history.zst",
        "wal/0000000A/0000000A00000001/0000000A00000001000000FE.zst.cms",
        "wal/0000000A/0000000A00000001/0000000A00000001000000FE.partial.",
        "pack/20261120T020000Z/",
        "pack/20261120T020000Z/00000017",
        "backup/20261120T020000/manifest.sqlite.zst",
        "",
    };

    for (size_t i = 0; i < sizeof(secret) / sizeof(secret[0]); i++)
        ck_assert_msg(layout_is_secret(secret[i]), "%s", secret[i]);
    for (size_t i = 0; i < sizeof(open_to_all) / sizeof(open_to_all[0]); i++)
        ck_assert_msg(!layout_is_secret(open_to_all[i]), "%s", open_to_all[i]);
}
END_TEST

Suite *layout_suite(void)
{
    Suite *suite = suite_create("layout");
    TCase *tests = tcase_create("names");

    tcase_add_test(tests, names_of_runs);
    tcase_add_test(tests, marks_come_back);
    tcase_add_test(tests, notes_come_back);
    tcase_add_test(tests, parts_of_backups_come_back);
    tcase_add_test(tests, names_of_wal);
    tcase_add_test(tests, packs_and_backups_come_back);
    tcase_add_test(tests, wal_comes_back);
    tcase_add_test(tests, what_is_secret);
    suite_add_tcase(suite, tests);
    return suite;
}
