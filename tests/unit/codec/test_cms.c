#include "pgvigil/cms.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/cms_stream.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "suites.h"
#include "support/key_files.h"
#include "support/scratch.h"
#include "support/seed.h"

static char *directory;
static struct keys_recipients *recipients; /* "ec" and "rsa" */
static struct keys_identity *ec, *rsa, *other;
static struct error err;

static struct keys_identity *load(const char *name)
{
    char *path = key_files_path(directory, name, ".key");
    struct keys_identity *identity;

    ck_assert_msg(keys_load_identity(&path, 1, NULL, &identity, &err), "%s", err.message);
    free(path);
    return identity;
}

/* Making RSA keys takes a while: once for all tests. */
static void make_keys(void)
{
    directory = scratch_make();
    error_clear(&err);
    key_files_make(directory, "ec", KEYPAIR_EC, NULL);
    key_files_make(directory, "rsa", KEYPAIR_RSA, NULL);
    key_files_make(directory, "other", KEYPAIR_EC, NULL);

    char *paths[] = {key_files_path(directory, "ec", ".crt"),
                     key_files_path(directory, "rsa", ".crt")};
    ck_assert(keys_load_recipients(paths, 2, &recipients, &err));
    free(paths[0]);
    free(paths[1]);
    ec = load("ec");
    rsa = load("rsa");
    other = load("other");
}

static void drop_keys(void)
{
    keys_free_recipients(recipients);
    keys_free_identity(ec);
    keys_free_identity(rsa);
    keys_free_identity(other);
    scratch_remove(directory);
}

/* The structure as a whole. */
static void encrypt(const void *data, size_t length, struct buffer *sealed)
{
    struct buffer head = BUFFER_INIT, tail = BUFFER_INIT;
    unsigned char *copy = mem_alloc(length + 1);

    memcpy(copy, data, length);
    ck_assert_msg(cms_encrypt(recipients, copy, length, &head, &tail, &err), "%s", err.message);
    ck_assert(length < 16 || memcmp(copy, data, length) != 0);
    ck_assert_uint_le(head.length + tail.length, CMS_OVERHEAD);
    buffer_append(sealed, head.data, head.length);
    buffer_append(sealed, copy, length);
    buffer_append(sealed, tail.data, tail.length);
    buffer_free(&head);
    buffer_free(&tail);
    free(copy);
}

static void ck_opens(const struct keys_identity *identity, const struct buffer *sealed,
                     const void *data, size_t length)
{
    unsigned char *bytes = mem_alloc(sealed->length), *content;
    size_t content_length;

    memcpy(bytes, sealed->data, sealed->length);
    ck_assert_msg(cms_decrypt(identity, bytes, sealed->length, &content, &content_length, &err),
                  "%s", err.message);
    ck_assert_uint_eq(content_length, length);
    ck_assert(length == 0 || memcmp(content, data, length) == 0);
    free(bytes);
}

static bool opens(const struct keys_identity *identity, const void *sealed, size_t length)
{
    unsigned char *bytes = mem_alloc(length + 1), *content;
    size_t content_length;

    memcpy(bytes, sealed, length);
    bool ok = cms_decrypt(identity, bytes, length, &content, &content_length, &err);
    free(bytes);
    return ok;
}

START_TEST(every_recipient_opens_it)
{
    /* Around the lengths where DER's headers grow. */
    static const size_t lengths[] = {
        0,   1,     15,    16,    17,    100,     127,           128,    255,
        256, 65000, 65535, 65536, 70000, 1 << 20, (1 << 24) - 5, 1 << 24};
    uint64_t state = seed_start("cms");

    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct buffer sealed = BUFFER_INIT;
        unsigned char *data = mem_alloc(lengths[i] + 1);

        for (size_t k = 0; k < lengths[i]; k++)
            data[k] = (unsigned char)(seed_next(&state) >> 32);
        encrypt(data, lengths[i], &sealed);
        ck_opens(ec, &sealed, data, lengths[i]);
        ck_opens(rsa, &sealed, data, lengths[i]);
        buffer_free(&sealed);
        free(data);
    }
}
END_TEST

/* What the page in docs/FORMAT.md promises: the tool opens it, whatever trailer follows. */
START_TEST(openssl_opens_it)
{
    static const char *const names[] = {"ec", "rsa"};
    struct buffer sealed = BUFFER_INIT;
    char *path = key_files_path(directory, "object", ".cms");

    encrypt("what was stored", 15, &sealed);
    buffer_append(&sealed, "and a trailer", 13);
    ck_assert(files_write(path, sealed.data, sealed.length, 0600, &err));
    for (size_t i = 0; i < 2; i++) {
        char *key = key_files_path(directory, names[i], ".key");
        struct buffer text = BUFFER_INIT;

        key_files_openssl(&text, "cms", "-decrypt", "-inform", "DER", "-in", path, "-inkey", key,
                          NULL);
        ck_assert_str_eq(buffer_text(&text), "what was stored");
        buffer_free(&text);
        free(key);
    }
    free(path);
    buffer_free(&sealed);
}
END_TEST

