/*
 * cms.h - encryption: CMS AuthEnvelopedData (RFC 5083) with AES-256-GCM (RFC 5084)
 *
 * DER, a tag of 16 bytes, one or more recipients: RSA keys by RSAES-OAEP with SHA-256, EC keys by
 * ephemeral-static ECDH with the X9.63 KDF over SHA-256 and AES-256 key wrap. No originatorInfo, no
 * attributes. `openssl cms -decrypt -inform DER -inkey KEY` opens it.
 *
 * Both ways work in place: the bytes given are overwritten, and no copy of them is made. GCM proves
 * its content at the end only: nothing of it is given out before.
 */
#ifndef PGVIGIL_CMS_H
#define PGVIGIL_CMS_H

#include <stddef.h>

#include "pgvigil/buffer.h"
#include "pgvigil/error.h"
#include "pgvigil/keys.h"

/* Bytes of a structure beyond its content, at most: with many recipients of large RSA keys. */
#define CMS_OVERHEAD ((size_t)64 * 1024)

/* Encrypts `length` bytes (at most 1 GiB) at data in place. The structure is what is appended to head,
 * then data, then what is appended to tail. */
bool cms_encrypt(const struct keys_recipients *recipients, void *data, size_t length,
                 struct buffer *head, struct buffer *tail, struct error *err);

/*
 * Decrypts exactly one structure of `length` bytes in place. *content points into them.
 * ERROR_INTEGRITY if it is none or its tag does not hold; ERROR_CONFIG if none of the private keys
 * opens it, with the recipients that it was made for in the detail.
 */
bool cms_decrypt(const struct keys_identity *identity, void *bytes, size_t length,
                 unsigned char **content, size_t *content_length, struct error *err);

#endif
