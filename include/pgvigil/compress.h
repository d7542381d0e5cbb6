/*
 * compress.h - making zstd frames (decompress.h reads them)
 *
 * A context belongs to one thread.
 */
#ifndef PGVIGIL_COMPRESS_H
#define PGVIGIL_COMPRESS_H

#include <stddef.h>

#include "pgvigil/buffer.h"
#include "pgvigil/error.h"

struct compress_context;

struct compress_context *compress_new(int level);
void compress_free(struct compress_context *context);

/* One frame, with content size and no checksum (the digests above it do that), into out; room for
 * compress_bound(length) bytes. Cannot fail but for memory, which is an error. */
size_t compress_bound(size_t length);
bool compress_frame(struct compress_context *context, const void *data, size_t length, void *out,
                    size_t out_capacity, size_t *out_length, struct error *err);

/* Streaming, one frame with a checksum of its content: what chunks give is appended to out;
 * compress_end finishes the frame and makes the context ready for the next. compress_frame in between
 * drops what was begun. */
bool compress_chunk(struct compress_context *context, const void *data, size_t length,
                    struct buffer *out, struct error *err);
bool compress_end(struct compress_context *context, struct buffer *out, struct error *err);

#endif
