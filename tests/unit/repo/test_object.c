#include "pgvigil/object.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "pgvigil/mem.h"
#include "suites.h"
#include "support/archive.h"
#include "support/memory_store.h"
#include "support/seed.h"

#define MEGABYTE ((size_t)1024 * 1024)
#define NAME "run/20261120T020000Z/begin.json"

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

static void put(const char *name, enum trailer_kind kind, enum object_coding coding,
                const void *data, size_t length)
{
    enum store_outcome outcome;

    ck_assert_msg(object_put(repository, name, kind, coding, 1, data, length, &outcome, NULL, &err),
                  "%s", err.message);
    ck_assert_int_eq(outcome, STORE_STORED);
}

static bool get(const char *name, enum trailer_kind kind, enum object_coding coding, size_t maximum,
                struct buffer *buffer)
{
    buffer_clear(buffer);
    return object_get_buffer(repository, name, kind, coding, maximum, buffer, NULL, &err);
}

START_TEST(what_goes_in_comes_out)
{
    static const size_t lengths[] = {0, 1, 127, 128, 129, 255, 256, 257, 300000, 1048577};
    static const enum object_coding codings[] = {OBJECT_PLAIN, OBJECT_ZSTD};
    struct buffer raw = BUFFER_INIT, back = BUFFER_INIT;
    struct trailer written, found;
    enum store_outcome outcome;
    uint64_t state = seed_start("object");
    char name[32];

    for (size_t i = 0; i < 2 * sizeof(lengths) / sizeof(lengths[0]); i++) {
        size_t length = lengths[i / 2];
        enum object_coding coding = codings[i % 2];

        buffer_clear(&raw);
        buffer_reserve(&raw, length + 1);
        seed_fill(&state, raw.data, length);
        snprintf(name, sizeof(name), "object-%zu", i);
        ck_assert(object_put(repository, name, TRAILER_HISTORY, coding, 3, raw.data, length,
                             &outcome, &written, &err));
        buffer_clear(&back);
        ck_assert_msg(object_get_buffer(repository, name, TRAILER_HISTORY, coding, length, &back,
                                        &found, &err),
                      "%zu: %s", length, err.message);
        ck_assert_uint_eq(back.length, length);
        ck_assert(length == 0 || memcmp(back.data, raw.data, length) == 0);
        ck_assert_mem_eq(written.stored_sha256, found.stored_sha256, DIGEST_SHA256_SIZE);
        ck_assert_uint_eq(written.stored_length, found.stored_length);
        ck_assert_uint_eq(written.raw_length, length);
        ck_assert_uint_eq(found.raw_length, length);

        memset(&found, 0, sizeof(found));
        ck_assert(object_trailer(repository, name, TRAILER_HISTORY, &found, &err));
        ck_assert_mem_eq(found.raw_sha256, written.raw_sha256, DIGEST_SHA256_SIZE);
        digest_sha256(length > 0 ? raw.data : (const void *)"", length, found.stored_sha256);
        ck_assert_mem_eq(found.raw_sha256, found.stored_sha256, DIGEST_SHA256_SIZE);
    }
    buffer_free(&raw);
    buffer_free(&back);
}
END_TEST

/* One zstd frame for each 32 MiB, so that memory and parts stay bounded; then the trailer, which
 * zstd passes over. */
START_TEST(large_objects_have_several_frames)
{
    const size_t length = 70 * MEGABYTE + 5;
    struct object_writer *writer;
    struct buffer stored = BUFFER_INIT, back = BUFFER_INIT;
    unsigned char *raw = mem_calloc(length, 1);
    enum store_outcome outcome;
    size_t frames = 0, at = 0;

    for (size_t i = 0; i < length; i += 4096)
        raw[i] = (unsigned char)(i >> 12);
    ck_assert(object_writer_begin(repository, "big", TRAILER_WAL, OBJECT_ZSTD, 1, &writer, &err));
    for (size_t done = 0; done < length;) {
        size_t part = length - done < 777777 ? length - done : 777777;
        ck_assert(object_writer_write(writer, raw + done, part, &err));
        done += part;
    }
    ck_assert(object_writer_commit(writer, &outcome, NULL, &err));

    archive_read(repository, "big", &stored);
    while (at < stored.length - TRAILER_SIZE) {
        size_t frame = ZSTD_findFrameCompressedSize(stored.data + at, stored.length - at);
        ck_assert(!ZSTD_isError(frame));
        at += frame;
        frames++;
    }
    ck_assert_uint_eq(frames, 3);
    ck_assert_uint_eq(ZSTD_findFrameCompressedSize(stored.data + at, stored.length - at),
                      TRAILER_SIZE);
    ck_assert(get("big", TRAILER_WAL, OBJECT_ZSTD, length, &back));
    ck_assert_uint_eq(back.length, length);
    ck_assert(memcmp(back.data, raw, length) == 0);
    ck_assert(!get("big", TRAILER_WAL, OBJECT_ZSTD, length - 1, &back));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    free(raw);
    buffer_free(&stored);
    buffer_free(&back);
}
END_TEST

