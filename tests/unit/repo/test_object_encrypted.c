#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/cms.h"
#include "pgvigil/keyring.h"
#include "pgvigil/layout.h"
#include "pgvigil/mem.h"
#include "pgvigil/object.h"
#include "suites.h"
#include "support/archive.h"
#include "support/key_files.h"
#include "support/listing.h"
#include "support/scratch.h"
#include "support/seed.h"

#define MEGABYTE ((size_t)1024 * 1024)
#define PACK "pack/20261120T020000Z/00000001.zst"
#define SEGMENT "wal/00000001/0000000100000000/000000010000000000000007.zst"
#define MANIFEST "backup/20261120T020000Z/manifest.sqlite.zst"

static char *directory;
static struct config config; /* recipient "a", identity "a" */
static char *crt[1], *key[1];
static struct repository *repository;
static struct error err;

static void use_keys(char *recipient, char *identity)
{
    keyring_free(repository->keyring);
    crt[0] = recipient;
    key[0] = identity;
    config.encryption.recipients = (struct config_paths){.paths = crt, .count = recipient ? 1 : 0};
    config.encryption.identity = (struct config_paths){.paths = key, .count = identity ? 1 : 0};
    repository->keyring = keyring_new(&config);
}

static char *a_crt, *a_key, *b_key;

static void set_up(void)
{
    directory = scratch_make();
    key_files_make(directory, "a", KEYPAIR_EC, NULL);
    key_files_make(directory, "b", KEYPAIR_EC, NULL);
    a_crt = key_files_path(directory, "a", ".crt");
    a_key = key_files_path(directory, "a", ".key");
    b_key = key_files_path(directory, "b", ".key");
    repository = archive_repository();
    repository->encrypted = true;
    use_keys(a_crt, a_key);
    error_clear(&err);
}

static void tear_down(void)
{
    archive_free_repository(repository);
    free(a_crt);
    free(a_key);
    free(b_key);
    scratch_remove(directory);
}

static void put(const char *name, enum trailer_kind kind, enum object_coding coding,
                const void *data, size_t length)
{
    enum store_outcome outcome;

    ck_assert_msg(object_put(repository, name, kind, coding, 1, data, length, &outcome, NULL, &err),
                  "%s", err.message);
    ck_assert_int_eq(outcome, STORE_STORED);
}

static bool get(const char *name, enum trailer_kind kind, enum object_coding coding,
                struct buffer *back)
{
    buffer_clear(back);
    return object_get_buffer(repository, name, kind, coding, 80 * MEGABYTE, back, NULL, &err);
}

static void ck_refused(bool ok, enum error_code code, const char *message, const char *hint)
{
    ck_assert(!ok);
    ck_assert_msg(err.code == code, "code %d: %s", (int)err.code, err.message);
    ck_assert_msg(strstr(err.message, message) != NULL, "%s", err.message);
    ck_assert_msg(strstr(err.hint, hint) != NULL, "hint: %s", err.hint);
    error_clear(&err);
}

START_TEST(what_is_secret_is_encrypted)
{
    static const struct {
        const char *name;
        enum trailer_kind kind;
        enum object_coding coding;
        bool secret;
    } objects[] = {
        {PACK, TRAILER_PACK, OBJECT_PLAIN, true},
        {SEGMENT, TRAILER_WAL, OBJECT_ZSTD, true},
        {MANIFEST, TRAILER_MANIFEST, OBJECT_ZSTD, true},
        {"wal/00000001/0000000100000000/000000010000000000000007.00000028.backup.zst",
         TRAILER_BACKUP_HISTORY, OBJECT_ZSTD, true},
        {"wal/00000002/00000002.history.zst", TRAILER_HISTORY, OBJECT_ZSTD, false},
        {"backup/20261120T020000Z/refs.zst", TRAILER_REFS, OBJECT_ZSTD, false},
        {"backup/20261120T020000Z/backup.json", TRAILER_BACKUP, OBJECT_PLAIN, false},
        {"run/20261120T020000Z/begin.json", TRAILER_BEGIN, OBJECT_PLAIN, false},
    };
    struct buffer stored = BUFFER_INIT, back = BUFFER_INIT;

    for (size_t i = 0; i < sizeof(objects) / sizeof(objects[0]); i++) {
        char *name = mem_printf("main/%llu/%s%s", (unsigned long long)ARCHIVE_SYSTEM,
                                objects[i].name, objects[i].secret ? ".cms" : "");
        struct trailer trailer;

        put(objects[i].name, objects[i].kind, objects[i].coding, "some words", 10);
        buffer_clear(&stored);
        ck_assert_msg(store_get_buffer(repository->store, name, MEGABYTE, &stored, &err), "%s: %s",
                      name, err.message);
        ck_assert_int_eq(memmem(stored.data, stored.length, "some words", 10) == NULL,
                         objects[i].secret);
        ck_assert(object_trailer(repository, objects[i].name, objects[i].kind, &trailer, &err));
        ck_assert_int_eq(trailer.encrypted, objects[i].secret);
        ck_assert_uint_eq(trailer.raw_length, 10);
        ck_assert(get(objects[i].name, objects[i].kind, objects[i].coding, &back));
        ck_assert_str_eq(buffer_text(&back), "some words");
        free(name);
    }
    buffer_free(&stored);
    buffer_free(&back);
}
END_TEST

