#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/mem.h"
#include "pgvigil/refs.h"
#include "pgvigil/trailer.h"
#include "suites.h"
#include "support/archive.h"

#define RUN INT64_C(1795140000) /* 2026-11-20T02:00:00Z */
#define HEADER "pgvigil refs 1\n"
#define HEX32 "0123456789abcdef0123456789abcdef"
#define LINE "pack/20261120T020000Z/00000001.zst\t4096\t" HEX32 HEX32 "\tdata\t96\t90\n"
#define NEXT "pack/20261120T020000Z/00000002.zst\t200\t" HEX32 HEX32 "\tmap\t0\t0\n"

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

static void add(struct refs *refs, int64_t run, uint32_t number, enum refs_kind kind)
{
    struct refs_pack pack = {.pack = {.run = run, .number = number},
                             .size = 1000 + number,
                             .kind = kind,
                             .blocks = kind == REFS_MAP ? 0 : 64,
                             .live = kind == REFS_MAP ? 0 : 3};

    memset(pack.sha256, (int)number, sizeof(pack.sha256));
    refs_add(refs, &pack);
}

static void check_equal(const struct refs *a, const struct refs *b)
{
    ck_assert_uint_eq(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        const struct refs_pack *left = &a->packs[i], *right = &b->packs[i];

        ck_assert_int_eq(layout_compare_packs(&left->pack, &right->pack), 0);
        ck_assert_uint_eq(left->size, right->size);
        ck_assert_mem_eq(left->sha256, right->sha256, DIGEST_SHA256_SIZE);
        ck_assert_int_eq(left->kind, right->kind);
        ck_assert_uint_eq(left->blocks, right->blocks);
        ck_assert_uint_eq(left->live, right->live);
    }
}

START_TEST(sorts_and_finds)
{
    struct refs refs = REFS_INIT;

    refs_sort(&refs);
    ck_assert_ptr_null(refs_find(&refs, &(struct layout_pack){.run = RUN, .number = 1}));
    add(&refs, RUN + 1, 1, REFS_DATA);
    add(&refs, RUN, 300, REFS_MAP);
    add(&refs, RUN, 2, REFS_DATA);
    refs_sort(&refs);
    ck_assert_uint_eq(refs.packs[0].pack.number, 2);
    ck_assert_uint_eq(refs.packs[1].pack.number, 300);
    ck_assert_int_eq(refs.packs[2].pack.run, RUN + 1);
    for (size_t i = 0; i < refs.count; i++)
        ck_assert_ptr_eq(refs_find(&refs, &refs.packs[i].pack), &refs.packs[i]);
    ck_assert_ptr_null(refs_find(&refs, &(struct layout_pack){.run = RUN, .number = 3}));
    ck_assert_ptr_null(refs_find(&refs, &(struct layout_pack){.run = RUN + 2, .number = 1}));
    refs_free(&refs);
    ck_assert_uint_eq(refs.count, 0);
}
END_TEST

/* The text is the contract: another program writes and reads it. */
START_TEST(text_is_as_documented)
{
    static const char text[] = HEADER LINE NEXT;
    struct refs refs;
    struct buffer again = BUFFER_INIT;

    ck_assert_msg(refs_parse(text, strlen(text), &refs, &err), "%s", err.message);
    ck_assert_uint_eq(refs.count, 2);
    ck_assert_int_eq(refs.packs[0].pack.run, RUN);
    ck_assert_uint_eq(refs.packs[0].pack.number, 1);
    ck_assert_uint_eq(refs.packs[0].size, 4096);
    ck_assert_uint_eq(refs.packs[0].sha256[1], 0x23);
    ck_assert_int_eq(refs.packs[0].kind, REFS_DATA);
    ck_assert_uint_eq(refs.packs[0].blocks, 96);
    ck_assert_uint_eq(refs.packs[0].live, 90);
    ck_assert_int_eq(refs.packs[1].kind, REFS_MAP);
    refs_encode(&refs, &again);
    ck_assert_str_eq(buffer_text(&again), text);
    buffer_free(&again);
    refs_free(&refs);
}
END_TEST

START_TEST(empty_list)
{
    struct refs refs;

    ck_assert(refs_parse(HEADER, strlen(HEADER), &refs, &err));
    ck_assert_uint_eq(refs.count, 0);
    refs_free(&refs);
}
END_TEST

#define PACK1 "pack/20261120T020000Z/00000001.zst\t"
#define REST HEX32 HEX32 "\tdata\t"

