/*
 * cms_stream.h - decrypting CMS structures that lie one behind the other, as they come
 *
 * One structure at a time is held in memory. Its content is given to sink as a whole once its tag
 * holds; what sink is given stays as it is until it returns.
 */
#ifndef PGVIGIL_CMS_STREAM_H
#define PGVIGIL_CMS_STREAM_H

#include <stddef.h>

#include "pgvigil/cms.h"

struct cms_stream;

typedef bool (*cms_stream_sink)(const void *data, size_t length, void *context, struct error *err);

/*
 * A structure's content may have `maximum` bytes at most. Who wants it in a buffer lends this one as
 * `room`: structures are held and decrypted behind its bytes, and what sink is given begins there, so
 * that adding its length is all that is left to do. Otherwise NULL.
 */
struct cms_stream *cms_stream_new(const struct keys_identity *identity, size_t maximum,
                                  struct buffer *room, cms_stream_sink sink, void *context);
void cms_stream_free(struct cms_stream *stream);

/* Errors as of cms_decrypt, or of sink. Nothing goes on after one. */
bool cms_stream_feed(struct cms_stream *stream, const void *data, size_t length, struct error *err);
/* ERROR_INTEGRITY if a structure is incomplete or there was none at all. */
bool cms_stream_finish(struct cms_stream *stream, struct error *err);

#endif
