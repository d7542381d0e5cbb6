/*
 * digest.h - checksums and digests
 *
 * SHA-256 (OpenSSL) guards stored objects; CRC-32C guards whole files, because PostgreSQL's
 * backup_manifest and control file use it (src/port/pg_crc32c_sb8.c); XXH3-64 with a random secret
 * of the cluster recognises blocks. The secret keeps anybody who writes rows from making two pages
 * look alike.
 */
#ifndef PGVIGIL_DIGEST_H
#define PGVIGIL_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/error.h"

#define DIGEST_SHA256_SIZE 32
#define DIGEST_SHA256_HEX_SIZE 65 /* with NUL */
#define DIGEST_SECRET_SIZE 192

struct digest_sha256; /* a running SHA-256 */

struct digest_sha256 *digest_sha256_new(void);
void digest_sha256_update(struct digest_sha256 *digest, const void *data, size_t length);
/* Gives the result and makes the digest ready for new data. */
void digest_sha256_finish(struct digest_sha256 *digest, unsigned char result[DIGEST_SHA256_SIZE]);
/* From here on `to` goes on as `from` would. */
void digest_sha256_copy(struct digest_sha256 *to, const struct digest_sha256 *from);
void digest_sha256_free(struct digest_sha256 *digest);

void digest_sha256(const void *data, size_t length, unsigned char result[DIGEST_SHA256_SIZE]);

/* Lower-case hex of `length` bytes into text (2 * length + 1), and strictly back. */
char *digest_to_hex(const unsigned char *bytes, size_t length, char *text);
bool digest_from_hex(const char *text, unsigned char *bytes, size_t length);

/* XXH3-64 of a block. */
uint64_t digest_block(const void *data, size_t length,
                      const unsigned char secret[DIGEST_SECRET_SIZE]);

bool digest_random(void *bytes, size_t length, struct error *err);

#endif