START_TEST(no_two_are_alike)
{
    struct buffer first = BUFFER_INIT, second = BUFFER_INIT;

    encrypt("the same text", 13, &first);
    encrypt("the same text", 13, &second);
    ck_assert(first.length != second.length || memcmp(first.data, second.data, first.length) != 0);
    ck_assert_ptr_null(memmem(first.data, first.length, "the same text", 13));
    buffer_free(&first);
    buffer_free(&second);
}
END_TEST

START_TEST(another_key_does_not_and_says_whose_it_is)
{
    struct buffer sealed = BUFFER_INIT;

    encrypt("secret", 6, &sealed);
    ck_assert(!opens(other, sealed.data, sealed.length));
    ck_assert_int_eq(err.code, ERROR_CONFIG);
    ck_assert_msg(strstr(err.message, "the private key given does not open it"), "%s", err.message);
    ck_assert_msg(strstr(err.detail, "\"/CN=ec\" ") && strstr(err.detail, "\"/CN=rsa\" "), "%s",
                  err.detail);
    ck_assert_msg(strstr(err.hint, "identity"), "%s", err.hint);
    buffer_free(&sealed);
}
END_TEST

/* No byte may be changed, and none be missing or too many. */
START_TEST(whatever_is_changed_is_noticed)
{
    struct buffer sealed = BUFFER_INIT;
    char text[300];

    memset(text, 'x', sizeof(text));
    encrypt(text, sizeof(text), &sealed);
    for (size_t i = 0; i < sealed.length; i++) {
        /* In names and other recipients' keys it may go unnoticed, as they are not used; not so in what
         * the content hangs on. */
        const bool content = i + sizeof(text) + 18 >= sealed.length;

        sealed.data[i] ^= 0x10;
        bool ok = opens(ec, sealed.data, sealed.length);
        ck_assert_msg(!ok || !content, "byte %zu of %zu", i, sealed.length);
        if (!ok)
            ck_assert(err.code == ERROR_INTEGRITY || err.code == ERROR_CONFIG);
        if (content)
            ck_assert_int_eq(err.code, ERROR_INTEGRITY);
        sealed.data[i] ^= 0x10;
    }
    for (size_t length = 0; length < sealed.length; length++) {
        ck_assert(!opens(ec, sealed.data, length));
        ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    }
    buffer_append(&sealed, "", 1);
    ck_assert(!opens(ec, sealed.data, sealed.length));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    buffer_free(&sealed);
}
END_TEST

/* The tag is never cut short, nor another cipher taken: made by openssl itself. */
START_TEST(weaker_forms_are_refused)
{
    static const char *const ways[] = {"-aes-128-gcm", "-aes-256-cbc"};
    char *in = key_files_path(directory, "plain", ""), *out = key_files_path(directory, "weak", "");
    char *crt = key_files_path(directory, "ec", ".crt");

    ck_assert(files_write(in, "secret", 6, 0600, &err));
    for (size_t i = 0; i < 2; i++) {
        struct buffer sealed = BUFFER_INIT, nothing = BUFFER_INIT;

        key_files_openssl(&nothing, "cms", "-encrypt", ways[i], "-binary", "-in", in, "-outform",
                          "DER", "-out", out, crt, NULL);
        ck_assert(files_read(out, 100000, &sealed, &err));
        ck_assert(!opens(ec, sealed.data, sealed.length));
        ck_assert_int_eq(err.code, ERROR_INTEGRITY);
        buffer_free(&sealed);
    }

    struct buffer sealed = BUFFER_INIT;

    encrypt("", 0, &sealed);
    /* 04 10 and the tag become 04 04 and its beginning; the lengths around them are mended. */
    ck_assert_uint_eq(sealed.data[sealed.length - 17], 16);
    sealed.data[sealed.length - 17] = 4;
    sealed.length -= 12;
    for (size_t i = 0; i < 40; i++)
        if (sealed.data[i] == 0x82 && sealed.data[i + 2] >= 12)
            sealed.data[i + 2] = (unsigned char)(sealed.data[i + 2] - 12);
    ck_assert(!opens(ec, sealed.data, sealed.length));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    buffer_free(&sealed);
    free(crt);
    free(out);
    free(in);
}
END_TEST

static bool collect(const void *data, size_t length, void *context, struct error *error)
{
    (void)error;
    buffer_append(context, data, length);
    return true;
}

/* In a room lent. */
static bool lengthen(const void *data, size_t length, void *context, struct error *error)
{
    struct buffer *room = context;

    (void)error;
    ck_assert_ptr_eq(data, room->data + room->length);
    room->length += length;
    room->data[room->length] = '\0';
    return true;
}

