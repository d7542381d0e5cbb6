/* cms_stream.c - decrypting CMS structures that lie one behind the other */
#include "pgvigil/cms_stream.h"

#include <stdlib.h>
#include <string.h>

#include "codec/cms_der.h"
#include "pgvigil/mem.h"

struct cms_stream {
    const struct keys_identity *identity;
    size_t maximum;      /* of a structure */
    struct buffer *room; /* behind whose bytes a structure is held; or own */
    struct buffer own;
    cms_stream_sink sink;
    void *context;
    unsigned char header[CMS_DER_HEADER]; /* of the structure begun, until its length is known */
    size_t header_length;
    size_t length; /* of the structure; 0: not known yet */
    size_t held;
    bool any;
};

struct cms_stream *cms_stream_new(const struct keys_identity *identity, size_t maximum,
                                  struct buffer *room, cms_stream_sink sink, void *context)
{
    struct cms_stream *stream = mem_calloc(1, sizeof(*stream));

    stream->identity = identity;
    stream->maximum = maximum + CMS_OVERHEAD;
    stream->room = room ? room : &stream->own;
    stream->sink = sink;
    stream->context = context;
    return stream;
}

void cms_stream_free(struct cms_stream *stream)
{
    if (!stream)
        return;
    buffer_free(&stream->own);
    free(stream);
}

static bool stream_damaged(struct error *err, const char *why)
{
    return error_set(err, ERROR_INTEGRITY, "it cannot be decrypted: %s", why);
}

static unsigned char *stream_structure(const struct cms_stream *stream)
{
    return stream->room->data + stream->room->length;
}

/* Looks at the first bytes until they say how long the structure is, then makes room for it. */
static bool stream_begin(struct cms_stream *stream, const unsigned char **data, size_t *length,
                         struct error *err)
{
    while (stream->length == 0 && *length > 0) {
        stream->header[stream->header_length++] = *(*data)++;
        (*length)--;
        if (!cms_der_length(stream->header, stream->header_length, &stream->length))
            return stream_damaged(err, "it is no CMS structure in DER");
    }
    if (stream->length == 0)
        return true;
    if (stream->length > stream->maximum)
        return stream_damaged(err, "its CMS structure is larger than it may be");
    if (!buffer_try_reserve(stream->room, stream->length, err))
        return false;
    if (stream->length < stream->header_length)
        return stream_damaged(err, "its CMS structure is too short");
    memcpy(stream_structure(stream), stream->header, stream->header_length);
    stream->held = stream->header_length;
    return true;
}

/* In a room of somebody else's the content is moved to where it is to stay. */
static bool stream_open(struct cms_stream *stream, struct error *err)
{
    unsigned char *place = stream_structure(stream);
    unsigned char *content;
    size_t length;

    if (!cms_decrypt(stream->identity, place, stream->length, &content, &length, err))
        return false;
    stream->length = 0;
    stream->header_length = 0;
    stream->any = true;
    if (stream->room != &stream->own)
        content = memmove(place, content, length);
    return stream->sink(content, length, stream->context, err);
}

bool cms_stream_feed(struct cms_stream *stream, const void *data, size_t length, struct error *err)
{
    const unsigned char *bytes = data;

    while (length > 0) {
        if (stream->length == 0 && !stream_begin(stream, &bytes, &length, err))
            return false;
        if (stream->length == 0)
            return true;

        size_t missing = stream->length - stream->held;
        size_t part = length < missing ? length : missing;
        memcpy(stream_structure(stream) + stream->held, bytes, part);
        stream->held += part;
        bytes += part;
        length -= part;
        if (stream->held == stream->length && !stream_open(stream, err))
            return false;
    }
    return true;
}

bool cms_stream_finish(struct cms_stream *stream, struct error *err)
{
    if (stream->length == 0 && stream->header_length == 0 && stream->any)
        return true;
    return stream_damaged(err, "it ends in the middle of a CMS structure");
}
