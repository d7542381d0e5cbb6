/*
 * keypair.h - new keys: a private key, and the certificate that is its public half
 */
#ifndef PGVIGIL_KEYPAIR_H
#define PGVIGIL_KEYPAIR_H

#include "pgvigil/buffer.h"
#include "pgvigil/error.h"

enum keypair_kind { KEYPAIR_EC /* P-256 */, KEYPAIR_RSA /* 3072 bits */ };

#define KEYPAIR_NAME_MAXIMUM 64 /* bytes of a common name */

/*
 * Appends both as PEM text. The private key is PKCS #8, encrypted (PBES2, AES-256) if there is a
 * passphrase; its text is the caller's to wipe. The certificate is signed by itself, never expires, and
 * may only be used to encrypt; `name` becomes its common name.
 */
bool keypair_make(enum keypair_kind kind, const char *name, const char *passphrase,
                  struct buffer *private_key, struct buffer *certificate, struct error *err);

#endif