static void check_pieces(const struct buffer *sealed, size_t piece, bool lent)
{
    struct buffer back = BUFFER_INIT;
    struct cms_stream *stream;

    buffer_append_string(&back, "before, ");
    stream = lent ? cms_stream_new(ec, 7, &back, lengthen, &back)
                  : cms_stream_new(ec, 7, NULL, collect, &back);
    for (size_t at = 0; at < sealed->length; at += piece) {
        size_t part = sealed->length - at < piece ? sealed->length - at : piece;
        ck_assert_msg(cms_stream_feed(stream, sealed->data + at, part, &err), "%s", err.message);
    }
    ck_assert(cms_stream_finish(stream, &err));
    ck_assert_str_eq(buffer_text(&back), "before, first, second");
    cms_stream_free(stream);
    buffer_free(&back);
}

/* The right private key opens all of them, made by openssl itself; only the first is as cms_encrypt makes them. */
START_TEST(keys_handed_over_in_other_ways_are_refused)
{
    static const char *const ways[][3] = {
        {"ec", "-aes256-wrap", "ecdh_kdf_md:sha256"},
        {"ec", "-aes256-wrap", "ecdh_kdf_md:sha1"},
        {"ec", "-aes128-wrap", "ecdh_kdf_md:sha256"},
        {"rsa", "-aes256-wrap", "rsa_padding_mode:pkcs1"},
    };
    char *in = key_files_path(directory, "plain", "");
    char *out = key_files_path(directory, "foreign", "");

    ck_assert(files_write(in, "secret", 6, 0600, &err));
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        struct buffer sealed = BUFFER_INIT, nothing = BUFFER_INIT;
        char *crt = key_files_path(directory, ways[i][0], ".crt");

        key_files_openssl(&nothing, "cms", "-encrypt", "-aes-256-gcm", "-binary", "-in", in,
                          "-outform", "DER", "-out", out, ways[i][1], "-recip", crt, "-keyopt",
                          ways[i][2], NULL);
        ck_assert(files_read(out, 100000, &sealed, &err));
        ck_assert_int_eq(opens(i < 3 ? ec : rsa, sealed.data, sealed.length), i == 0);
        ck_assert_int_eq(err.code, i == 0 ? ERROR_NONE : ERROR_INTEGRITY);
        buffer_free(&sealed);
        free(crt);
    }
    free(out);
    free(in);
}
END_TEST

START_TEST(one_behind_the_other_in_any_pieces)
{
    static const size_t pieces[] = {1, 7, 100, 1000, 100000};
    struct buffer sealed = BUFFER_INIT;

    encrypt("first, ", 7, &sealed);
    encrypt("", 0, &sealed);
    encrypt("second", 6, &sealed);
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        check_pieces(&sealed, pieces[i], false);
        check_pieces(&sealed, pieces[i], true);
    }
    buffer_free(&sealed);
}
END_TEST

START_TEST(a_stream_is_bounded_and_whole)
{
    unsigned char huge[] = {0x30, 0x84, 0x7F, 0xFF, 0xFF, 0xFF};
    struct buffer sealed = BUFFER_INIT, back = BUFFER_INIT;
    struct cms_stream *stream = cms_stream_new(ec, 1000, NULL, collect, &back);

    ck_assert(!cms_stream_feed(stream, huge, sizeof(huge), &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    cms_stream_free(stream);

    stream = cms_stream_new(ec, 1000, NULL, collect, &back);
    ck_assert(!cms_stream_feed(stream, "plain text", 10, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    cms_stream_free(stream);

    stream = cms_stream_new(ec, 1000, NULL, collect, &back);
    ck_assert(!cms_stream_finish(stream, &err));
    encrypt("text", 4, &sealed);
    ck_assert(cms_stream_feed(stream, sealed.data, sealed.length - 1, &err));
    ck_assert(!cms_stream_finish(stream, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_uint_eq(back.length, 0);
    cms_stream_free(stream);
    cms_stream_free(NULL);
    buffer_free(&sealed);
    buffer_free(&back);
}
END_TEST

Suite *cms_suite(void)
{
    Suite *suite = suite_create("cms");
    TCase *tests = tcase_create("cms");

    tcase_add_unchecked_fixture(tests, make_keys, drop_keys);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, every_recipient_opens_it);
    tcase_add_test(tests, openssl_opens_it);
    tcase_add_test(tests, no_two_are_alike);
    tcase_add_test(tests, another_key_does_not_and_says_whose_it_is);
    tcase_add_test(tests, whatever_is_changed_is_noticed);
    tcase_add_test(tests, weaker_forms_are_refused);
    tcase_add_test(tests, keys_handed_over_in_other_ways_are_refused);
    tcase_add_test(tests, one_behind_the_other_in_any_pieces);
    tcase_add_test(tests, a_stream_is_bounded_and_whole);
    suite_add_tcase(suite, tests);
    return suite;
}
