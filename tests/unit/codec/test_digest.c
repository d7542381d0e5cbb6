#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "pgvigil/digest.h"
#include "suites.h"

/* FIPS 180-2, appendix B */
#define ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define TWO_BLOCKS "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
#define MILLION_A "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"

static const char two_blocks[] = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";

static void check_sha256(const char *text, const char *expected)
{
    unsigned char result[DIGEST_SHA256_SIZE];
    char hex[DIGEST_SHA256_HEX_SIZE];

    digest_sha256(text, strlen(text), result);
    ck_assert_str_eq(digest_to_hex(result, sizeof(result), hex), expected);
}

START_TEST(sha256_known)
{
    check_sha256("abc", ABC);
    check_sha256("", EMPTY);
    check_sha256(two_blocks, TWO_BLOCKS);
}
END_TEST

START_TEST(sha256_in_pieces_and_again)
{
    struct digest_sha256 *digest = digest_sha256_new();
    unsigned char result[DIGEST_SHA256_SIZE];
    char hex[DIGEST_SHA256_HEX_SIZE];
    char thousand[1000];

    memset(thousand, 'a', sizeof(thousand));
    for (int i = 0; i < 1000; i++)
        digest_sha256_update(digest, thousand, sizeof(thousand));
    digest_sha256_finish(digest, result);
    ck_assert_str_eq(digest_to_hex(result, sizeof(result), hex), MILLION_A);

    digest_sha256_update(digest, "ab", 2);
    digest_sha256_update(digest, "", 0);
    digest_sha256_update(digest, "c", 1);
    digest_sha256_finish(digest, result);
    ck_assert_str_eq(digest_to_hex(result, sizeof(result), hex), ABC);
    digest_sha256_free(digest);
    digest_sha256_free(NULL);
}
END_TEST

START_TEST(hex)
{
    const unsigned char bytes[] = {0x00, 0x7f, 0x80, 0xff, 0x1a};
    unsigned char back[sizeof(bytes)];
    char text[2 * sizeof(bytes) + 1];

    ck_assert_str_eq(digest_to_hex(bytes, sizeof(bytes), text), "007f80ff1a");
    ck_assert(digest_from_hex(text, back, sizeof(back)));
    ck_assert_mem_eq(back, bytes, sizeof(bytes));
}
END_TEST

START_TEST(hex_is_strict)
{
    unsigned char bytes[2];

    ck_assert(digest_from_hex("09af", bytes, 2));
    ck_assert(!digest_from_hex("09aF", bytes, 2));
    ck_assert(!digest_from_hex("09a", bytes, 2));
    ck_assert(!digest_from_hex("09af0", bytes, 2));
    ck_assert(!digest_from_hex("09ag", bytes, 2));
    ck_assert(!digest_from_hex("0x9a", bytes, 2));
    ck_assert(!digest_from_hex(" 9af", bytes, 2));
    ck_assert(!digest_from_hex("", bytes, 2));
    ck_assert(digest_from_hex("", bytes, 0));
}
END_TEST

/* The digest is part of the repository's format: XXH3-64 with the whole secret. */
START_TEST(block)
{
    unsigned char secret[DIGEST_SECRET_SIZE], other[DIGEST_SECRET_SIZE];
    unsigned char page[8192];

    for (size_t i = 0; i < sizeof(secret); i++)
        secret[i] = other[i] = (unsigned char)(i * 37 + 11);
    memset(page, 0x5a, sizeof(page));
    ck_assert_uint_eq(digest_block(page, sizeof(page), secret),
                      XXH3_64bits_withSecret(page, sizeof(page), secret, 192));
    for (size_t i = 0; i < sizeof(page); i += 97) {
        uint64_t before = digest_block(page, sizeof(page), secret);

        page[i] ^= 1;
        ck_assert_uint_ne(digest_block(page, sizeof(page), secret), before);
    }
    other[0] ^= 1;
    ck_assert_uint_ne(digest_block(page, sizeof(page), secret),
                      digest_block(page, sizeof(page), other));
}
END_TEST

START_TEST(random_bytes)
{
    unsigned char first[DIGEST_SECRET_SIZE] = {0}, second[DIGEST_SECRET_SIZE] = {0};
    struct error err = ERROR_INIT;

    ck_assert(digest_random(first, sizeof(first), &err));
    ck_assert(digest_random(second, sizeof(second), &err));
    ck_assert_mem_ne(first, second, sizeof(first));
    /* The last quarter too: all of the bytes were filled. */
    ck_assert_mem_ne(first + 144, second + 144, 48);
}
END_TEST

Suite *digest_suite(void)
{
    Suite *suite = suite_create("digest");
    TCase *tests = tcase_create("digest");

    tcase_add_test(tests, sha256_known);
    tcase_add_test(tests, sha256_in_pieces_and_again);
    tcase_add_test(tests, hex);
    tcase_add_test(tests, hex_is_strict);
    tcase_add_test(tests, block);
    tcase_add_test(tests, random_bytes);
    suite_add_tcase(suite, tests);
    return suite;
}