static const struct {
    const char *text;
    int line;
} damaged[] = {
    {"", 1},
    {"pgvigil refs 1", 1},
    {"pgvigil refs 2\n", 1},
    {HEADER "\n", 2},
    {HEADER LINE "\n", 3},
    {HEADER LINE LINE, 3},
    {HEADER NEXT LINE, 3},
    {HEADER "pack/20261120T020000Z/1.zst\t4096\t" REST "96\t90\n", 2},
    {HEADER "pack/20261120T020000Z/00000000.zst\t4096\t" REST "96\t90\n", 2},
    {HEADER "pack/20261320T020000Z/00000001.zst\t4096\t" REST "96\t90\n", 2},
    {HEADER PACK1 "128\t" REST "96\t90\n", 2},
    {HEADER PACK1 "33554433\t" REST "96\t90\n", 2},
    {HEADER PACK1 "99999999999999999999999\t" REST "96\t90\n", 2},
    {HEADER PACK1 "04096\t" REST "96\t90\n", 2},
    {HEADER PACK1 "+4096\t" REST "96\t90\n", 2},
    {HEADER PACK1 "-1\t" REST "96\t90\n", 2},
    {HEADER PACK1 "\t" REST "96\t90\n", 2},
    {HEADER PACK1 "4096\t" HEX32 "\tdata\t96\t90\n", 2},
    {HEADER PACK1 "4096\tX" REST "96\t90\n", 2},
    {HEADER PACK1 "4096\t" HEX32 HEX32 "\tdate\t96\t90\n", 2},
    {HEADER PACK1 "4096\t" HEX32 HEX32 "\tmaps\t96\t90\n", 2},
    {HEADER PACK1 "4096\t" REST "96\t97\n", 2},
    {HEADER PACK1 "4096\t" REST "4294967296\t90\n", 2},
    {HEADER PACK1 "4096\t" REST "96\t90\t\n", 2},
    {HEADER PACK1 "4096\t" REST "96\t90\t7\n", 2},
    {HEADER PACK1 "4096\t" REST "96\t90 \n", 2},
    {HEADER PACK1 "4096\t" REST "96\t\n", 2},
    {HEADER PACK1 "4096\t" REST "96\n", 2},
    {HEADER PACK1 "4096\t" REST "96\t90", 2},
    {HEADER PACK1 "\n", 2},
};

START_TEST(damage_is_named_by_line)
{
    char *line = mem_printf("line %d:", damaged[_i].line);
    struct refs refs;

    ck_assert(!refs_parse(damaged[_i].text, strlen(damaged[_i].text), &refs, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_msg(strstr(err.message, line) != NULL, "%s: not %s", err.message, line);
    ck_assert_ptr_null(refs.packs);
    free(line);
}
END_TEST

START_TEST(nul_bytes_are_damage)
{
    char text[] = HEADER LINE;
    struct refs refs;

    for (size_t i = 0; i + 1 < sizeof(text); i++) {
        char kept = text[i];

        text[i] = '\0';
        ck_assert(!refs_parse(text, sizeof(text) - 1, &refs, &err));
        text[i] = kept;
    }
}
END_TEST

START_TEST(stored_and_fetched)
{
    unsigned char sha256[DIGEST_SHA256_SIZE], wrong[DIGEST_SHA256_SIZE];
    struct refs refs = REFS_INIT, back;

    for (uint32_t i = 1; i <= 5000; i++)
        add(&refs, RUN + i % 2 * 60, i, i % 7 ? REFS_DATA : REFS_MAP);
    refs_sort(&refs);
    ck_assert_msg(refs_store(repository, RUN, &refs, sha256, &err), "%s", err.message);
    ck_assert_msg(refs_fetch(repository, RUN, sha256, &back, &err), "%s", err.message);
    check_equal(&refs, &back);
    refs_free(&back);

    ck_assert(!refs_store(repository, RUN, &refs, wrong, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    memcpy(wrong, sha256, sizeof(wrong));
    wrong[31] ^= 1;
    ck_assert(!refs_fetch(repository, RUN, wrong, &back, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_ptr_null(back.packs);
    ck_assert(!refs_fetch(repository, RUN + 1, sha256, &back, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY); /* a committed backup has one */
    refs_free(&refs);
}
END_TEST

Suite *refs_suite(void)
{
    Suite *suite = suite_create("refs");
    TCase *tests = tcase_create("refs");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, sorts_and_finds);
    tcase_add_test(tests, text_is_as_documented);
    tcase_add_test(tests, empty_list);
    tcase_add_loop_test(tests, damage_is_named_by_line, 0,
                        (int)(sizeof(damaged) / sizeof(damaged[0])));
    tcase_add_test(tests, nul_bytes_are_damage);
    tcase_add_test(tests, stored_and_fetched);
    suite_add_tcase(suite, tests);
    return suite;
}