START_TEST(a_taken_name_is_left_alone)
{
    struct buffer back = BUFFER_INIT;
    enum store_outcome outcome;
    struct trailer trailer;

    put(NAME, TRAILER_BEGIN, OBJECT_PLAIN, "first", 5);
    ck_assert(object_put(repository, NAME, TRAILER_BEGIN, OBJECT_PLAIN, 0, "second!", 7, &outcome,
                         &trailer, &err));
    ck_assert_int_eq(outcome, STORE_TAKEN);
    ck_assert_uint_eq(trailer.raw_length, 7);
    ck_assert(get(NAME, TRAILER_BEGIN, OBJECT_PLAIN, 100, &back));
    ck_assert_str_eq(buffer_text(&back), "first");
    buffer_free(&back);
}
END_TEST

START_TEST(an_aborted_writer_leaves_nothing)
{
    struct object_writer *writer;
    struct trailer trailer;

    ck_assert(object_writer_begin(repository, NAME, TRAILER_BEGIN, OBJECT_ZSTD, 1, &writer, &err));
    ck_assert(object_writer_write(writer, "abc", 3, &err));
    object_writer_abort(writer);
    object_writer_abort(NULL);
    ck_assert(!object_trailer(repository, NAME, TRAILER_BEGIN, &trailer, &err));
    ck_assert_int_eq(err.code, ERROR_NOT_FOUND);
}
END_TEST

static void ck_damaged(const char *what, const char *why)
{
    ck_assert_msg(err.code == ERROR_INTEGRITY, "%s: %d %s", what, (int)err.code, err.message);
    ck_assert_msg(strncmp(err.message, "object \"", 8) == 0, "%s: %s", what, err.message);
    ck_assert_msg(strstr(err.message, "in repository \"test\" is damaged: ") != NULL, "%s: %s",
                  what, err.message);
    ck_assert_msg(strstr(err.message, why) != NULL, "%s: %s", what, err.message);
}

/* Any change of any bit, any cut, and anything behind the end. */
START_TEST(every_damage_is_noticed)
{
    enum object_coding coding = _i == 0 ? OBJECT_PLAIN : OBJECT_ZSTD;
    struct buffer good = BUFFER_INIT, bad = BUFFER_INIT, back = BUFFER_INIT;
    struct trailer trailer;
    char raw[600];

    for (size_t i = 0; i < sizeof(raw); i++)
        raw[i] = "the quick brown fox "[i % 20];
    put(NAME, TRAILER_BACKUP_HISTORY, coding, raw, sizeof(raw));
    archive_read(repository, NAME, &good);
    for (size_t i = 0; i < good.length; i++) {
        good.data[i] ^= (unsigned char)(1 << i % 8);
        archive_replace(repository, NAME, good.data, good.length);
        ck_assert_msg(!get(NAME, TRAILER_BACKUP_HISTORY, coding, 1000, &back), "byte %zu", i);
        ck_damaged("flip", "");
        ck_assert_uint_eq(back.length, 0);
        good.data[i] ^= (unsigned char)(1 << i % 8);
    }
    for (size_t length = 0; length < good.length; length++) {
        archive_replace(repository, NAME, good.data, length);
        ck_assert(!get(NAME, TRAILER_BACKUP_HISTORY, coding, 1000, &back));
        ck_damaged("cut", length < TRAILER_SIZE ? "too short" : "truncated");
        ck_assert(!object_trailer(repository, NAME, TRAILER_BACKUP_HISTORY, &trailer, &err));
        ck_damaged("cut", length < TRAILER_SIZE ? "too short" : "truncated");
    }
    buffer_append(&bad, good.data, good.length);
    buffer_append(&bad, "x", 1);
    archive_replace(repository, NAME, bad.data, bad.length);
    ck_assert(!get(NAME, TRAILER_BACKUP_HISTORY, coding, 1000, &back));
    ck_damaged("extended", "no trailer");
    /* The trailer twice: valid by itself, but of a shorter object. */
    buffer_clear(&bad);
    buffer_append(&bad, good.data, good.length);
    buffer_append(&bad, good.data + good.length - TRAILER_SIZE, TRAILER_SIZE);
    archive_replace(repository, NAME, bad.data, bad.length);
    ck_assert(!get(NAME, TRAILER_BACKUP_HISTORY, coding, 1000, &back));
    ck_damaged("extended", "bytes before its trailer");
    ck_assert(!object_trailer(repository, NAME, TRAILER_BACKUP_HISTORY, &trailer, &err));
    ck_damaged("extended", "bytes before its trailer");

    archive_replace(repository, NAME, good.data, good.length);
    ck_assert(get(NAME, TRAILER_BACKUP_HISTORY, coding, 1000, &back));
    buffer_free(&good);
    buffer_free(&bad);
    buffer_free(&back);
}
END_TEST

