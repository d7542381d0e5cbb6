#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "pgvigil/bytes.h"
#include "pgvigil/crc32c.h"
#include "pgvigil/trailer.h"
#include "suites.h"

static struct trailer example(void)
{
    struct trailer trailer = {.kind = TRAILER_WAL,
                              .encrypted = true,
                              .stored_length = UINT64_C(0x0102030405060708),
                              .raw_length = 16777216};

    memset(trailer.stored_sha256, 0xaa, sizeof(trailer.stored_sha256));
    memset(trailer.raw_sha256, 0xbb, sizeof(trailer.raw_sha256));
    memset(trailer.name, 0xcc, sizeof(trailer.name));
    return trailer;
}

static void reseal(unsigned char *bytes)
{
    bytes_put_u32(bytes + 124, crc32c(0, bytes, 124));
}

static void check_refused(const unsigned char *bytes, const char *message)
{
    struct trailer trailer;
    struct error err = ERROR_INIT;

    ck_assert(!trailer_decode(bytes, &trailer, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_msg(strstr(err.message, message) != NULL, "\"%s\" is not in \"%s\"", message,
                  err.message);
}

START_TEST(round_trip)
{
    for (int kind = 1; kind <= TRAILER_KIND_MAXIMUM; kind++) {
        struct trailer before = example(), after;
        struct error err = ERROR_INIT;
        unsigned char bytes[TRAILER_SIZE];
        bool wal = kind >= TRAILER_WAL && kind <= TRAILER_BACKUP_HISTORY;

        before.kind = (enum trailer_kind)kind;
        before.encrypted = kind % 2 == 0;
        if (!wal)
            memset(before.raw_sha256, 0, sizeof(before.raw_sha256));
        trailer_encode(&before, bytes);
        ck_assert_msg(trailer_decode(bytes, &after, &err), "%s", err.message);
        ck_assert_int_eq(after.kind, before.kind);
        ck_assert_int_eq(after.encrypted, before.encrypted);
        ck_assert_uint_eq(after.stored_length, before.stored_length);
        ck_assert_uint_eq(after.raw_length, before.raw_length);
        ck_assert_mem_eq(after.stored_sha256, before.stored_sha256, DIGEST_SHA256_SIZE);
        ck_assert_mem_eq(after.raw_sha256, before.raw_sha256, DIGEST_SHA256_SIZE);
        ck_assert_mem_eq(after.name, before.name, TRAILER_NAME_SIZE);
        ck_assert_str_ne(trailer_kind_name(after.kind), "unknown object");
    }
}
END_TEST

/* As docs/FORMAT.md has it. */
START_TEST(layout)
{
    struct trailer trailer = example();
    unsigned char bytes[TRAILER_SIZE];

    trailer_encode(&trailer, bytes);
    ck_assert_mem_eq(bytes, "\x5e\x2a\x4d\x18\x78\x00\x00\x00pgvigil1", 16);
    ck_assert_mem_eq(bytes + 16, "\x02\x00\x00\x00\x01\x00\x00\x00", 8);
    ck_assert_mem_eq(bytes + 24, "\x08\x07\x06\x05\x04\x03\x02\x01", 8);
    ck_assert_mem_eq(bytes + 32, "\x00\x00\x00\x01\x00\x00\x00\x00", 8);
    ck_assert_mem_eq(bytes + 40, trailer.stored_sha256, 32);
    ck_assert_mem_eq(bytes + 72, trailer.raw_sha256, 32);
    ck_assert_mem_eq(bytes + 104, trailer.name, 16);
    ck_assert_mem_eq(bytes + 120, "\0\0\0\0", 4);
    ck_assert_uint_eq(bytes_get_u32(bytes + 124), crc32c(0, bytes, 124));

    /* WAL alone has the digest of its raw bytes. */
    trailer.kind = TRAILER_PACK;
    trailer_encode(&trailer, bytes);
    for (int i = 72; i < 104; i++)
        ck_assert_int_eq(bytes[i], 0);
}
END_TEST

START_TEST(zstd_passes_over_it)
{
    struct trailer trailer = example();
    unsigned char object[256 + TRAILER_SIZE];
    char raw[16];
    size_t length = ZSTD_compress(object, 256, "hello", 5, 1);

    ck_assert(!ZSTD_isError(length));
    trailer_encode(&trailer, object + length);
    ck_assert_uint_eq(ZSTD_decompress(raw, sizeof(raw), object, length + TRAILER_SIZE), 5);
    ck_assert_mem_eq(raw, "hello", 5);
}
END_TEST

START_TEST(every_flipped_bit)
{
    struct trailer trailer = example();
    unsigned char bytes[TRAILER_SIZE];

    trailer_encode(&trailer, bytes);
    for (int bit = 0; bit < TRAILER_SIZE * 8; bit++) {
        bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
        check_refused(bytes, bit / 8 < 15    ? "no trailer"
                             : bit / 8 == 15 ? "another, or damaged, format"
                                             : "CRC");
        bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
}
END_TEST

static void check_resealed(size_t at, unsigned char value, const char *message)
{
    struct trailer trailer = example();
    unsigned char bytes[TRAILER_SIZE];

    trailer.kind = TRAILER_PACK;
    trailer_encode(&trailer, bytes);
    bytes[at] = value;
    reseal(bytes);
    check_refused(bytes, message);
}

START_TEST(newer_formats)
{
    struct trailer trailer = example(), decoded;
    unsigned char bytes[TRAILER_SIZE];
    struct error err = ERROR_INIT;

    check_resealed(15, '2', "a newer format: version \"2\"");
    check_resealed(15, 0x01, "a newer format: version 0x01");
    check_resealed(16, 0, "unknown kind");
    check_resealed(16, TRAILER_KIND_MAXIMUM + 1, "unknown kind");
    check_resealed(19, 1, "unknown kind");
    check_resealed(20, 2, "bits set");
    check_resealed(23, 0x80, "bits set");
    check_resealed(120, 1, "bits set");
    check_resealed(123, 1, "bits set");
    check_resealed(72, 1, "bits set");
    check_resealed(103, 1, "bits set");

    trailer_encode(&trailer, bytes);
    bytes[15] = '2';
    reseal(bytes);
    ck_assert(!trailer_decode(bytes, &decoded, &err));
    ck_assert_ptr_nonnull(strstr(err.hint, "upgrade"));
}
END_TEST

START_TEST(no_trailer)
{
    unsigned char bytes[TRAILER_SIZE];

    memset(bytes, 0, sizeof(bytes));
    check_refused(bytes, "no trailer: the object is truncated or not pgvigil's");
    memset(bytes, 0xff, sizeof(bytes));
    check_refused(bytes, "no trailer: the object is truncated or not pgvigil's");
}
END_TEST

START_TEST(name_digest)
{
    unsigned char digest[TRAILER_NAME_SIZE], other[TRAILER_NAME_SIZE];
    unsigned char whole[DIGEST_SHA256_SIZE];

    trailer_name_digest(UINT64_C(18446744073709551615), "pack/r/1", digest);
    digest_sha256("18446744073709551615/pack/r/1", 29, whole);
    ck_assert_mem_eq(digest, whole, TRAILER_NAME_SIZE);
    trailer_name_digest(0, "pgvigil.json", digest);
    digest_sha256("0/pgvigil.json", 14, whole);
    ck_assert_mem_eq(digest, whole, TRAILER_NAME_SIZE);
    trailer_name_digest(1, "pgvigil.json", other);
    ck_assert_mem_ne(digest, other, TRAILER_NAME_SIZE);
}
END_TEST

Suite *trailer_suite(void)
{
    Suite *suite = suite_create("trailer");
    TCase *tests = tcase_create("trailer");

    tcase_add_test(tests, round_trip);
    tcase_add_test(tests, layout);
    tcase_add_test(tests, zstd_passes_over_it);
    tcase_add_test(tests, every_flipped_bit);
    tcase_add_test(tests, newer_formats);
    tcase_add_test(tests, no_trailer);
    tcase_add_test(tests, name_digest);
    suite_add_tcase(suite, tests);
    return suite;
}
