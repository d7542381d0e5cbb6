/* object.c - objects with their trailers: reading them; object_writer.c writes them */
#include "pgvigil/object.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/cms_stream.h"
#include "pgvigil/compress.h"
#include "pgvigil/decompress.h"
#include "pgvigil/digest.h"
#include "pgvigil/keyring.h"
#include "pgvigil/mem.h"
#include "pgvigil/relay.h"
#include "repo/object_kind.h"

#define STORED_SLACK (UINT64_C(1) << 20)

bool object_put_scratch(struct repository *repository, const char *name, enum trailer_kind kind,
                        void *data, size_t length, enum store_outcome *outcome,
                        struct trailer *trailer, struct error *err)
{
    struct object_writer *writer;

    if (!object_writer_begin(repository, name, kind, OBJECT_PLAIN, 0, &writer, err))
        return false;
    if (!object_writer_write_scratch(writer, data, length, err)) {
        object_writer_abort(writer);
        return false;
    }
    return object_writer_commit(writer, outcome, trailer, err);
}

bool object_refuse_taken(const struct repository *repository, const char *name, struct error *err)
{
    return error_set(err, ERROR_INTEGRITY,
                     "could not store \"%s\" in repository \"%s\": an object of this name is there "
                     "already",
                     name, repository->name);
}

bool object_put(struct repository *repository, const char *name, enum trailer_kind kind,
                enum object_coding coding, int level, const void *data, size_t length,
                enum store_outcome *outcome, struct trailer *trailer, struct error *err)
{
    struct object_writer *writer;

    if (!object_writer_begin(repository, name, kind, coding, level, &writer, err))
        return false;
    if (!object_writer_write(writer, data, length, err)) {
        object_writer_abort(writer);
        return false;
    }
    return object_writer_commit(writer, outcome, trailer, err);
}

/* One object on its way back. */
struct object_reader {
    struct repository *repository;
    const char *name;
    enum trailer_kind kind;
    uint64_t maximum; /* raw bytes */
    store_sink sink;
    void *context;
    struct buffer *room; /* where it is decrypted, or NULL */
    bool sink_failed;    /* the error is the receiver's, and says nothing of the object */

    unsigned char tail[TRAILER_SIZE]; /* the last bytes so far: perhaps the trailer */
    size_t tail_length;
    bool encrypted;
    struct cms_stream *decrypt;            /* of encrypted objects, with a key for them */
    struct error opening;                  /* why it cannot be decrypted */
    struct decompress_context *decompress; /* OBJECT_ZSTD only */
    struct digest_sha256 *stored;
    struct relay *giving; /* WAL kinds only: gives while more is decompressed */
    uint64_t stored_length;
    uint64_t raw_length;
};

/* Puts before an integrity error which object it is about. */
static bool object_blame(const struct repository *repository, const char *name, struct error *err)
{
    return err->code == ERROR_INTEGRITY
               ? error_context(err, "object \"%s\" in repository \"%s\" is damaged", name,
                               repository->name)
               : false;
}

static bool object_damaged(const struct repository *repository, const char *name, struct error *err,
                           const char *why)
{
    error_set(err, ERROR_INTEGRITY, "%s", why);
    return object_blame(repository, name, err);
}

static bool object_absent(const struct repository *repository, const char *name, struct error *err)
{
    return error_set(err, ERROR_NOT_FOUND, "there is no object \"%s\" in repository \"%s\"", name,
                     repository->name);
}

