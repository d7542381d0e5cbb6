#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "pgvigil/compress.h"
#include "pgvigil/decompress.h"
#include "suites.h"
#include "support/seed.h"

#define SIZE ((size_t)490000) /* several of zstd's stream buffers */

static struct compress_context *packer;
static struct decompress_context *unpacker;
static unsigned char *text; /* SIZE bytes that compress about threefold */
static struct error err;

static void set_up(void)
{
    uint64_t state = seed_start("compress");

    packer = compress_new(1);
    unpacker = decompress_new();
    text = malloc(SIZE);
    ck_assert_ptr_nonnull(text);
    for (size_t i = 0; i < SIZE; i++)
        text[i] = (unsigned char)(seed_next(&state) % 6 + 'a');
    error_clear(&err);
}

static void tear_down(void)
{
    compress_free(packer);
    decompress_free(unpacker);
    free(text);
}

static size_t make_frame(const void *data, size_t length, unsigned char **frame)
{
    size_t result = 0, capacity = compress_bound(length);

    *frame = malloc(capacity);
    ck_assert_ptr_nonnull(*frame);
    ck_assert_msg(compress_frame(packer, data, length, *frame, capacity, &result, &err), "%s",
                  err.message);
    return result;
}

START_TEST(frame_round_trip)
{
    static const size_t lengths[] = {0, 1, 8192, 262144, SIZE};

    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        unsigned char *frame, *back = malloc(lengths[i] + 1);
        size_t length = make_frame(text, lengths[i], &frame), got = 99;

        ck_assert_uint_eq(ZSTD_getFrameContentSize(frame, length), lengths[i]);
        /* RFC 8878, 3.1.1.1.1.5: bit 2 of the descriptor says that a checksum follows. */
        ck_assert_int_eq(frame[4] & 4, 0);
        ck_assert_msg(decompress_frame(unpacker, frame, length, back, lengths[i], &got, &err), "%s",
                      err.message);
        ck_assert_uint_eq(got, lengths[i]);
        ck_assert(memcmp(back, text, got) == 0);
        free(frame);
        free(back);
    }
}
END_TEST

START_TEST(frame_without_room)
{
    unsigned char out[128];
    size_t length;

    ck_assert(!compress_frame(packer, text, SIZE, out, sizeof(out), &length, &err));
    ck_assert_int_eq(err.code, ERROR_SYSTEM);
    ck_assert(compress_frame(packer, "x", 1, out, sizeof(out), &length, &err));
}
END_TEST

