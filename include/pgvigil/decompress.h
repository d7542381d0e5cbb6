/*
 * decompress.h - reading zstd frames
 *
 * Bounded by the caller: a frame that yields more than asked is an integrity error, whatever its
 * header claims. A context belongs to one thread and does one thing at a time: a frame ends a
 * stream that was under way.
 */
#ifndef PGVIGIL_DECOMPRESS_H
#define PGVIGIL_DECOMPRESS_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/error.h"

struct decompress_context;

struct decompress_context *decompress_new(void);
void decompress_free(struct decompress_context *context);

/* How long the frame is that these bytes begin with; ERROR_INTEGRITY if it is not whole. */
bool decompress_frame_length(const void *bytes, size_t length, size_t *frame_length,
                             struct error *err);

/* Exactly one frame of `length` bytes to at most `capacity` bytes; ERROR_INTEGRITY if it is not one
 * whole frame or gives more. */
bool decompress_frame(struct decompress_context *context, const void *frame, size_t length,
                      void *out, size_t capacity, size_t *out_length, struct error *err);

/* What the frames of a stream must have. */
enum decompress_frames {
    DECOMPRESS_ANY,
    DECOMPRESS_CHECKSUMMED, /* zstd's checksum of their content, which is then checked */
};

/* Streaming over any number of frames (skippable ones are passed over): feeds input, calls sink
 * with output as it comes. decompress_finish fails if a frame is incomplete. A stream that gives
 * more than `maximum` bytes in total is ERROR_INTEGRITY, as is anything but zstd frames in it. No
 * input at all is an empty stream. What sink is given stays as it is until its next call but one.
 * After an error (the sink's included) only decompress_start goes on. */
typedef bool (*decompress_sink)(const void *data, size_t length, void *context, struct error *err);
void decompress_start(struct decompress_context *context, enum decompress_frames frames,
                      uint64_t maximum, decompress_sink sink, void *sink_context);
bool decompress_feed(struct decompress_context *context, const void *data, size_t length,
                     struct error *err);
bool decompress_finish(struct decompress_context *context, struct error *err);

#endif
