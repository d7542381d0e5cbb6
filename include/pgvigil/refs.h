/*
 * refs.h - the packs that a backup needs (refs.zst)
 *
 * Text, one line for each pack, sorted by run and number, tab-separated: object name, bytes stored
 * (trailer included), SHA-256 of the bytes before the trailer, "data" or "map", blocks in it,
 * blocks of them that this backup uses. The first line is "pgvigil refs 1". Never encrypted.
 */
#ifndef PGVIGIL_REFS_H
#define PGVIGIL_REFS_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/buffer.h"
#include "pgvigil/digest.h"
#include "pgvigil/layout.h"
#include "pgvigil/repository.h"

enum refs_kind { REFS_DATA, REFS_MAP };

struct refs_pack {
    struct layout_pack pack;
    uint64_t size; /* the object's, trailer included */
    unsigned char sha256[DIGEST_SHA256_SIZE];
    enum refs_kind kind;
    uint32_t blocks;
    uint32_t live;
};

struct refs {
    struct refs_pack *packs;
    size_t count;
    size_t capacity;
};

#define REFS_INIT                                                                                  \
    {                                                                                              \
        .packs = NULL                                                                              \
    }

void refs_add(struct refs *refs, const struct refs_pack *pack);
void refs_sort(struct refs *refs);
/* NULL when absent; refs must be sorted. */
const struct refs_pack *refs_find(const struct refs *refs, const struct layout_pack *pack);
void refs_free(struct refs *refs);

void refs_encode(const struct refs *refs, struct buffer *text);
/* Strict: header, order, no duplicates, every field in bounds; ERROR_INTEGRITY with the line. */
bool refs_parse(const char *text, size_t length, struct refs *refs, struct error *err);

/* Stored as backup/<run>/refs.zst; sha256 is that of the object's stored bytes. */
bool refs_store(struct repository *repository, int64_t run, const struct refs *refs,
                unsigned char sha256[DIGEST_SHA256_SIZE], struct error *err);
bool refs_fetch(struct repository *repository, int64_t run,
                const unsigned char sha256[DIGEST_SHA256_SIZE], struct refs *refs,
                struct error *err);

/* Lists the runs that refs (sorted) names: which of the packs does the repository not have, with the
 * size that refs says? lacking has room for refs->count. */
bool refs_find_lacking(struct repository *repository, const struct refs *refs, bool *lacking,
                       size_t *count, struct error *err);

#endif