/* What a trailer must say of the object that carries it. */
static bool object_check_trailer(const struct repository *repository, const char *name,
                                 enum trailer_kind kind, const struct trailer *trailer,
                                 uint64_t stored_length, struct error *err)
{
    unsigned char digest[TRAILER_NAME_SIZE];

    if (trailer->kind != kind) {
        error_set(err, ERROR_INTEGRITY, "it is a %s, where a %s was expected",
                  trailer_kind_name(trailer->kind), trailer_kind_name(kind));
        return object_blame(repository, name, err);
    }
    object_kind_name_digest(repository, name, kind, digest);
    if (memcmp(digest, trailer->name, sizeof(digest)) != 0)
        return object_damaged(repository, name, err,
                              "it was stored under another name or for another cluster");
    if (trailer->stored_length != stored_length) {
        error_set(err, ERROR_INTEGRITY,
                  "it has %" PRIu64 " bytes before its trailer, which says %" PRIu64, stored_length,
                  trailer->stored_length);
        return object_blame(repository, name, err);
    }
    if (trailer->encrypted == repository_encrypts(repository, name))
        return true;
    return object_damaged(repository, name, err,
                          trailer->encrypted ? "it is encrypted, which it must not be here"
                                             : "it is not encrypted, which it must be here");
}

/* Raw bytes to whoever asked for them. */
static bool object_give(const void *data, size_t length, void *context, struct error *err)
{
    struct object_reader *reader = context;

    if (length > reader->maximum - reader->raw_length) {
        error_set(err, ERROR_INTEGRITY, "it has more than the %" PRIu64 " bytes it may have",
                  reader->maximum);
        return false;
    }
    reader->raw_length += length;
    if (reader->sink(data, length, reader->context, err))
        return true;
    reader->sink_failed = true;
    return false;
}

static bool object_pass(const void *data, size_t length, void *context, struct error *err)
{
    struct object_reader *reader = context;

    return reader->giving ? relay_hand(reader->giving, data, length, err)
                          : object_give(data, length, reader, err);
}

/* Whatever became of the object, what is under way must come to its end; the first error counts. */
static bool object_settle(struct object_reader *reader, bool ok, struct error *err)
{
    struct error later = ERROR_INIT;

    if (!reader->giving || relay_wait(reader->giving, &later) || !ok)
        return ok;
    *err = later;
    return false;
}

/* What was stored, decrypted if need be. */
static bool object_take_open(const void *data, size_t length, void *context, struct error *err)
{
    struct object_reader *reader = context;

    return reader->decompress ? decompress_feed(reader->decompress, data, length, err)
                              : object_give(data, length, reader, err);
}

/* When it cannot be decrypted, only the digest of all stored bytes tells whether they are damaged or
 * the key is not theirs: so it goes on to the end. */
static bool object_take_encrypted(struct object_reader *reader, const void *data, size_t length,
                                  struct error *err)
{
    if (reader->opening.code != ERROR_NONE ||
        cms_stream_feed(reader->decrypt, data, length, &reader->opening))
        return true;
    if (!reader->sink_failed)
        return true;
    *err = reader->opening;
    return false;
}

/* So many bytes can be stored for the raw ones: zstd and CMS add less than this. Frames of nothing, without an
 * end, would otherwise be read for ever. */
static uint64_t object_stored_maximum(const struct object_reader *reader)
{
    return reader->maximum + reader->maximum / 64 + STORED_SLACK;
}

/* Stored bytes that are certainly not of the trailer. */
static bool object_take_stored(struct object_reader *reader, const void *data, size_t length,
                               struct error *err)
{
    if (length == 0)
        return true;
    reader->stored_length += length;
    if (reader->stored_length > object_stored_maximum(reader))
        return error_set(err, ERROR_INTEGRITY,
                         "it is longer than the %" PRIu64 " bytes it may hold could make it",
                         reader->maximum);
    digest_sha256_update(reader->stored, data, length);
    return reader->encrypted ? object_take_encrypted(reader, data, length, err)
                             : object_take_open(data, length, reader, err);
}

/* Holds back the last TRAILER_SIZE bytes, as only the end tells where the trailer begins. */
static bool object_take(const void *data, size_t length, void *context, struct error *err)
{
    struct object_reader *reader = context;
    const unsigned char *bytes = data;
    size_t total = reader->tail_length + length;
    size_t surplus = total > TRAILER_SIZE ? total - TRAILER_SIZE : 0;
    size_t from_tail = surplus < reader->tail_length ? surplus : reader->tail_length;
    size_t from_data = surplus - from_tail;

    if (!object_take_stored(reader, reader->tail, from_tail, err) ||
        !object_take_stored(reader, bytes, from_data, err))
        return false;
    reader->tail_length -= from_tail;
    memmove(reader->tail, reader->tail + from_tail, reader->tail_length);
    memcpy(reader->tail + reader->tail_length, bytes + from_data, length - from_data);
    reader->tail_length += length - from_data;
    return true;
}