static void check_frame_refused(const void *frame, size_t length, size_t capacity)
{
    unsigned char *back = malloc(capacity + 1);
    unsigned char *copy = malloc(length + 1); /* so that reading too far is noticed */
    size_t got;

    memcpy(copy, frame, length);
    copy = realloc(copy, length > 0 ? length : 1);
    error_clear(&err);
    ck_assert(!decompress_frame(unpacker, copy, length, back, capacity, &got, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_str_ne(err.message, "");
    free(copy);
    free(back);
}

START_TEST(frame_refused)
{
    unsigned char *frame, two[4096];
    size_t length = make_frame(text, 1000, &frame);

    for (size_t cut = 0; cut < length; cut++)
        check_frame_refused(frame, cut, 1000);
    check_frame_refused(frame, length, 999);
    check_frame_refused(frame, length, 0);

    memcpy(two, frame, length);
    memcpy(two + length, frame, length);
    check_frame_refused(two, 2 * length, 2000);
    check_frame_refused(two, length + 1, 2000);
    check_frame_refused("\x50\x2a\x4d\x18\x00\x00\x00\x00", 8, 1000); /* skippable */
    check_frame_refused("\x27\xb5\x2f\xfd\x00\x00\x00\x00", 8, 1000); /* of zstd 0.7 */
    free(frame);
}
END_TEST

/* Whatever a header says: no more than asked, no crash, and another frame works afterwards. */
START_TEST(frame_damaged)
{
    unsigned char *frame, back[1000];
    size_t length = make_frame(text, 1000, &frame), got;

    for (size_t bit = 0; bit < length * 8; bit++) {
        frame[bit / 8] ^= (unsigned char)(1 << bit % 8);
        if (decompress_frame(unpacker, frame, length, back, sizeof(back), &got, &err))
            ck_assert_uint_le(got, sizeof(back));
        else
            ck_assert_int_eq(err.code, ERROR_INTEGRITY);
        frame[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    ck_assert(decompress_frame(unpacker, frame, length, back, sizeof(back), &got, &err));
    ck_assert(memcmp(back, text, 1000) == 0);
    free(frame);
}
END_TEST

struct received {
    struct buffer bytes;
    size_t refuse_after;
    size_t calls;
};

static bool receive(const void *data, size_t length, void *context, struct error *error)
{
    struct received *received = context;

    ck_assert_uint_gt(length, 0);
    received->calls++;
    buffer_append(&received->bytes, data, length);
    return received->bytes.length <= received->refuse_after ||
           error_set(error, ERROR_CANCELLED, "that is enough");
}

static bool feed(const unsigned char *data, size_t length, size_t piece)
{
    for (size_t at = 0; at < length; at += piece)
        if (!decompress_feed(unpacker, data + at, piece < length - at ? piece : length - at, &err))
            return false;
    return decompress_finish(unpacker, &err);
}

static void make_stream(struct buffer *out)
{
    for (size_t at = 0; at < SIZE; at += 7000)
        ck_assert_msg(compress_chunk(packer, text + at, 7000, out, &err), "%s", err.message);
    ck_assert(compress_chunk(packer, NULL, 0, out, &err));
    ck_assert(compress_end(packer, out, &err));
}

START_TEST(stream_round_trip)
{
    static const size_t pieces[] = {1, 3, 1000, 131072, SIZE};
    struct buffer stream = BUFFER_INIT;

    /* Two frames, an empty one, and a skippable one between them. */
    make_stream(&stream);
    ck_assert_int_eq(stream.data[stream.length], '\0');
    ck_assert(compress_end(packer, &stream, &err));
    buffer_append(&stream, "\x5e\x2a\x4d\x18\x03\x00\x00\x00xyz", 11);
    make_stream(&stream);

    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        struct received received = {.refuse_after = SIZE_MAX};

        decompress_start(unpacker, DECOMPRESS_ANY, 2 * SIZE, receive, &received);
        ck_assert_msg(feed(stream.data, stream.length, pieces[i]), "%s", err.message);
        ck_assert_uint_eq(received.bytes.length, 2 * SIZE);
        ck_assert(memcmp(received.bytes.data, text, SIZE) == 0);
        ck_assert(memcmp(received.bytes.data + SIZE, text, SIZE) == 0);
        /* However it came in, each frame goes out in one piece. */
        ck_assert_uint_eq(received.calls, 2);
        buffer_free(&received.bytes);
    }
    buffer_free(&stream);
}
END_TEST

START_TEST(stream_bounded)
{
    struct buffer stream = BUFFER_INIT;
    struct received received = {.refuse_after = SIZE_MAX};

    make_stream(&stream);
    decompress_start(unpacker, DECOMPRESS_ANY, SIZE - 1, receive, &received);
    ck_assert(!feed(stream.data, stream.length, 5000));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_uint_lt(received.bytes.length, SIZE);
    /* Over with this stream. */
    ck_assert(!decompress_feed(unpacker, stream.data, 1, &err));
    ck_assert(!decompress_finish(unpacker, &err));

    buffer_clear(&received.bytes);
    decompress_start(unpacker, DECOMPRESS_ANY, SIZE, receive, &received);
    ck_assert(feed(stream.data, stream.length, 5000));
    buffer_free(&received.bytes);
    buffer_free(&stream);
}
END_TEST

START_TEST(stream_cut)
{
    struct buffer stream = BUFFER_INIT;
    struct received received = {.refuse_after = SIZE_MAX};

    ck_assert(compress_chunk(packer, text, 300, &stream, &err));
    ck_assert(compress_end(packer, &stream, &err));
    for (size_t cut = 0; cut < stream.length; cut++) {
        decompress_start(unpacker, DECOMPRESS_ANY, SIZE, receive, &received);
        error_clear(&err);
        /* Nothing at all is an empty stream. */
        ck_assert_int_eq(feed(stream.data, cut, 10), cut == 0);
        ck_assert_int_eq(err.code, cut == 0 ? ERROR_NONE : ERROR_INTEGRITY);
    }
    buffer_free(&received.bytes);
    buffer_free(&stream);
}
END_TEST

/* What is not checked by digests of its own must come with a checksum, and that is checked. */
START_TEST(stream_checksummed)
{
    struct buffer stream = BUFFER_INIT;
    struct received received = {.refuse_after = SIZE_MAX};
    unsigned char *frame;
    size_t length = make_frame(text, SIZE, &frame);

    make_stream(&stream);
    for (size_t piece = 1; piece <= stream.length; piece *= 7) {
        decompress_start(unpacker, DECOMPRESS_CHECKSUMMED, SIZE, receive, &received);
        ck_assert_msg(feed(stream.data, stream.length, piece), "%s", err.message);
    }
    stream.data[stream.length - 1] ^= 1;
    decompress_start(unpacker, DECOMPRESS_CHECKSUMMED, SIZE, receive, &received);
    ck_assert(!feed(stream.data, stream.length, stream.length));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_ptr_nonnull(strstr(err.message, "checksum"));
    stream.data[stream.length - 1] ^= 1;

    buffer_append(&stream, frame, length);
    decompress_start(unpacker, DECOMPRESS_CHECKSUMMED, 2 * SIZE, receive, &received);
    ck_assert(!feed(stream.data, stream.length, 1000));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_str_eq(err.message, "a zstd frame has no checksum of its content");
    decompress_start(unpacker, DECOMPRESS_ANY, 2 * SIZE, receive, &received);
    ck_assert(feed(stream.data, stream.length, 1000));
    free(frame);
    buffer_free(&received.bytes);
    buffer_free(&stream);
}
END_TEST

START_TEST(stream_with_something_else)
{
    struct buffer stream = BUFFER_INIT;
    struct received received = {.refuse_after = SIZE_MAX};

    ck_assert(compress_chunk(packer, text, 300, &stream, &err));
    ck_assert(compress_end(packer, &stream, &err));
    buffer_append_string(&stream, "rubbish");
    decompress_start(unpacker, DECOMPRESS_ANY, SIZE, receive, &received);
    ck_assert(!feed(stream.data, stream.length, 1));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    decompress_start(unpacker, DECOMPRESS_ANY, SIZE, receive, &received);
    ck_assert(!feed((const unsigned char *)"\x27\xb5\x2f\xfd\x00\x00", 6, 6)); /* of zstd 0.7 */
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    buffer_free(&received.bytes);
    buffer_free(&stream);
}
END_TEST

START_TEST(stream_sink_refuses)
{
    struct buffer stream = BUFFER_INIT;
    struct received received = {.refuse_after = 1000};

    make_stream(&stream);
    decompress_start(unpacker, DECOMPRESS_ANY, SIZE, receive, &received);
    ck_assert(!feed(stream.data, stream.length, 5000));
    ck_assert_int_eq(err.code, ERROR_CANCELLED);
    ck_assert(!decompress_finish(unpacker, &err));
    buffer_free(&received.bytes);
    buffer_free(&stream);
}
END_TEST

/* A frame in the middle of a stream ends the stream, on both sides. */
START_TEST(frame_ends_stream)
{
    struct buffer stream = BUFFER_INIT;
    struct received received = {.refuse_after = SIZE_MAX};
    unsigned char *frame, back[100];
    size_t got, length;

    ck_assert(compress_chunk(packer, text, 3000, &stream, &err));
    length = make_frame(text, 100, &frame);
    buffer_clear(&stream);
    make_stream(&stream);

    decompress_start(unpacker, DECOMPRESS_ANY, SIZE, receive, &received);
    ck_assert(decompress_feed(unpacker, stream.data, 1000, &err));
    ck_assert(decompress_frame(unpacker, frame, length, back, sizeof(back), &got, &err));
    ck_assert(!decompress_feed(unpacker, stream.data + 1000, 1000, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);

    buffer_clear(&received.bytes);
    decompress_start(unpacker, DECOMPRESS_ANY, SIZE, receive, &received);
    ck_assert(feed(stream.data, stream.length, 50000));
    ck_assert_uint_eq(received.bytes.length, SIZE);
    free(frame);
    buffer_free(&received.bytes);
    buffer_free(&stream);
}
END_TEST

/* A header that wants a window of 2 GB gets an error, not the memory. */
START_TEST(window_bounded)
{
    static const unsigned char huge[] = {0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00};
    struct received received = {.refuse_after = SIZE_MAX};

    decompress_start(unpacker, DECOMPRESS_ANY, SIZE, receive, &received);
    ck_assert(!feed(huge, sizeof(huge), sizeof(huge)));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_uint_eq(received.bytes.length, 0);
}
END_TEST

START_TEST(free_nothing)
{
    compress_free(NULL);
    decompress_free(NULL);
    decompress_free(decompress_new());
    compress_free(compress_new(1000)); /* clamped */
}
END_TEST

Suite *compress_suite(void)
{
    Suite *suite = suite_create("compress");
    TCase *tests = tcase_create("compress");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, frame_round_trip);
    tcase_add_test(tests, frame_without_room);
    tcase_add_test(tests, frame_refused);
    tcase_add_test(tests, frame_damaged);
    tcase_add_test(tests, stream_round_trip);
    tcase_add_test(tests, stream_bounded);
    tcase_add_test(tests, stream_cut);
    tcase_add_test(tests, stream_checksummed);
    tcase_add_test(tests, stream_with_something_else);
    tcase_add_test(tests, stream_sink_refuses);
    tcase_add_test(tests, frame_ends_stream);
    tcase_add_test(tests, window_bounded);
    tcase_add_test(tests, free_nothing);
    suite_add_tcase(suite, tests);
    return suite;
}
