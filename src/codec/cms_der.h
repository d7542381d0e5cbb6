/*
 * cms_der.h - where the content lies in an encoded CMS structure
 *
 * OpenSSL makes and reads the structure, but its own ways to get the content in and out of it copy
 * every byte several times. So here the content is put into, and cut out of, the encoding where it
 * lies, and OpenSSL sees the structure without it: three of its small parts, untouched, in headers
 * of other lengths.
 *
 * What is taken apart is what cms.h says: DER of definite lengths, no optional part but the content.
 */
/* layer: codec */
#ifndef PGVIGIL_CODEC_CMS_DER_H
#define PGVIGIL_CODEC_CMS_DER_H

#include <stdbool.h>
#include <stddef.h>

#include "pgvigil/buffer.h"

struct cms_der_span {
    const unsigned char *data;
    size_t length;
};

struct cms_der {
    struct cms_der_span type;       /* id-ct-authEnvelopedData */
    struct cms_der_span recipients; /* version and recipientInfos */
    struct cms_der_span algorithm;  /* contentType and contentEncryptionAlgorithm */
    struct cms_der_span content;    /* the encrypted bytes themselves; data NULL when left out */
    struct cms_der_span mac;
};

/* False if the bytes are not exactly one such structure. The spans point into them. */
bool cms_der_parse(const unsigned char *bytes, size_t length, struct cms_der *der);

/* Appends the structure with room for `content` bytes, cut where they belong: what comes before them
 * to head, what comes behind to tail. Without any content: as if left out. */
enum cms_der_content { CMS_DER_CONTENT_LEFT_OUT, CMS_DER_CONTENT_THERE };
void cms_der_build(const struct cms_der *der, enum cms_der_content there, size_t content,
                   struct buffer *head, struct buffer *tail);

/* How long the structure is that begins with these bytes; false: with none. *length 0: more bytes are
 * needed to tell, CMS_DER_HEADER always suffice. */
#define CMS_DER_HEADER 10
bool cms_der_length(const unsigned char *bytes, size_t available, size_t *length);

#endif