/* That these are the bytes that were compressed is what the checksum of each zstd frame says; bits that
 * flipped in between would make recovery end early at a record whose CRC does not hold, and nobody
 * would know. */
static bool object_check_raw(const struct object_reader *reader, const struct trailer *trailer,
                             struct error *err)
{
    if (reader->raw_length == trailer->raw_length)
        return true;
    error_set(err, ERROR_INTEGRITY, "it holds %" PRIu64 " bytes, its trailer says %" PRIu64,
              reader->raw_length, trailer->raw_length);
    return object_blame(reader->repository, reader->name, err);
}

static bool object_check_stored(const struct object_reader *reader, const struct trailer *trailer,
                                struct error *err)
{
    unsigned char digest[DIGEST_SHA256_SIZE];

    digest_sha256_finish(reader->stored, digest);
    return memcmp(digest, trailer->stored_sha256, sizeof(digest)) == 0 ||
           object_damaged(reader->repository, reader->name, err,
                          "its bytes do not have the SHA-256 that its trailer says");
}

/* The stored bytes are what was once stored: could they be decrypted as well? */
static bool object_finish_decrypting(struct object_reader *reader, struct error *err)
{
    if (!reader->encrypted)
        return true;
    if (reader->opening.code == ERROR_NONE && cms_stream_finish(reader->decrypt, err))
        return true;
    if (reader->opening.code != ERROR_NONE)
        *err = reader->opening;
    return err->code == ERROR_INTEGRITY
               ? object_blame(reader->repository, reader->name, err)
               : error_context(err, "could not read object \"%s\" in repository \"%s\"",
                               reader->name, reader->repository->name);
}

/* All checks that only the end allows. */
static bool object_finish(struct object_reader *reader, struct trailer *trailer, struct error *err)
{
    if (reader->tail_length < TRAILER_SIZE)
        return object_damaged(reader->repository, reader->name, err,
                              "it is too short to have a trailer");
    if (!trailer_decode(reader->tail, trailer, err))
        return object_blame(reader->repository, reader->name, err);
    if (!object_check_trailer(reader->repository, reader->name, reader->kind, trailer,
                              reader->stored_length, err) ||
        !object_check_stored(reader, trailer, err) || !object_finish_decrypting(reader, err))
        return false;
    if (reader->decompress && !decompress_finish(reader->decompress, err))
        return object_blame(reader->repository, reader->name, err);
    return object_check_raw(reader, trailer, err);
}

/* The decoder complains at the first byte it dislikes; the trailer often knows the reason: that the
 * object is cut off, or another one than its name says. */
static void object_diagnose(const struct object_reader *reader, struct error *err)
{
    struct trailer trailer;
    struct error reason;

    if (err->code == ERROR_NOT_FOUND)
        object_absent(reader->repository, reader->name, err);
    if (err->code == ERROR_INTEGRITY &&
        !object_trailer(reader->repository, reader->name, reader->kind, &trailer, &reason) &&
        (reason.code == ERROR_INTEGRITY || reason.code == ERROR_CONFIG))
        *err = reason;
}

/* Without a key it is read all the same: it may be damaged, or not be there. */
static void object_prepare_decrypting(struct object_reader *reader, enum object_coding coding)
{
    const size_t most =
        coding == OBJECT_ZSTD ? compress_bound(OBJECT_KIND_FRAME_RAW) : (size_t)reader->maximum;
    const struct keys_identity *identity;

    if (keyring_identity(reader->repository->keyring, &identity, &reader->opening))
        reader->decrypt = cms_stream_new(identity, most, reader->room, object_take_open, reader);
}

/* Of the reader, what is asked for is set. */
static bool object_read(struct object_reader *reader, enum object_coding coding,
                        struct trailer *trailer, struct error *err)
{
    struct repository *repository = reader->repository;
    char *full = object_kind_full_name(repository, reader->name, reader->kind);
    struct trailer found;

