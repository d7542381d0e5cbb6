/*
 * trailer.h - the last 128 bytes of every stored object
 *
 * A zstd skippable frame, so that `zstd -d` passes over it; never encrypted, so that anybody can
 * check any object without a key. docs/FORMAT.md is normative; all integers little endian:
 *
 *   0   4  0x184D2A5E, a skippable frame's magic number (RFC 8878, 3.1.2)
 *   4   4  120, the length of what follows
 *   8   8  "pgvigil1"
 *  16   4  kind (enum trailer_kind)
 *  20   4  flags: bit 0, the bytes before the trailer are encrypted; the rest 0
 *  24   8  stored length: bytes before the trailer
 *  32   8  raw length: bytes after decryption and decompression
 *  40  32  SHA-256 of the stored bytes
 *  72  32  SHA-256 of the raw bytes for WAL kinds, else zeros
 * 104  16  first 16 bytes of the SHA-256 of "<system identifier>/<object name>"
 * 120   4  0
 * 124   4  CRC-32C of bytes 0 to 123
 */
#ifndef PGVIGIL_TRAILER_H
#define PGVIGIL_TRAILER_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/digest.h"
#include "pgvigil/error.h"

#define TRAILER_SIZE 128
#define TRAILER_NAME_SIZE 16

enum trailer_kind {
    TRAILER_IDENTITY = 1,       /* pgvigil.json */
    TRAILER_WAL = 2,            /* a whole WAL segment */
    TRAILER_PARTIAL = 3,        /* a .partial segment */
    TRAILER_HISTORY = 4,        /* a timeline history file */
    TRAILER_BACKUP_HISTORY = 5, /* a .backup file */
    TRAILER_BEGIN = 6,
    TRAILER_LEASE = 7,
    TRAILER_PACK = 8, /* data pack or map pack */
    TRAILER_MANIFEST = 9,
    TRAILER_REFS = 10,
    TRAILER_BACKUP = 11, /* backup.json */
    TRAILER_KEEP = 12,   /* a backup is kept, or no longer */
    TRAILER_EXPIRE = 13, /* a run is marked for deletion, or no longer */
    TRAILER_CLAIM = 14,  /* a run builds on, or reads, what another one stored */
    TRAILER_END = 15     /* a run has ended */
};
#define TRAILER_KIND_MAXIMUM 15

struct trailer {
    enum trailer_kind kind;
    bool encrypted;
    uint64_t stored_length;
    uint64_t raw_length;
    unsigned char stored_sha256[DIGEST_SHA256_SIZE];
    unsigned char raw_sha256[DIGEST_SHA256_SIZE];
    unsigned char name[TRAILER_NAME_SIZE];
};

void trailer_encode(const struct trailer *trailer, unsigned char bytes[TRAILER_SIZE]);

/* ERROR_INTEGRITY when the bytes are no trailer of this format, with a reason a person understands
 * ("no trailer: the object is truncated or not pgvigil's", "trailer of a newer format"). */
bool trailer_decode(const unsigned char bytes[TRAILER_SIZE], struct trailer *trailer,
                    struct error *err);

/* The digest that ties an object to its name and its cluster; system_identifier 0 for those at the
 * root of a repository. */
void trailer_name_digest(uint64_t system_identifier, const char *name,
                         unsigned char digest[TRAILER_NAME_SIZE]);

const char *trailer_kind_name(enum trailer_kind kind); /* "WAL segment", "pack"... */

#endif
