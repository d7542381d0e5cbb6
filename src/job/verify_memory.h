/*
 * verify_memory.h - what this host has read of which repository, and when
 *
 * <state_dir>/verify.sqlite: by the repository's id and the object's name its size, the SHA-256 of its
 * stored bytes (of WAL: of what PostgreSQL handed over, as that can be compressed in several ways), and
 * when it was found sound; 0: something was wrong with it since. It can be lost at any time, which costs reading once more;
 * a damaged one is thrown away.
 */
#ifndef PGVIGIL_VERIFY_MEMORY_H
#define PGVIGIL_VERIFY_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/digest.h"
#include "pgvigil/error.h"

struct verify_memory;

struct verify_memory_row {
    const char *object; /* valid during the call */
    uint64_t size;
    int64_t checked; /* microseconds since 1970 */
    unsigned char sha256[DIGEST_SHA256_SIZE];
};

bool verify_memory_open(const char *state_dir, struct verify_memory **memory, struct error *err);
void verify_memory_close(struct verify_memory *memory);

/* All rows of one repository, under a prefix of names that is left off, ascending by name. */
typedef void (*verify_memory_fn)(const struct verify_memory_row *row, void *context);
bool verify_memory_each(struct verify_memory *memory, const char *repository, const char *prefix,
                        verify_memory_fn fn, void *context, struct error *err);

/* All are durable at the latest when verify_memory_flush has returned. */
bool verify_memory_note(struct verify_memory *memory, const char *repository, const char *prefix,
                        const struct verify_memory_row *row, struct error *err);
bool verify_memory_forget(struct verify_memory *memory, const char *repository, const char *prefix,
                          const char *object, struct error *err);
/* Something is wrong with an object, if it is known at all: it is no longer sound. */
bool verify_memory_doubt(struct verify_memory *memory, const char *repository, const char *prefix,
                         const char *object, struct error *err);
bool verify_memory_flush(struct verify_memory *memory, struct error *err);

#endif
