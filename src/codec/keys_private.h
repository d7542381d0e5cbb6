/* keys_private.h - what is behind keys.h, for cms.c */
/* layer: codec */
#ifndef PGVIGIL_CODEC_KEYS_PRIVATE_H
#define PGVIGIL_CODEC_KEYS_PRIVATE_H

#include <openssl/x509.h>

#include "pgvigil/keys.h"

struct keys_recipients {
    X509 *certificates[KEYS_MAXIMUM];
    size_t count;
};

struct keys_identity {
    EVP_PKEY *keys[KEYS_MAXIMUM];
    size_t count;
    bool opened; /* any of them, by the passphrase */
};

/* Ends a message with what OpenSSL says of its last failure, and forgets it; returns false. */
bool keys_error(struct error *err, enum error_code code, const char *what);

#endif
