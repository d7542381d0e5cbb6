/* cms_der.c - where the content lies in an encoded CMS structure */
#include "codec/cms_der.h"

#include <limits.h>
#include <openssl/asn1.h>
#include <openssl/err.h>

/* A reader of DER elements, one behind the other within some bounds. */
struct cursor {
    const unsigned char *at;
    const unsigned char *end;
};

/* The next element must be this one; *inside is its contents. OpenSSL checks that it fits. */
static bool take(struct cursor *cursor, int tag, int class, bool constructed, struct cursor *inside)
{
    const unsigned char *at = cursor->at;
    long length;
    int found_tag, found_class;

    if (cursor->end - at > LONG_MAX || cursor->at == cursor->end)
        return false;
    int found = ASN1_get_object(&at, &length, &found_tag, &found_class, cursor->end - at);
    /* 0x80: an error; 1: of indefinite length */
    if ((found & 0x81) != 0 || found_tag != tag || found_class != class ||
        ((found & V_ASN1_CONSTRUCTED) != 0) != constructed) {
        ERR_clear_error();
        return false;
    }
    *inside = (struct cursor){.at = at, .end = at + length};
    cursor->at = at + length;
    return true;
}

/* The same for one that holds all the rest. */
static bool enter(struct cursor *cursor, int tag, int class, struct cursor *inside)
{
    return take(cursor, tag, class, true, inside) && cursor->at == cursor->end;
}

/* The same for one that is kept as it is. */
static bool keep(struct cursor *cursor, int tag, bool constructed, struct cms_der_span *span)
{
    const unsigned char *start = cursor->at;
    struct cursor inside;

    if (!take(cursor, tag, V_ASN1_UNIVERSAL, constructed, &inside))
        return false;
    if (!span->data)
        span->data = start;
    span->length = (size_t)(cursor->at - span->data);
    return true;
}

static bool parse_content(struct cursor *info, struct cms_der *der)
{
    struct cursor content;

    if (!keep(info, V_ASN1_OBJECT, false, &der->algorithm) ||
        !keep(info, V_ASN1_SEQUENCE, true, &der->algorithm))
        return false;
    if (info->at == info->end)
        return true;
    if (!take(info, 0, V_ASN1_CONTEXT_SPECIFIC, false, &content) || info->at != info->end)
        return false;
    der->content.data = content.at;
    der->content.length = (size_t)(content.end - content.at);
    return true;
}

bool cms_der_parse(const unsigned char *bytes, size_t length, struct cms_der *der)
{
    struct cursor all = {.at = bytes, .end = bytes + length};
    struct cursor outer, wrapped, enveloped, info;

    *der = (struct cms_der){.content = {.data = NULL}};
    return enter(&all, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL, &outer) &&
           keep(&outer, V_ASN1_OBJECT, false, &der->type) &&
           enter(&outer, 0, V_ASN1_CONTEXT_SPECIFIC, &wrapped) &&
           enter(&wrapped, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL, &enveloped) &&
           keep(&enveloped, V_ASN1_INTEGER, false, &der->recipients) &&
           keep(&enveloped, V_ASN1_SET, true, &der->recipients) &&
           take(&enveloped, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL, true, &info) &&
           parse_content(&info, der) && keep(&enveloped, V_ASN1_OCTET_STRING, false, &der->mac) &&
           enveloped.at == enveloped.end;
}

/* Appends the header of an element; all lengths are those of objects that fit in memory. */
static void put_header(struct buffer *out, bool constructed, size_t length, int tag, int class)
{
    buffer_reserve(out, CMS_DER_HEADER);

    unsigned char *at = out->data + out->length;
    ASN1_put_object(&at, constructed, (int)length, tag, class);
    out->length = (size_t)(at - out->data);
}

static size_t size_of(bool constructed, size_t length, int tag)
{
    return (size_t)ASN1_object_size(constructed, (int)length, tag);
}

void cms_der_build(const struct cms_der *der, enum cms_der_content there, size_t content,
                   struct buffer *head, struct buffer *tail)
{
    const size_t element = there == CMS_DER_CONTENT_THERE ? size_of(false, content, 0) : 0;
    const size_t info = der->algorithm.length + element;
    const size_t enveloped =
        der->recipients.length + size_of(true, info, V_ASN1_SEQUENCE) + der->mac.length;
    const size_t wrapped = size_of(true, enveloped, V_ASN1_SEQUENCE);

    put_header(head, true, der->type.length + size_of(true, wrapped, 0), V_ASN1_SEQUENCE,
               V_ASN1_UNIVERSAL);
    buffer_append(head, der->type.data, der->type.length);
    put_header(head, true, wrapped, 0, V_ASN1_CONTEXT_SPECIFIC);
    put_header(head, true, enveloped, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL);
    buffer_append(head, der->recipients.data, der->recipients.length);
    put_header(head, true, info, V_ASN1_SEQUENCE, V_ASN1_UNIVERSAL);
    buffer_append(head, der->algorithm.data, der->algorithm.length);
    if (there == CMS_DER_CONTENT_THERE)
        put_header(head, false, content, 0, V_ASN1_CONTEXT_SPECIFIC);
    buffer_append(tail, der->mac.data, der->mac.length);
}

bool cms_der_length(const unsigned char *bytes, size_t available, size_t *length)
{
    const unsigned char *at = bytes;
    size_t octets, value = 0;

    *length = 0;
    if (available > 0 && bytes[0] != (V_ASN1_SEQUENCE | V_ASN1_CONSTRUCTED))
        return false;
    if (available < 2)
        return true;
    at += 2;
    if (bytes[1] < 0x80) {
        *length = 2 + (size_t)bytes[1];
        return true;
    }
    octets = bytes[1] & 0x7Fu;
    if (octets == 0 || octets > 4)
        return false;
    if (available < 2 + octets)
        return true;
    for (size_t i = 0; i < octets; i++)
        value = value << 8 | at[i];
    *length = 2 + octets + value;
    return true;
}