START_TEST(an_object_belongs_to_its_name)
{
    struct buffer bytes = BUFFER_INIT, back = BUFFER_INIT;
    struct trailer trailer;

    put("one", TRAILER_PACK, OBJECT_PLAIN, "content", 7);
    archive_read(repository, "one", &bytes);
    archive_replace(repository, "two", bytes.data, bytes.length);
    ck_assert(!get("two", TRAILER_PACK, OBJECT_PLAIN, 100, &back));
    ck_damaged("renamed", "another name or for another cluster");
    ck_assert(!object_trailer(repository, "two", TRAILER_PACK, &trailer, &err));
    ck_damaged("renamed", "another name or for another cluster");
    /* To a decoder it is rubbish, but that is not what is wrong with it. */
    ck_assert(!get("two", TRAILER_PACK, OBJECT_ZSTD, 100, &back));
    ck_damaged("renamed", "another name or for another cluster");

    ck_assert(!get("one", TRAILER_MANIFEST, OBJECT_PLAIN, 100, &back));
    ck_damaged("kind", "it is a pack, where a manifest was expected");

    repository_select(repository, ARCHIVE_SYSTEM + 1);
    archive_replace(repository, "one", bytes.data, bytes.length);
    ck_assert(!get("one", TRAILER_PACK, OBJECT_PLAIN, 100, &back));
    ck_damaged("cluster", "another name or for another cluster");
    buffer_free(&bytes);
    buffer_free(&back);
}
END_TEST

/* Bytes and trailer agree, only somebody lied when it was made. */
static void forge(const char *name, const void *stored, size_t length, uint64_t raw_length,
                  const void *raw)
{
    struct buffer bytes = BUFFER_INIT;
    struct trailer trailer = {
        .kind = TRAILER_HISTORY, .stored_length = length, .raw_length = raw_length};
    unsigned char encoded[TRAILER_SIZE];

    digest_sha256(stored, length, trailer.stored_sha256);
    digest_sha256(raw, (size_t)raw_length, trailer.raw_sha256);
    trailer_name_digest(ARCHIVE_SYSTEM, name, trailer.name);
    trailer_encode(&trailer, encoded);
    buffer_append(&bytes, stored, length);
    buffer_append(&bytes, encoded, sizeof(encoded));
    archive_replace(repository, name, bytes.data, bytes.length);
    buffer_free(&bytes);
}

/* One frame, with a checksum of its content or without. */
static size_t squeeze(const void *data, size_t length, int checksum, void *out, size_t room)
{
    ZSTD_CCtx *zstd = ZSTD_createCCtx();
    size_t result;

    ZSTD_CCtx_setParameter(zstd, ZSTD_c_checksumFlag, checksum);
    result = ZSTD_compress2(zstd, out, room, data, length);
    ck_assert(!ZSTD_isError(result));
    ZSTD_freeCCtx(zstd);
    return result;
}

START_TEST(lies_are_noticed)
{
    struct buffer back = BUFFER_INIT;
    unsigned char *zeros = mem_calloc(MEGABYTE, 1);
    unsigned char compressed[8192];
    size_t length = squeeze(zeros, MEGABYTE, 1, compressed, sizeof(compressed));

    forge("good", compressed, length, MEGABYTE, zeros);
    ck_assert_msg(get("good", TRAILER_HISTORY, OBJECT_ZSTD, MEGABYTE, &back), "%s", err.message);
    ck_assert(!get("good", TRAILER_HISTORY, OBJECT_ZSTD, MEGABYTE - 1, &back));
    ck_damaged("bomb", "more");
    forge("short", compressed, length, MEGABYTE - 1, zeros);
    ck_assert(!get("short", TRAILER_HISTORY, OBJECT_ZSTD, MEGABYTE, &back));
    ck_damaged("short", "it holds 1048576 bytes, its trailer says 1048575");
    compressed[length - 1] ^= 1;
    forge("other", compressed, length, MEGABYTE, zeros);
    ck_assert(!get("other", TRAILER_HISTORY, OBJECT_ZSTD, MEGABYTE, &back));
    ck_damaged("other", "checksum");
    length = squeeze(zeros, MEGABYTE, 0, compressed, sizeof(compressed));
    forge("unchecked", compressed, length, MEGABYTE, zeros);
    ck_assert(!get("unchecked", TRAILER_HISTORY, OBJECT_ZSTD, MEGABYTE, &back));
    ck_damaged("unchecked", "a zstd frame has no checksum");
    length = squeeze(zeros, MEGABYTE, 1, compressed, sizeof(compressed));
    forge("half", compressed, length - 1, MEGABYTE, zeros);
    ck_assert(!get("half", TRAILER_HISTORY, OBJECT_ZSTD, MEGABYTE, &back));
    ck_damaged("half", "");
    forge("empty", "", 0, 0, "");
    ck_assert(get("empty", TRAILER_HISTORY, OBJECT_ZSTD, MEGABYTE, &back));
    ck_assert_uint_eq(back.length, 0);
    free(zeros);
    buffer_free(&back);
}
END_TEST