    reader->decompress = coding == OBJECT_ZSTD ? decompress_new() : NULL;
    reader->stored = digest_sha256_new();
    reader->encrypted = repository_encrypts(repository, reader->name);
    if (reader->decompress)
        decompress_start(reader->decompress, DECOMPRESS_CHECKSUMMED, reader->maximum, object_pass,
                         reader);
    if (reader->encrypted)
        object_prepare_decrypting(reader, coding);
    if (reader->decompress && object_kind_is_wal(reader->kind))
        reader->giving = relay_new(object_give, reader);
    bool ok = object_settle(
        reader, store_get(repository->store, full, 0, UINT64_MAX, object_take, reader, err), err);
    if (!ok && !reader->sink_failed) {
        object_blame(repository, reader->name, err);
        object_diagnose(reader, err);
    }
    ok = ok && object_finish(reader, &found, err);
    if (ok && trailer)
        *trailer = found;
    relay_free(reader->giving);
    cms_stream_free(reader->decrypt);
    decompress_free(reader->decompress);
    digest_sha256_free(reader->stored);
    free(full);
    return ok || repository_failed(repository, err);
}

bool object_get(struct repository *repository, const char *name, enum trailer_kind kind,
                enum object_coding coding, uint64_t maximum, store_sink sink, void *context,
                struct trailer *trailer, struct error *err)
{
    struct object_reader reader = {.repository = repository,
                                   .name = name,
                                   .kind = kind,
                                   .maximum = maximum,
                                   .sink = sink,
                                   .context = context};

    return object_read(&reader, coding, trailer, err);
}

static bool object_append(const void *data, size_t length, void *context, struct error *err)
{
    (void)err;
    buffer_append(context, data, length);
    return true;
}

/* What was decrypted in the buffer itself is there already. */
static bool object_keep(const void *data, size_t length, void *context, struct error *err)
{
    struct buffer *buffer = context;

    (void)data;
    (void)err;
    buffer->length += length;
    buffer->data[buffer->length] = '\0';
    return true;
}

bool object_get_buffer(struct repository *repository, const char *name, enum trailer_kind kind,
                       enum object_coding coding, size_t maximum, struct buffer *buffer,
                       struct trailer *trailer, struct error *err)
{
    const size_t before = buffer->length;
    const bool in_place = coding == OBJECT_PLAIN && repository_encrypts(repository, name);
    struct object_reader reader = {.repository = repository,
                                   .name = name,
                                   .kind = kind,
                                   .maximum = maximum,
                                   .sink = in_place ? object_keep : object_append,
                                   .context = buffer,
                                   .room = in_place ? buffer : NULL};

    if (object_read(&reader, coding, trailer, err))
        return true;
    buffer->length = before;
    if (buffer->data)
        buffer->data[before] = '\0';
    return false;
}

bool object_trailer(struct repository *repository, const char *name, enum trailer_kind kind,
                    struct trailer *trailer, struct error *err)
{
    char *full = object_kind_full_name(repository, name, kind);
    struct buffer bytes = BUFFER_INIT;
    struct store_info info;
    bool ok = store_stat(repository->store, full, &info, err);

    if (ok && info.size < TRAILER_SIZE) {
        ok = object_damaged(repository, name, err, "it is too short to have a trailer");
    } else if (ok) {
        ok = store_get(repository->store, full, info.size - TRAILER_SIZE, TRAILER_SIZE,
                       object_append, &bytes, err);
    }
    if (!ok && err->code == ERROR_NOT_FOUND)
        object_absent(repository, name, err);
    if (ok && bytes.length != TRAILER_SIZE)
        ok = object_damaged(repository, name, err, "it changed while it was read");
    if (ok && !trailer_decode(bytes.data, trailer, err))
        ok = object_blame(repository, name, err);
    ok = ok && object_check_trailer(repository, name, kind, trailer, info.size - TRAILER_SIZE, err);
    buffer_free(&bytes);
    free(full);
    return ok || repository_failed(repository, err);
}
