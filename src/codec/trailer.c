#include "pgvigil/trailer.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/bytes.h"
#include "pgvigil/crc32c.h"
#include "pgvigil/mem.h"

#define SKIPPABLE_MAGIC 0x184D2A5Eu
#define FRAME_HEADER_SIZE 8 /* magic and length, before what the length counts */
#define MAGIC "pgvigil"
#define MAGIC_SIZE 7 /* the version is the character behind it */
#define VERSION '1'
#define FLAG_ENCRYPTED 1u

enum offset {
    AT_MAGIC = 8,
    AT_VERSION = AT_MAGIC + MAGIC_SIZE,
    AT_KIND = 16,
    AT_FLAGS = 20,
    AT_STORED_LENGTH = 24,
    AT_RAW_LENGTH = 32,
    AT_STORED_SHA256 = 40,
    AT_RAW_SHA256 = 72,
    AT_NAME = 104,
    AT_RESERVED = 120,
    AT_CRC = 124
};

_Static_assert(AT_CRC + 4 == TRAILER_SIZE, "the CRC ends the trailer");
_Static_assert(AT_NAME + TRAILER_NAME_SIZE == AT_RESERVED, "no gap behind the name");

static bool has_raw_digest(uint32_t kind)
{
    return kind == TRAILER_WAL || kind == TRAILER_PARTIAL || kind == TRAILER_HISTORY ||
           kind == TRAILER_BACKUP_HISTORY;
}

static bool is_zero(const unsigned char *bytes, size_t length)
{
    unsigned char any = 0;

    for (size_t i = 0; i < length; i++)
        any |= bytes[i];
    return any == 0;
}

static bool crc_holds(const unsigned char *bytes)
{
    return crc32c(0, bytes, AT_CRC) == bytes_get_u32(bytes + AT_CRC);
}

void trailer_encode(const struct trailer *trailer, unsigned char bytes[TRAILER_SIZE])
{
    memset(bytes, 0, TRAILER_SIZE);
    bytes_put_u32(bytes, SKIPPABLE_MAGIC);
    bytes_put_u32(bytes + 4, TRAILER_SIZE - FRAME_HEADER_SIZE);
    memcpy(bytes + AT_MAGIC, MAGIC, MAGIC_SIZE);
    bytes[AT_VERSION] = VERSION;
    bytes_put_u32(bytes + AT_KIND, trailer->kind);
    bytes_put_u32(bytes + AT_FLAGS, trailer->encrypted ? FLAG_ENCRYPTED : 0);
    bytes_put_u64(bytes + AT_STORED_LENGTH, trailer->stored_length);
    bytes_put_u64(bytes + AT_RAW_LENGTH, trailer->raw_length);
    memcpy(bytes + AT_STORED_SHA256, trailer->stored_sha256, DIGEST_SHA256_SIZE);
    if (has_raw_digest(trailer->kind))
        memcpy(bytes + AT_RAW_SHA256, trailer->raw_sha256, DIGEST_SHA256_SIZE);
    memcpy(bytes + AT_NAME, trailer->name, TRAILER_NAME_SIZE);
    bytes_put_u32(bytes + AT_CRC, crc32c(0, bytes, AT_CRC));
}

/* That these are a trailer of this version, undamaged. A version that differs is told apart from
 * damage by the CRC, in case later versions keep that. */
