/*
 * object.h - objects with their trailers
 *
 * Everything a repository holds is written and read through here: coding, trailer, and on the way
 * back all checks of promise 4 (kind, name, lengths, digests). Names are relative to the selected
 * cluster of the repository, except for TRAILER_IDENTITY, whose name is relative to the root.
 *
 * In an encrypted repository what is secret (repository_encrypts) is encrypted here, after
 * compression, and refused on the way back where it is not: whoever can write to the place must not
 * be able to slip in what anybody could have written.
 */
#ifndef PGVIGIL_OBJECT_H
#define PGVIGIL_OBJECT_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/buffer.h"
#include "pgvigil/repository.h"
#include "pgvigil/trailer.h"

enum object_coding {
    OBJECT_PLAIN, /* stored as given: packs, JSON */
    OBJECT_ZSTD   /* compressed here, one zstd frame for each 32 MiB of raw bytes */
};

struct object_writer;

/* raw digests are computed for the WAL kinds only. level counts for OBJECT_ZSTD. */
bool object_writer_begin(struct repository *repository, const char *name, enum trailer_kind kind,
                         enum object_coding coding, int level, struct object_writer **writer,
                         struct error *err);
/* Of OBJECT_PLAIN that is encrypted, all is kept in memory until the end. */
bool object_writer_write(struct object_writer *writer, const void *data, size_t length,
                         struct error *err);
/* All that an OBJECT_PLAIN consists of, see object_put_scratch. */
bool object_writer_write_scratch(struct object_writer *writer, void *data, size_t length,
                                 struct error *err);
/* Ends and frees the writer whatever it returns; trailer (may be NULL) gets what was written. */
bool object_writer_commit(struct object_writer *writer, enum store_outcome *outcome,
                          struct trailer *trailer, struct error *err);
void object_writer_abort(struct object_writer *writer);

/* ERROR_INTEGRITY, for whoever's run has claimed the name alone and yet met STORE_TAKEN. */
bool object_refuse_taken(const struct repository *repository, const char *name, struct error *err);

/* All in one. */
bool object_put(struct repository *repository, const char *name, enum trailer_kind kind,
                enum object_coding coding, int level, const void *data, size_t length,
                enum store_outcome *outcome, struct trailer *trailer, struct error *err);
/* The same for an OBJECT_PLAIN whose bytes are not needed afterwards: they may be overwritten, which
 * saves a copy where they are encrypted. */
bool object_put_scratch(struct repository *repository, const char *name, enum trailer_kind kind,
                        void *data, size_t length, enum store_outcome *outcome,
                        struct trailer *trailer, struct error *err);

/*
 * Gives the raw bytes to sink as they come. They are proven only once true is returned: until then
 * the receiver must not let anybody take them for real. More than `maximum` raw bytes, or more stored
 * ones than those can take, a wrong kind, name, length or digest are ERROR_INTEGRITY naming the object;
 * absence is ERROR_NOT_FOUND; an encrypted object that no private key opens is ERROR_CONFIG.
 */
bool object_get(struct repository *repository, const char *name, enum trailer_kind kind,
                enum object_coding coding, uint64_t maximum, store_sink sink, void *context,
                struct trailer *trailer, struct error *err);
bool object_get_buffer(struct repository *repository, const char *name, enum trailer_kind kind,
                       enum object_coding coding, size_t maximum, struct buffer *buffer,
                       struct trailer *trailer, struct error *err);

/* Only the trailer, checked against kind, name and the object's size, not against its bytes. */
bool object_trailer(struct repository *repository, const char *name, enum trailer_kind kind,
                    struct trailer *trailer, struct error *err);

#endif
