/* decompress.c - reading zstd frames, within bounds */
#include "pgvigil/decompress.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "pgvigil/bytes.h"
#include "pgvigil/mem.h"

/* No frame that pgvigil writes, and none of `zstd` below --ultra or --long, needs a larger one. */
#define WINDOW_LOG_MAXIMUM 27

#define FRAME_MAGIC 0xFD2FB528u
#define SKIPPABLE_MAGIC 0x184D2A50u /* the last four bits are free */
#define MAGIC_SIZE 4
#define OPENING_SIZE (MAGIC_SIZE + 1) /* of a frame: no kind of frame is shorter */
#define WITH_CHECKSUM 0x04u           /* in the frame header descriptor, RFC 8878, 3.1.1.1.1 */
/* While one buffer is filled, another thread may be at work on the other; small ones would cost more in
 * handing over than that gains. */
#define OUTPUTS 2
#define OUTPUT_SIZE ((size_t)512 * 1024)

/* zstd's context is made at first use, so that a lack of memory is an error like others. */
struct decompress_context {
    ZSTD_DCtx *zstd;
    unsigned char *output; /* OUTPUTS times OUTPUT_SIZE bytes */
    size_t which;          /* of them is being filled */
    size_t filled;         /* bytes of it */
    decompress_sink sink;
    void *sink_context;
    uint64_t left; /* bytes the stream may still give */
    enum decompress_frames frames;
    bool in_frame; /* the opening of the present frame went into zstd */
    bool failed;   /* nothing more can be made of this stream */
    unsigned char opening[OPENING_SIZE];
    size_t opening_length; /* bytes of the next frame's opening seen so far */
};

struct decompress_context *decompress_new(void)
{
    struct decompress_context *context = mem_calloc(1, sizeof(*context));

    context->failed = true; /* until decompress_start */
    return context;
}

void decompress_free(struct decompress_context *context)
{
    if (!context)
        return;
    ZSTD_freeDCtx(context->zstd);
    free(context->output);
    free(context);
}

static bool decompress_prepare(struct decompress_context *context, struct error *err)
{
    if (context->zstd)
        return true;
    context->zstd = ZSTD_createDCtx();
    if (!context->zstd)
        return error_set(err, ERROR_SYSTEM, "out of memory for decompression");
    ZSTD_DCtx_setParameter(context->zstd, ZSTD_d_windowLogMax, WINDOW_LOG_MAXIMUM);
    return true;
}

bool decompress_frame_length(const void *bytes, size_t length, size_t *frame_length,
                             struct error *err)
{
    /* The magic number first: zstd would take skippable frames and those of its own old formats. */
    if (length < MAGIC_SIZE || bytes_get_u32(bytes) != FRAME_MAGIC)
        return error_set(err, ERROR_INTEGRITY, "compressed data does not start a zstd frame");
    *frame_length = ZSTD_findFrameCompressedSize(bytes, length);
    if (ZSTD_isError(*frame_length))
        return error_set(err, ERROR_INTEGRITY, "zstd frame is damaged or truncated: %s",
                         ZSTD_getErrorName(*frame_length));
    return true;
}

bool decompress_frame(struct decompress_context *context, const void *frame, size_t length,
                      void *out, size_t capacity, size_t *out_length, struct error *err)
{
    size_t frame_length, result;

    context->failed = true; /* a stream that was under way has lost its place */
    if (!decompress_prepare(context, err) ||
        !decompress_frame_length(frame, length, &frame_length, err))
        return false;
    if (frame_length != length)
        return error_set(err, ERROR_INTEGRITY,
                         "zstd frame ends after %zu bytes, where %zu were to be", frame_length,
                         length);
    result = ZSTD_decompressDCtx(context->zstd, out, capacity, frame, length);
    if (ZSTD_isError(result))
        return error_set(err, ERROR_INTEGRITY, "could not decompress at most %zu bytes: %s",
                         capacity, ZSTD_getErrorName(result));
    *out_length = result;
    return true;
}

void decompress_start(struct decompress_context *context, enum decompress_frames frames,
                      uint64_t maximum, decompress_sink sink, void *sink_context)
{
    if (context->zstd)
        ZSTD_DCtx_reset(context->zstd, ZSTD_reset_session_only);
    context->sink = sink;
    context->sink_context = sink_context;
    context->frames = frames;
    context->left = maximum;
    context->in_frame = false;
    context->failed = false;
    context->opening_length = 0;
    context->filled = 0;
}

