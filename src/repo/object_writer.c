/* object_writer.c - objects with their trailers: writing them */
#include <stdlib.h>
#include <string.h>

#include "pgvigil/cms.h"
#include "pgvigil/compress.h"
#include "pgvigil/digest.h"
#include "pgvigil/keyring.h"
#include "pgvigil/mem.h"
#include "pgvigil/object.h"
#include "pgvigil/relay.h"
#include "repo/object_kind.h"

#define CHUNK ((size_t)256 * 1024) /* so much is compressed before it is passed on */

static bool object_digest_raw(const void *data, size_t length, void *context, struct error *err)
{
    (void)err;
    digest_sha256_update(context, data, length);
    return true;
}

struct object_writer {
    enum object_coding coding;
    struct store_put *put;
    struct compress_context *compress;        /* OBJECT_ZSTD only */
    const struct keys_recipients *recipients; /* NULL: not encrypted */
    struct buffer out;  /* not yet stored: compressed, or waiting to be encrypted as a whole */
    uint64_t frame_raw; /* raw bytes in the frame begun */
    bool any_part;      /* a frame or, of OBJECT_PLAIN, the structure */
    struct digest_sha256 *stored;
    struct digest_sha256 *raw; /* WAL kinds only */
    struct relay *digesting;   /* raw, while the same bytes are compressed */
    struct trailer trailer;
};

static void object_writer_free(struct object_writer *writer)
{
    relay_free(writer->digesting);
    compress_free(writer->compress);
    buffer_free(&writer->out);
    digest_sha256_free(writer->stored);
    digest_sha256_free(writer->raw);
    free(writer);
}

bool object_writer_begin(struct repository *repository, const char *name, enum trailer_kind kind,
                         enum object_coding coding, int level, struct object_writer **writer,
                         struct error *err)
{
    const struct keys_recipients *recipients = NULL;
    struct store_put *put;

    if (repository_encrypts(repository, name) &&
        !keyring_recipients(repository->keyring, &recipients, err))
        return error_context(err, "could not store \"%s\" in repository \"%s\"", name,
                             repository->name);

    char *full = object_kind_full_name(repository, name, kind);
    bool ok = store_put_begin(repository->store, full, object_kind_use(kind), &put, err);

    free(full);
    if (!ok)
        return false;

    struct object_writer *begun = mem_calloc(1, sizeof(*begun));
    begun->coding = coding;
    begun->put = put;
    begun->compress = coding == OBJECT_ZSTD ? compress_new(level) : NULL;
    begun->stored = digest_sha256_new();
    begun->raw = object_kind_is_wal(kind) ? digest_sha256_new() : NULL;
    begun->digesting = begun->raw ? relay_new(object_digest_raw, begun->raw) : NULL;
    begun->recipients = recipients;
    begun->trailer.kind = kind;
    begun->trailer.encrypted = recipients != NULL;
    object_kind_name_digest(repository, name, kind, begun->trailer.name);
    *writer = begun;
    return true;
}

static bool object_store_bytes(struct object_writer *writer, const void *data, size_t length,
                               struct error *err)
{
    digest_sha256_update(writer->stored, data, length);
    writer->trailer.stored_length += length;
    return store_put_write(writer->put, data, length, err);
}

/* One structure around these bytes, which are overwritten. */
static bool object_store_encrypted(struct object_writer *writer, void *data, size_t length,
                                   struct error *err)
{
    struct buffer head = BUFFER_INIT, tail = BUFFER_INIT;
    bool ok = cms_encrypt(writer->recipients, data, length, &head, &tail, err) &&
              object_store_bytes(writer, head.data, head.length, err) &&
              object_store_bytes(writer, data, length, err) &&
              object_store_bytes(writer, tail.data, tail.length, err);

    writer->any_part = true;
    buffer_free(&tail);
    buffer_free(&head);
    return ok;
}

/* What has been compressed so far; where it is encrypted, it waits for its frame's end. */
static bool object_store_compressed(struct object_writer *writer, struct error *err)
{
    if (writer->recipients)
        return true;

    bool ok = object_store_bytes(writer, writer->out.data, writer->out.length, err);

    buffer_clear(&writer->out);
    return ok;
}