static bool check_frame(const unsigned char *bytes, struct error *err)
{
    unsigned char version = bytes[AT_VERSION];
    char shown[8];

    if (bytes_get_u32(bytes) != SKIPPABLE_MAGIC ||
        bytes_get_u32(bytes + 4) != TRAILER_SIZE - FRAME_HEADER_SIZE ||
        memcmp(bytes + AT_MAGIC, MAGIC, MAGIC_SIZE) != 0)
        return error_set(err, ERROR_INTEGRITY,
                         "no trailer: the object is truncated or not pgvigil's");
    if (version != VERSION) {
        snprintf(shown, sizeof(shown), isprint(version) ? "\"%c\"" : "0x%02x", version);
        error_set(err, ERROR_INTEGRITY, "trailer of %s format: version %s instead of \"%c\"",
                  crc_holds(bytes) ? "a newer" : "another, or damaged,", shown, VERSION);
        return error_hint(err, "a newer pgvigil may have written this repository: upgrade this "
                               "one");
    }
    if (!crc_holds(bytes))
        return error_set(err, ERROR_INTEGRITY, "trailer is damaged: its CRC does not match");
    return true;
}

bool trailer_decode(const unsigned char bytes[TRAILER_SIZE], struct trailer *trailer,
                    struct error *err)
{
    if (!check_frame(bytes, err))
        return false;

    uint32_t kind = bytes_get_u32(bytes + AT_KIND);
    uint32_t flags = bytes_get_u32(bytes + AT_FLAGS);

    if (kind < 1 || kind > TRAILER_KIND_MAXIMUM) {
        error_set(err, ERROR_INTEGRITY, "trailer names an unknown kind of object (%" PRIu32 ")",
                  kind);
        return error_hint(err, "a newer pgvigil may have written this object: upgrade this one");
    }
    if ((flags & ~FLAG_ENCRYPTED) != 0 || !is_zero(bytes + AT_RESERVED, AT_CRC - AT_RESERVED) ||
        (!has_raw_digest(kind) && !is_zero(bytes + AT_RAW_SHA256, DIGEST_SHA256_SIZE))) {
        error_set(err, ERROR_INTEGRITY, "trailer has bits set that this version does not know");
        return error_hint(err, "a newer pgvigil may have written this object: upgrade this one");
    }

    trailer->kind = (enum trailer_kind)kind;
    trailer->encrypted = (flags & FLAG_ENCRYPTED) != 0;
    trailer->stored_length = bytes_get_u64(bytes + AT_STORED_LENGTH);
    trailer->raw_length = bytes_get_u64(bytes + AT_RAW_LENGTH);
    memcpy(trailer->stored_sha256, bytes + AT_STORED_SHA256, DIGEST_SHA256_SIZE);
    memcpy(trailer->raw_sha256, bytes + AT_RAW_SHA256, DIGEST_SHA256_SIZE);
    memcpy(trailer->name, bytes + AT_NAME, TRAILER_NAME_SIZE);
    return true;
}

void trailer_name_digest(uint64_t system_identifier, const char *name,
                         unsigned char digest[TRAILER_NAME_SIZE])
{
    char *text = mem_printf("%" PRIu64 "/%s", system_identifier, name);
    unsigned char whole[DIGEST_SHA256_SIZE];

    digest_sha256(text, strlen(text), whole);
    memcpy(digest, whole, TRAILER_NAME_SIZE);
    free(text);
}

const char *trailer_kind_name(enum trailer_kind kind)
{
    switch (kind) {
    case TRAILER_IDENTITY:
        return "repository identity";
    case TRAILER_WAL:
        return "WAL segment";
    case TRAILER_PARTIAL:
        return "partial WAL segment";
    case TRAILER_HISTORY:
        return "timeline history file";
    case TRAILER_BACKUP_HISTORY:
        return "backup history file";
    case TRAILER_BEGIN:
        return "begin note";
    case TRAILER_LEASE:
        return "lease";
    case TRAILER_PACK:
        return "pack";
    case TRAILER_MANIFEST:
        return "manifest";
    case TRAILER_REFS:
        return "list of packs";
    case TRAILER_BACKUP:
        return "backup record";
    case TRAILER_KEEP:
        return "keep note";
    case TRAILER_EXPIRE:
        return "mark for deletion";
    case TRAILER_CLAIM:
        return "claim";
    case TRAILER_END:
        return "end note";
    }
    return "unknown object";
}