static unsigned char *decompress_output(const struct decompress_context *context)
{
    return context->output + context->which * OUTPUT_SIZE;
}

static bool decompress_emit(struct decompress_context *context, struct error *err)
{
    const unsigned char *output = decompress_output(context);
    size_t length = context->filled;

    context->filled = 0;
    if (length > context->left)
        return error_set(err, ERROR_INTEGRITY, "compressed data gives more bytes than it may");
    context->left -= length;
    if (length == 0)
        return true;
    context->which = (context->which + 1) % OUTPUTS;
    return context->sink(output, length, context->sink_context, err);
}

/* zstd sees to its window only when it knows the frame's; a lack of memory is no damage. */
static bool decompress_failed(size_t code, struct error *err)
{
    const bool memory = ZSTD_getErrorCode(code) == ZSTD_error_memory_allocation;

    return error_set(err, memory ? ERROR_SYSTEM : ERROR_INTEGRITY, "could not decompress: %s",
                     ZSTD_getErrorName(code));
}

/* Feeds zstd until it has taken all of the input or ends the frame. Output is given away in whole
 * buffers, however the input comes in pieces: two threads that take turns at pieces of unequal length
 * wait for each other. */
static bool decompress_run(struct decompress_context *context, ZSTD_inBuffer *input,
                           struct error *err)
{
    ZSTD_outBuffer output = {.size = OUTPUT_SIZE};
    size_t hint;
    bool full;

    do {
        output.dst = decompress_output(context);
        output.pos = context->filled;
        hint = ZSTD_decompressStream(context->zstd, &output, input);
        if (ZSTD_isError(hint))
            return decompress_failed(hint, err);
        context->filled = output.pos;
        full = output.pos == output.size;
        if ((full || hint == 0) && !decompress_emit(context, err))
            return false;
    } while (hint != 0 && (input->pos < input->size || full));
    context->in_frame = hint != 0;
    return true;
}

/* Collects the first bytes of the next frame, which may come in pieces, and passes them on. */
static bool decompress_open_frame(struct decompress_context *context, ZSTD_inBuffer *input,
                                  struct error *err)
{
    const unsigned char *data = input->src;

    while (context->opening_length < OPENING_SIZE && input->pos < input->size)
        context->opening[context->opening_length++] = data[input->pos++];
    if (context->opening_length < OPENING_SIZE)
        return true;

    uint32_t magic = bytes_get_u32(context->opening);
    ZSTD_inBuffer start = {.src = context->opening, .size = OPENING_SIZE};

    if (magic != FRAME_MAGIC && (magic & ~15u) != SKIPPABLE_MAGIC)
        return error_set(err, ERROR_INTEGRITY,
                         "compressed data goes on with something that is no zstd frame");
    if (magic == FRAME_MAGIC && context->frames == DECOMPRESS_CHECKSUMMED &&
        (context->opening[MAGIC_SIZE] & WITH_CHECKSUM) == 0)
        return error_set(err, ERROR_INTEGRITY, "a zstd frame has no checksum of its content");
    context->opening_length = 0;
    return decompress_run(context, &start, err);
}

static bool decompress_consume(struct decompress_context *context, ZSTD_inBuffer *input,
                               struct error *err)
{
    if (context->failed)
        return error_set(err, ERROR_INTEGRITY, "compressed data cannot be read on after an error");
    if (!decompress_prepare(context, err))
        return false;
    if (!context->output)
        context->output = mem_alloc(OUTPUTS * OUTPUT_SIZE);
    while (input->pos < input->size) {
        if (!context->in_frame && !decompress_open_frame(context, input, err))
            return false;
        if (context->in_frame && input->pos < input->size && !decompress_run(context, input, err))
            return false;
    }
    return true;
}

bool decompress_feed(struct decompress_context *context, const void *data, size_t length,
                     struct error *err)
{
    ZSTD_inBuffer input = {.src = data, .size = length};
    bool done = decompress_consume(context, &input, err);

    context->failed = !done;
    return done;
}

bool decompress_finish(struct decompress_context *context, struct error *err)
{
    bool whole = !context->failed && !context->in_frame && context->opening_length == 0;

    context->failed = true; /* until the next decompress_start */
    return whole ||
           error_set(err, ERROR_INTEGRITY, "compressed data ends in the middle of a frame");
}