static bool object_store_waiting(struct object_writer *writer, struct error *err)
{
    bool ok = object_store_encrypted(writer, writer->out.data, writer->out.length, err);

    buffer_clear(&writer->out);
    return ok;
}

/* Ends the frame begun; an object without any bytes is one empty frame. */
static bool object_end_frame(struct object_writer *writer, struct error *err)
{
    writer->frame_raw = 0;
    writer->any_part = true;
    return compress_end(writer->compress, &writer->out, err) &&
           (writer->recipients ? object_store_waiting(writer, err)
                               : object_store_compressed(writer, err));
}

static bool object_compress(struct object_writer *writer, const unsigned char *data, size_t length,
                            struct error *err)
{
    while (length > 0) {
        size_t part = length < CHUNK ? length : CHUNK;
        if (part > OBJECT_KIND_FRAME_RAW - writer->frame_raw)
            part = (size_t)(OBJECT_KIND_FRAME_RAW - writer->frame_raw);
        if (!compress_chunk(writer->compress, data, part, &writer->out, err) ||
            !object_store_compressed(writer, err))
            return false;
        writer->frame_raw += part;
        data += part;
        length -= part;
        if (writer->frame_raw == OBJECT_KIND_FRAME_RAW && !object_end_frame(writer, err))
            return false;
    }
    return true;
}

bool object_writer_write(struct object_writer *writer, const void *data, size_t length,
                         struct error *err)
{
    if (length == 0)
        return true;
    writer->trailer.raw_length += length;
    if (writer->digesting && !relay_hand(writer->digesting, data, length, err))
        return false;
    if (writer->coding == OBJECT_PLAIN && writer->recipients)
        buffer_append(&writer->out, data, length);
    else if (writer->coding == OBJECT_PLAIN && !object_store_bytes(writer, data, length, err))
        return false;
    return (writer->coding == OBJECT_PLAIN || object_compress(writer, data, length, err)) &&
           (!writer->digesting || relay_wait(writer->digesting, err));
}

bool object_writer_write_scratch(struct object_writer *writer, void *data, size_t length,
                                 struct error *err)
{
    if (!writer->recipients)
        return object_writer_write(writer, data, length, err);
    writer->trailer.raw_length += length;
    return object_store_encrypted(writer, data, length, err);
}

/* What is still to be stored before the trailer. */
static bool object_store_rest(struct object_writer *writer, struct error *err)
{
    if (writer->coding == OBJECT_ZSTD)
        return (writer->frame_raw == 0 && writer->any_part) || object_end_frame(writer, err);
    return !writer->recipients || writer->any_part || object_store_waiting(writer, err);
}

/* The trailer goes last, so that whatever ends in one was written to its end. */
static bool object_store_trailer(struct object_writer *writer, struct error *err)
{
    unsigned char bytes[TRAILER_SIZE];

    if (!object_store_rest(writer, err))
        return false;
    struct digest_sha256 *whole = digest_sha256_new();
    unsigned char sha256[DIGEST_SHA256_SIZE];

    digest_sha256_copy(whole, writer->stored);
    digest_sha256_finish(writer->stored, writer->trailer.stored_sha256);
    if (writer->raw)
        digest_sha256_finish(writer->raw, writer->trailer.raw_sha256);
    trailer_encode(&writer->trailer, bytes);
    digest_sha256_update(whole, bytes, sizeof(bytes));
    digest_sha256_finish(whole, sha256);
    digest_sha256_free(whole);
    store_put_sha256(writer->put, sha256);
    return store_put_write(writer->put, bytes, sizeof(bytes), err);
}

bool object_writer_commit(struct object_writer *writer, enum store_outcome *outcome,
                          struct trailer *trailer, struct error *err)
{
    if (!object_store_trailer(writer, err)) {
        object_writer_abort(writer);
        return false;
    }
    bool ok = store_put_commit(writer->put, outcome, err);
    if (ok && trailer)
        *trailer = writer->trailer;
    object_writer_free(writer);
    return ok;
}

void object_writer_abort(struct object_writer *writer)
{
    if (!writer)
        return;
    store_put_abort(writer->put);
    object_writer_free(writer);
}