/* Frames of nothing, skippable ones or empty ones, are no way to keep a reader busy for ever. */
START_TEST(frames_of_nothing_have_an_end)
{
    static const unsigned char skippable[8] = {0x50, 0x2a, 0x4d, 0x18};
    unsigned char empty[32];
    const size_t empty_length = squeeze("", 0, 1, empty, sizeof(empty));
    struct buffer frames = BUFFER_INIT, back = BUFFER_INIT;

    for (int many = 0; many < 2; many++) {
        buffer_clear(&frames);
        while (frames.length < (many ? 3 * MEGABYTE : MEGABYTE / 2)) {
            buffer_append(&frames, skippable, sizeof(skippable));
            buffer_append(&frames, empty, empty_length);
        }
        forge("nothing", frames.data, frames.length, 0, "");
        ck_assert_int_eq(get("nothing", TRAILER_HISTORY, OBJECT_ZSTD, MEGABYTE, &back), !many);
    }
    ck_damaged("nothing", "it is longer than the 1048576 bytes it may hold could make it");
    buffer_free(&frames);
    buffer_free(&back);
}
END_TEST

static bool refuse(const void *data, size_t length, void *context, struct error *error)
{
    (void)data;
    (void)length;
    (void)context;
    return error_set(error, ERROR_INTEGRITY, "the receiver's own reason");
}

START_TEST(whose_error_it_is)
{
    struct buffer back = BUFFER_INIT;
    struct trailer trailer;

    put("one", TRAILER_PACK, OBJECT_ZSTD, "content", 7);
    ck_assert(
        !object_get(repository, "one", TRAILER_PACK, OBJECT_ZSTD, 100, refuse, NULL, NULL, &err));
    ck_assert_str_eq(err.message, "the receiver's own reason");

    ck_assert(!get("absent", TRAILER_PACK, OBJECT_PLAIN, 100, &back));
    ck_assert_int_eq(err.code, ERROR_NOT_FOUND);
    ck_assert_str_eq(err.message, "there is no object \"absent\" in repository \"test\"");

    memory_store_break(repository->store, true);
    ck_assert(!get("one", TRAILER_PACK, OBJECT_ZSTD, 100, &back));
    ck_assert_int_eq(err.code, ERROR_STORE);
    ck_assert(!object_trailer(repository, "one", TRAILER_PACK, &trailer, &err));
    ck_assert_int_eq(err.code, ERROR_STORE);
    memory_store_break(repository->store, false);
    buffer_free(&back);
}
END_TEST

START_TEST(a_buffer_keeps_what_was_in_it)
{
    struct buffer buffer = BUFFER_INIT;

    put("one", TRAILER_PACK, OBJECT_PLAIN, "content", 7);
    buffer_append_string(&buffer, "before ");
    ck_assert(
        object_get_buffer(repository, "one", TRAILER_PACK, OBJECT_PLAIN, 7, &buffer, NULL, &err));
    ck_assert_str_eq(buffer_text(&buffer), "before content");
    ck_assert(
        !object_get_buffer(repository, "one", TRAILER_PACK, OBJECT_PLAIN, 6, &buffer, NULL, &err));
    ck_assert_str_eq(buffer_text(&buffer), "before content");
    buffer_free(&buffer);
}
END_TEST

Suite *object_suite(void)
{
    Suite *suite = suite_create("object");
    TCase *tests = tcase_create("object");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, what_goes_in_comes_out);
    tcase_add_test(tests, large_objects_have_several_frames);
    tcase_add_test(tests, a_taken_name_is_left_alone);
    tcase_add_test(tests, an_aborted_writer_leaves_nothing);
    tcase_add_loop_test(tests, every_damage_is_noticed, 0, 2);
    tcase_add_test(tests, an_object_belongs_to_its_name);
    tcase_add_test(tests, lies_are_noticed);
    tcase_add_test(tests, frames_of_nothing_have_an_end);
    tcase_add_test(tests, whose_error_it_is);
    tcase_add_test(tests, a_buffer_keeps_what_was_in_it);
    suite_add_tcase(suite, tests);
    return suite;
}
