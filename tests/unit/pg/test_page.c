/* test_page.c - pages of relations */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/bytes.h"
#include "pgvigil/mem.h"
#include "pgvigil/page.h"
#include "suites.h"

static void build(unsigned char *page, uint32_t kind)
{
    for (uint32_t i = 0; i < PAGE_SIZE_BYTES; i++) {
        page[i] = (unsigned char)(i * (kind + 3) + (i >> 8) * 31 + kind * 77);
    }
}

/* What PostgreSQL's own pg_checksum_page gives for these pages. */
static const struct {
    uint32_t kind;
    uint32_t block;
    uint16_t checksum;
} known[] = {
    {0, 0, 0x3304}, {0, 131072, 0x3306}, {0, 0xFFFFFFFE, 0xCCFC},
    {1, 0, 0x5178}, {1, 131072, 0x517A}, {1, 0xFFFFFFFE, 0xAE88},
    {2, 0, 0x0995}, {2, 131072, 0x0997}, {2, 0xFFFFFFFE, 0xF66D},
    {3, 0, 0x22E5}, {3, 131072, 0x22E7}, {3, 0xFFFFFFFE, 0xDD1B},
};

START_TEST(test_checksum)
{
    unsigned char *bytes = mem_alloc(PAGE_SIZE_BYTES + 1);

    /* Any alignment will do, and what is in the checksum's place does not count. */
    for (int offset = 0; offset < 2; offset++) {
        unsigned char *page = bytes + offset;
        build(page, known[_i].kind);
        ck_assert_uint_eq(page_checksum(page, known[_i].block), known[_i].checksum);
        bytes_put_u16(page + 8, 0xABCD);
        ck_assert_uint_eq(page_checksum(page, known[_i].block), known[_i].checksum);
    }
    free(bytes);
}
END_TEST

START_TEST(test_verify)
{
    unsigned char page[PAGE_SIZE_BYTES];

    build(page, 1);
    bytes_put_u16(page + 8, page_checksum(page, 5));
    ck_assert(page_verify(page, 5));
    ck_assert(!page_verify(page, 6));
    for (size_t bit = 0; bit < PAGE_SIZE_BYTES * 8; bit += 61) {
        page[bit / 8] ^= (unsigned char)(1u << bit % 8);
        ck_assert_msg(!page_verify(page, 5), "bit %zu", bit);
        page[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    ck_assert_uint_eq(page_lsn(page),
                      (uint64_t)bytes_get_u32(page) << 32 | bytes_get_u32(page + 4));
}
END_TEST

/* A page that was never written has no checksum, but must be zero throughout. */
START_TEST(test_new_page)
{
    unsigned char page[PAGE_SIZE_BYTES] = {0};

    ck_assert(page_verify(page, 0));
    ck_assert(page_verify(page, 77));
    page[8191] = 1;
    ck_assert(!page_verify(page, 0));
    bytes_put_u16(page + 8, page_checksum(page, 0));
    ck_assert(!page_verify(page, 0));
}
END_TEST

START_TEST(test_zero)
{
    unsigned char bytes[100] = {0};

    for (size_t length = 0; length <= sizeof bytes; length++) {
        ck_assert(page_is_zero(bytes, length));
        for (size_t at = 0; at < length; at++) {
            bytes[at] = 0x80;
            ck_assert_msg(!page_is_zero(bytes, length), "%zu of %zu", at, length);
            bytes[at] = 0;
        }
    }
}
END_TEST

Suite *page_suite(void)
{
    Suite *suite = suite_create("page");
    TCase *tests = tcase_create("page");

    tcase_add_loop_test(tests, test_checksum, 0, (int)(sizeof known / sizeof known[0]));
    tcase_add_test(tests, test_verify);
    tcase_add_test(tests, test_new_page);
    tcase_add_test(tests, test_zero);
    suite_add_tcase(suite, tests);
    return suite;
}
