/*
 * fuzz_frame.c - any bytes as a zstd frame, and as a stream fed in pieces
 *
 * The first two bytes of the input choose the bound (exactly so much memory is there to write to)
 * and the size of the pieces. Where both accept the input they must agree; zstd itself is stricter
 * in a stream, where it has to keep the window.
 */
#include <stdlib.h>
#include <string.h>

#include "pgvigil/buffer.h"
#include "pgvigil/decompress.h"

#define BOUND_UNIT 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct decompress_context *context;

static bool collect(const void *data, size_t length, void *collected, struct error *err)
{
    (void)err;
    buffer_append(collected, data, length);
    return true;
}

static bool feed_pieces(const uint8_t *data, size_t size, size_t piece, struct error *err)
{
    for (size_t at = 0; at < size; at += piece)
        if (!decompress_feed(context, data + at, piece < size - at ? piece : size - at, err))
            return false;
    return decompress_finish(context, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = ERROR_INIT;
    struct buffer streamed = BUFFER_INIT;

    if (size < 2)
        return 0;
    if (!context)
        context = decompress_new();

    size_t bound = (size_t)data[0] * BOUND_UNIT, piece = (size_t)data[1] + 1, length = 0;
    unsigned char *out = malloc(bound ? bound : 1);

    data += 2;
    size -= 2;
    decompress_start(context, DECOMPRESS_ANY, bound, collect, &streamed);

    bool stream_fine = feed_pieces(data, size, piece, &err);

    if (streamed.length > bound || (!stream_fine && err.code != ERROR_INTEGRITY))
        abort();

    bool frame_fine = decompress_frame(context, data, size, out, bound, &length, &err);

    if (frame_fine ? length > bound : err.code != ERROR_INTEGRITY)
        abort();
    if (frame_fine && stream_fine &&
        (streamed.length != length || (length > 0 && memcmp(streamed.data, out, length) != 0)))
        abort();
    buffer_free(&streamed);
    free(out);
    return 0;
}
