/* compress.c - making zstd frames */
#include "pgvigil/compress.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "pgvigil/mem.h"

/* zstd's context is made at first use, so that a lack of memory is an error like others. */
struct compress_context {
    ZSTD_CCtx *zstd;
    int level;
    bool streaming; /* a frame was begun by compress_chunk */
};

struct compress_context *compress_new(int level)
{
    struct compress_context *context = mem_calloc(1, sizeof(*context));

    context->level = level;
    return context;
}

void compress_free(struct compress_context *context)
{
    if (!context)
        return;
    ZSTD_freeCCtx(context->zstd);
    free(context);
}

static bool compress_prepare(struct compress_context *context, struct error *err)
{
    if (context->zstd)
        return true;
    context->zstd = ZSTD_createCCtx();
    if (!context->zstd)
        return error_set(err, ERROR_SYSTEM, "out of memory for compression");
    /* Levels out of range are clamped. The size is in the header where it is known, by default, too;
     * the format relies on that. */
    ZSTD_CCtx_setParameter(context->zstd, ZSTD_c_compressionLevel, context->level);
    ZSTD_CCtx_setParameter(context->zstd, ZSTD_c_contentSizeFlag, 1);
    return true;
}

/* What was begun is dropped. */
static bool compress_begin(struct compress_context *context, bool streaming, struct error *err)
{
    if (!compress_prepare(context, err))
        return false;
    ZSTD_CCtx_reset(context->zstd, ZSTD_reset_session_only);
    ZSTD_CCtx_setParameter(context->zstd, ZSTD_c_checksumFlag, streaming);
    context->streaming = streaming;
    return true;
}

static bool compress_failed(struct compress_context *context, size_t code, struct error *err)
{
    context->streaming = false;
    return error_set(err, ERROR_SYSTEM, "could not compress: %s", ZSTD_getErrorName(code));
}

size_t compress_bound(size_t length)
{
    return ZSTD_compressBound(length);
}

bool compress_frame(struct compress_context *context, const void *data, size_t length, void *out,
                    size_t out_capacity, size_t *out_length, struct error *err)
{
    size_t result;

    if (!compress_begin(context, false, err))
        return false;
    result = ZSTD_compress2(context->zstd, out, out_capacity, data, length);
    if (ZSTD_isError(result))
        return compress_failed(context, result, err);
    *out_length = result;
    return true;
}

/* Runs the stream until zstd has nothing more to take or to give. */
static bool compress_stream(struct compress_context *context, const void *data, size_t length,
                            ZSTD_EndDirective directive, struct buffer *out, struct error *err)
{
    ZSTD_inBuffer input = {.src = data, .size = length};
    size_t left;

    if (!context->streaming && !compress_begin(context, true, err))
        return false;
    do {
        buffer_reserve(out, ZSTD_CStreamOutSize());

        ZSTD_outBuffer output = {.dst = out->data + out->length, .size = ZSTD_CStreamOutSize()};

        left = ZSTD_compressStream2(context->zstd, &output, &input, directive);
        if (ZSTD_isError(left))
            return compress_failed(context, left, err);
        out->length += output.pos;
        out->data[out->length] = '\0'; /* as buffer.h promises; buffer_reserve counts it */
    } while (input.pos < input.size || (directive == ZSTD_e_end && left > 0));
    context->streaming = directive != ZSTD_e_end;
    return true;
}

bool compress_chunk(struct compress_context *context, const void *data, size_t length,
                    struct buffer *out, struct error *err)
{
    return length == 0 || compress_stream(context, data, length, ZSTD_e_continue, out, err);
}

bool compress_end(struct compress_context *context, struct buffer *out, struct error *err)
{
    return compress_stream(context, NULL, 0, ZSTD_e_end, out, err);
}