START_TEST(all_lengths_come_back)
{
    static const size_t lengths[] = {0, 1, 300000, 32 * MEGABYTE, 32 * MEGABYTE + 1, 70 * MEGABYTE};
    static const enum object_coding codings[] = {OBJECT_PLAIN, OBJECT_ZSTD};
    struct buffer back = BUFFER_INIT;
    uint64_t state = seed_start("object_encrypted");
    unsigned char *raw = mem_alloc(70 * MEGABYTE);

    seed_fill(&state, raw, 300000);
    memset(raw + 300000, 'x', 70 * MEGABYTE - 300000);
    for (size_t i = 0; i < 2 * sizeof(lengths) / sizeof(lengths[0]); i++) {
        struct layout_pack pack = {.run = 1795140000, .number = (uint32_t)i + 1};
        char name[LAYOUT_NAME_SIZE];
        enum object_coding coding = codings[i % 2];

        layout_pack(&pack, name);
        put(name, TRAILER_PACK, coding, raw, lengths[i / 2]);
        ck_assert_msg(get(name, TRAILER_PACK, coding, &back), "%s", err.message);
        ck_assert_uint_eq(back.length, lengths[i / 2]);
        ck_assert(back.length == 0 || memcmp(back.data, raw, back.length) == 0);
    }
    buffer_free(&back);
    free(raw);
}
END_TEST

START_TEST(scratch_bytes_are_encrypted_in_place)
{
    char text[] = "what was read from the database";
    struct buffer back = BUFFER_INIT;
    enum store_outcome outcome;

    ck_assert(object_put_scratch(repository, PACK, TRAILER_PACK, text, sizeof(text), &outcome, NULL,
                                 &err));
    ck_assert_ptr_null(memmem(text, sizeof(text), "what", 4));
    ck_assert(get(PACK, TRAILER_PACK, OBJECT_PLAIN, &back));
    ck_assert_str_eq(buffer_text(&back), "what was read from the database");
    buffer_free(&back);
}
END_TEST

START_TEST(keys_that_are_needed)
{
    struct buffer back = BUFFER_INIT;
    enum store_outcome outcome;
    struct trailer trailer;

    put(SEGMENT, TRAILER_WAL, OBJECT_ZSTD, "words", 5);
    use_keys(a_crt, NULL);
    ck_refused(get(SEGMENT, TRAILER_WAL, OBJECT_ZSTD, &back), ERROR_CONFIG,
               "reading it needs a private key", "\"identity\"");
    ck_assert(object_trailer(repository, SEGMENT, TRAILER_WAL, &trailer, &err));
    ck_refused(get(PACK, TRAILER_PACK, OBJECT_PLAIN, &back), ERROR_NOT_FOUND, "there is no object",
               "");
    use_keys(a_crt, b_key);
    ck_refused(get(SEGMENT, TRAILER_WAL, OBJECT_ZSTD, &back), ERROR_CONFIG,
               "the private key given does not open it", "\"identity\"");
    use_keys(NULL, a_key);
    ck_assert(get(SEGMENT, TRAILER_WAL, OBJECT_ZSTD, &back));
    ck_refused(
        object_put(repository, PACK, TRAILER_PACK, OBJECT_PLAIN, 0, "x", 1, &outcome, NULL, &err),
        ERROR_CONFIG, "no recipients", "\"recipients\"");
    buffer_free(&back);
}
END_TEST

/* Whether the key is there or not, damage is called damage, and gives nothing out. */
START_TEST(every_damage_is_noticed)
{
    struct buffer stored = BUFFER_INIT, back = BUFFER_INIT;

    put(PACK, TRAILER_PACK, OBJECT_PLAIN, "thirty bytes of something here", 30);
    archive_read(repository, PACK, &stored);
    for (size_t i = 0; i < stored.length; i += _i == 0 ? 1 : 7) {
        if (_i == 1)
            use_keys(a_crt, NULL);
        stored.data[i] ^= 1;
        archive_replace(repository, PACK, stored.data, stored.length);
        ck_refused(get(PACK, TRAILER_PACK, OBJECT_PLAIN, &back), ERROR_INTEGRITY, "is damaged", "");
        ck_assert_uint_eq(back.length, 0);
        stored.data[i] ^= 1;
    }
    for (size_t length = 0; length < stored.length; length += 5) {
        archive_replace(repository, PACK, stored.data, length);
        ck_refused(get(PACK, TRAILER_PACK, OBJECT_PLAIN, &back), ERROR_INTEGRITY, "", "");
    }
    buffer_free(&stored);
    buffer_free(&back);
}
END_TEST

