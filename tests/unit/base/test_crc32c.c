#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c_portable.h"
#include "pgvigil/crc32c.h"
#include "suites.h"
#include "support/seed.h"

/* The definition, bit by bit. */
static uint32_t by_definition(const unsigned char *data, size_t length)
{
    uint32_t crc = 0xffffffffu;

    for (size_t i = 0; i < length; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc & 1) ? crc >> 1 ^ 0x82F63B78u : crc >> 1;
    }
    return ~crc;
}

static void check_both(const void *data, size_t length, uint32_t expected)
{
    ck_assert_uint_eq(crc32c(0, data, length), expected);
    ck_assert_uint_eq(crc32c_portable(0, data, length), expected);
}

/* RFC 3720, B.4; the check value of the CRC catalogues */
START_TEST(known)
{
    unsigned char bytes[32];

    memset(bytes, 0, sizeof(bytes));
    check_both(bytes, sizeof(bytes), 0x8a9136aau);
    memset(bytes, 0xff, sizeof(bytes));
    check_both(bytes, sizeof(bytes), 0x62a8ab43u);
    for (unsigned i = 0; i < 32; i++)
        bytes[i] = (unsigned char)i;
    check_both(bytes, sizeof(bytes), 0x46dd794eu);
    for (unsigned i = 0; i < 32; i++)
        bytes[i] = (unsigned char)(31 - i);
    check_both(bytes, sizeof(bytes), 0x113fdb5cu);
    check_both("123456789", 9, 0xe3069283u);
    check_both("", 0, 0);
}
END_TEST

/* Every length about the borders of the lanes, at every alignment. */
START_TEST(lengths_and_alignments)
{
    static const size_t around[] = {0, 8, 768, 1536, 2304, 3072, 3840, 6144, 9984};
    uint64_t state = seed_start("crc32c lengths_and_alignments");
    unsigned char *data = malloc(16384);

    ck_assert_ptr_nonnull(data);
    seed_fill(&state, data, 16384);
    for (size_t i = 0; i < sizeof(around) / sizeof(around[0]); i++)
        for (size_t length = around[i]; length < around[i] + 20; length++)
            for (size_t start = 0; start < 8; start++)
                check_both(data + start, length, by_definition(data + start, length));
    free(data);
}
END_TEST

START_TEST(parts)
{
    uint64_t state = seed_start("crc32c parts");
    size_t size = 100000;
    unsigned char *data = malloc(size);

    ck_assert_ptr_nonnull(data);
    for (int round = 0; round < 200; round++) {
        size_t length = seed_next(&state) % size;
        size_t cut = seed_next(&state) % (length + 1);

        seed_fill(&state, data, length);

        uint32_t whole = crc32c(0, data, length);
        uint32_t first = crc32c(0, data, cut);
        uint32_t second = crc32c(0, data + cut, length - cut);

        ck_assert_uint_eq(crc32c_portable(0, data, length), whole);
        ck_assert_uint_eq(crc32c(first, data + cut, length - cut), whole);
        ck_assert_uint_eq(crc32c_portable(first, data + cut, length - cut), whole);
        ck_assert_uint_eq(crc32c_combine(first, second, length - cut), whole);
    }
    free(data);
}
END_TEST

/* Lengths that no test could read: joining in two orders gives the same. */
START_TEST(combine_of_huge_parts)
{
    uint64_t state = seed_start("crc32c combine_of_huge_parts");

    for (int round = 0; round < 1000; round++) {
        uint32_t a = (uint32_t)seed_next(&state);
        uint32_t b = (uint32_t)seed_next(&state);
        uint32_t c = (uint32_t)seed_next(&state);
        uint64_t length_b = seed_next(&state) >> 1, length_c = seed_next(&state) >> 1;

        ck_assert_uint_eq(crc32c_combine(crc32c_combine(a, b, length_b), c, length_c),
                          crc32c_combine(a, crc32c_combine(b, c, length_c), length_b + length_c));
    }
    ck_assert_uint_eq(crc32c_combine(0x12345678, 0, 0), 0x12345678);
}
END_TEST

Suite *crc32c_suite(void)
{
    Suite *suite = suite_create("crc32c");
    TCase *tests = tcase_create("crc32c");

    tcase_add_test(tests, known);
    tcase_add_test(tests, lengths_and_alignments);
    tcase_add_test(tests, parts);
    tcase_add_test(tests, combine_of_huge_parts);
    suite_add_tcase(suite, tests);
    return suite;
}