/* Puts an object under a name as somebody would who can write to the place, but has no key. */
static void forge(const char *stored_name, bool encrypted, const void *data, size_t length)
{
    struct trailer trailer = {.kind = TRAILER_PACK,
                              .encrypted = encrypted,
                              .stored_length = length,
                              .raw_length = encrypted ? 0 : length};
    char *full = mem_printf("%s%s", repository->prefix, stored_name);
    unsigned char bytes[TRAILER_SIZE];
    enum store_outcome outcome;
    struct store_put *into;

    digest_sha256(data, length, trailer.stored_sha256);
    trailer_name_digest(ARCHIVE_SYSTEM, stored_name, trailer.name);
    trailer_encode(&trailer, bytes);
    ck_assert(store_put_begin(repository->store, full, STORE_DATA, &into, &err));
    ck_assert(store_put_write(into, data, length, &err));
    ck_assert(store_put_write(into, bytes, sizeof(bytes), &err));
    ck_assert(store_put_commit(into, &outcome, &err));
    ck_assert_int_eq(outcome, STORE_STORED);
    free(full);
}

START_TEST(nothing_plain_can_be_slipped_in)
{
    struct buffer back = BUFFER_INIT;
    char name[STORE_NAME_MAXIMUM + 1];
    int listed = 0;
    bool found;

    /* under the plain name: it is not there */
    forge(PACK, false, "evil", 4);
    ck_refused(get(PACK, TRAILER_PACK, OBJECT_PLAIN, &back), ERROR_NOT_FOUND, "", "");
    ck_assert(repository_list(repository, "pack/", NULL, listing_count, &listed, &err));
    ck_assert_int_eq(listed, 0);
    ck_assert(repository_first(repository, "", NULL, name, &found, &err));
    ck_assert(!found);
    /* under the encrypted one, said to be plain; and with nothing in it that would need a key */
    forge(PACK ".cms", false, "evil", 4);
    ck_refused(get(PACK, TRAILER_PACK, OBJECT_PLAIN, &back), ERROR_INTEGRITY, "is not encrypted",
               "");
    forge("pack/20261120T020000Z/00000002.zst.cms", true, "", 0);
    ck_refused(get("pack/20261120T020000Z/00000002.zst", TRAILER_PACK, OBJECT_PLAIN, &back),
               ERROR_INTEGRITY, "cannot be decrypted", "");
    ck_refused(get("pack/20261120T020000Z/00000002.zst", TRAILER_PACK, OBJECT_ZSTD, &back),
               ERROR_INTEGRITY, "cannot be decrypted", "");
    buffer_free(&back);
}
END_TEST

START_TEST(and_nothing_encrypted_into_a_plain_one)
{
    struct buffer back = BUFFER_INIT;

    repository->encrypted = false;
    forge(PACK, true, "abc", 3);
    ck_refused(get(PACK, TRAILER_PACK, OBJECT_PLAIN, &back), ERROR_INTEGRITY, "it is encrypted",
               "");
    forge("pack/20261120T020000Z/00000002.zst.cms", true, "abc", 3);
    ck_refused(get("pack/20261120T020000Z/00000002.zst", TRAILER_PACK, OBJECT_PLAIN, &back),
               ERROR_NOT_FOUND, "", "");
    buffer_free(&back);
}
END_TEST

START_TEST(lists_go_by_plain_names)
{
    char name[STORE_NAME_MAXIMUM + 1];
    int listed = 0;
    bool found;

    put(SEGMENT, TRAILER_WAL, OBJECT_ZSTD, "words", 5);
    put("wal/00000001/0000000100000000/000000010000000000000008.zst", TRAILER_WAL, OBJECT_ZSTD,
        "words", 5);
    put("wal/00000002/00000002.history.zst", TRAILER_HISTORY, OBJECT_ZSTD, "words", 5);
    ck_assert(repository_list(repository, "wal/", NULL, listing_count, &listed, &err));
    ck_assert_int_eq(listed, 3);
    ck_assert(repository_first(repository, "wal/", NULL, name, &found, &err));
    ck_assert_str_eq(name, SEGMENT);
    ck_assert(repository_first(repository, "wal/", SEGMENT, name, &found, &err));
    ck_assert_str_eq(name, "wal/00000001/0000000100000000/000000010000000000000008.zst");
    ck_assert(repository_first(repository, "wal/", name, name, &found, &err));
    ck_assert_str_eq(name, "wal/00000002/00000002.history.zst");
}
END_TEST

Suite *object_encrypted_suite(void)
{
    Suite *suite = suite_create("object_encrypted");
    TCase *tests = tcase_create("object_encrypted");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, what_is_secret_is_encrypted);
    tcase_add_test(tests, all_lengths_come_back);
    tcase_add_test(tests, scratch_bytes_are_encrypted_in_place);
    tcase_add_test(tests, keys_that_are_needed);
    tcase_add_loop_test(tests, every_damage_is_noticed, 0, 2);
    tcase_add_test(tests, nothing_plain_can_be_slipped_in);
    tcase_add_test(tests, and_nothing_encrypted_into_a_plain_one);
    tcase_add_test(tests, lists_go_by_plain_names);
    suite_add_tcase(suite, tests);
    return suite;
}
