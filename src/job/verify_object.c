/* verify_object.c - objects read whole */
#include "job/verify_object.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "job/verify_blocks.h"
#include "pgvigil/decompress.h"
#include "pgvigil/digest.h"
#include "pgvigil/layout.h"
#include "pgvigil/mem.h"
#include "pgvigil/object.h"
#include "pgvigil/object_copy.h"
#include "pgvigil/pack.h"
#include "pgvigil/progress.h"
#include "pgvigil/wal_archive.h"
#include "pgvigil/workers.h"

#define NOTE_MAXIMUM (UINT64_C(16) << 20)
#define LIST_MAXIMUM (UINT64_C(1) << 30) /* of packs; the lists themselves are checked elsewhere */
#define MANIFEST_MAXIMUM (UINT64_C(16) << 30) /* docs/FORMAT.md */
#define PARTIAL_DIGEST 8                      /* bytes of the digest in a partial segment's name */

struct verify_reader {
    struct verify_blocks *blocks; /* NULL: no digests are noted */
    struct verify_blocks_pack noted;
    unsigned char *frame; /* PACK_FRAME_RAW bytes */
    struct buffer pack;
    struct decompress_context *decompress;
    struct digest_sha256 *raw;         /* of all raw bytes */
    unsigned char head[WAL_PAGE_SIZE]; /* the first raw bytes */
    size_t head_length;
};

struct verify_reader *verify_object_reader(void)
{
    struct verify_reader *reader = mem_calloc(1, sizeof *reader);

    reader->decompress = decompress_new();
    reader->raw = digest_sha256_new();
    reader->frame = mem_alloc(PACK_FRAME_RAW);
    return reader;
}

void verify_object_free_reader(struct verify_reader *reader)
{
    if (reader == NULL)
        return;
    buffer_free(&reader->pack);
    verify_blocks_free_pack(&reader->noted);
    free(reader->frame);
    decompress_free(reader->decompress);
    digest_sha256_free(reader->raw);
    free(reader);
}

static bool take_raw(const void *data, size_t length, void *context, struct error *err)
{
    struct verify_reader *reader = context;
    const size_t room = sizeof reader->head - reader->head_length;
    const size_t kept = length < room ? length : room;

    (void)err;
    digest_sha256_update(reader->raw, data, length);
    memcpy(reader->head + reader->head_length, data, kept);
    reader->head_length += kept;
    return true;
}

static bool discard(const void *data, size_t length, void *context, struct error *err)
{
    (void)data;
    (void)length;
    (void)context;
    (void)err;
    return true;
}

static uint64_t raw_maximum(enum trailer_kind kind)
{
    switch (kind) {
    case TRAILER_WAL:
    case TRAILER_PARTIAL:
        return WAL_SEGMENT_SIZE_MAXIMUM;
    case TRAILER_MANIFEST:
        return MANIFEST_MAXIMUM;
    case TRAILER_REFS:
        return LIST_MAXIMUM;
    default:
        return NOTE_MAXIMUM;
    }
}

static enum object_coding coding_of(enum trailer_kind kind)
{
    switch (kind) {
    case TRAILER_WAL:
    case TRAILER_PARTIAL:
    case TRAILER_HISTORY:
    case TRAILER_BACKUP_HISTORY:
    case TRAILER_MANIFEST:
    case TRAILER_REFS:
        return OBJECT_ZSTD;
    default:
        return OBJECT_PLAIN;
    }
}

/* Frame by frame, of a data pack, noting the digests. */
static bool note_blocks(struct verify_reader *reader, struct verify_entry *entry, struct error *err)
{
    const struct buffer *pack = &reader->pack;

    verify_blocks_begin(&reader->noted);
    for (size_t at = 0, length; at < pack->length; at += length) {
        size_t raw;

        if (!decompress_frame_length(pack->data + at, pack->length - at, &length, err) ||
            !decompress_frame(reader->decompress, pack->data + at, length, reader->frame,
                              PACK_FRAME_RAW, &raw, err))
            return false;
        verify_blocks_frame(&reader->noted, (uint32_t)at, (uint32_t)length, reader->frame, raw,
                            entry->secret);
    }
    return verify_blocks_keep(reader->blocks, &reader->noted, entry, err);
}

static bool decode_pack(struct verify_reader *reader, struct error *err)
{
    decompress_start(reader->decompress, DECOMPRESS_ANY, UINT64_MAX, discard, NULL);
    return decompress_feed(reader->decompress, reader->pack.data, reader->pack.length, err) &&
           decompress_finish(reader->decompress, err);
}

/* All frames of a pack can be decoded. */
static bool read_pack(struct repository *repository, struct verify_entry *entry,
                      struct verify_reader *reader, struct trailer *trailer, struct error *err)
{
    const bool noted = reader->blocks != NULL && entry->secret != NULL;

    buffer_clear(&reader->pack);
    if (!object_get_buffer(repository, entry->name, TRAILER_PACK, OBJECT_PLAIN,
                           PACK_SIZE - TRAILER_SIZE, &reader->pack, trailer, err))
        return false;
    return (noted ? note_blocks(reader, entry, err) : decode_pack(reader, err)) ||
           error_context(err, "object \"%s\" in repository \"%s\" cannot be decoded", entry->name,
                         repository->name);
}

/* What a WAL file holds is what its name says. */
static bool check_wal(const struct repository *repository, const struct verify_entry *entry,
                      const struct verify_reader *reader, const struct trailer *trailer,
                      struct error *err)
{
    char file[WAL_NAME_SIZE];
    char hex[2 * PARTIAL_DIGEST + 1];
    struct wal_name name;

    layout_parse_wal(entry->name, file, &name);
    if (reader->head_length < WAL_PAGE_SIZE) {
        error_set(err, ERROR_INTEGRITY, "it has only %zu bytes", reader->head_length);
    } else if (name.kind == WAL_PARTIAL &&
               strstr(entry->name, digest_to_hex(trailer->raw_sha256, PARTIAL_DIGEST, hex)) ==
                   NULL) {
        error_set(err, ERROR_INTEGRITY, "the digest in its name is not that of what it holds");
    } else if (wal_check_segment(&name, trailer->raw_length, reader->head,
                                 repository->system_identifier, err)) {
        return true;
    }
    return error_context(err, "object \"%s\" in repository \"%s\" does not hold that WAL segment",
                         entry->name, repository->name);
}

static bool check_history(struct repository *repository, const struct verify_entry *entry,
                          struct error *err)
{
    char file[WAL_NAME_SIZE];
    struct history history;
    struct wal_name name;
    bool known;

    layout_parse_wal(entry->name, file, &name);
    if (!wal_archive_history(repository, name.timeline, &history, &known, err))
        return false;
    history_free(&history);
    return true;
}

/* Trailers of WAL say what was handed over; other reading goes by the checksums of zstd's frames. */
static bool check_raw(const struct repository *repository, const struct verify_entry *entry,
                      const unsigned char *digest, const struct trailer *trailer, struct error *err)
{
    return memcmp(digest, trailer->raw_sha256, DIGEST_SHA256_SIZE) == 0 ||
           error_set(err, ERROR_INTEGRITY,
                     "what object \"%s\" in repository \"%s\" holds does not have the SHA-256 that "
                     "its trailer says",
                     entry->name, repository->name);
}

static bool read_decoded(struct repository *repository, struct verify_entry *entry,
                         struct verify_reader *reader, struct trailer *trailer, struct error *err)
{
    unsigned char digest[DIGEST_SHA256_SIZE];

    if (entry->kind == TRAILER_PACK)
        return read_pack(repository, entry, reader, trailer, err);
    reader->head_length = 0;

    const bool ok = object_get(repository, entry->name, entry->kind, coding_of(entry->kind),
                               raw_maximum(entry->kind), take_raw, reader, trailer, err);

    /* In any case: it is ready for the next object then. */
    digest_sha256_finish(reader->raw, digest);
    if (!ok)
        return false;
    switch (entry->kind) {
    case TRAILER_WAL:
    case TRAILER_PARTIAL:
        return check_raw(repository, entry, digest, trailer, err) &&
               check_wal(repository, entry, reader, trailer, err);
    case TRAILER_HISTORY:
        return check_raw(repository, entry, digest, trailer, err) &&
               check_history(repository, entry, err);
    case TRAILER_BACKUP_HISTORY:
        return check_raw(repository, entry, digest, trailer, err);
    default:
        return true;
    }
}

/* The digest that tells an object from another of the same name: of WAL that of what PostgreSQL handed
 * over, however it was compressed. */
static const unsigned char *identity_of(const struct trailer *trailer)
{
    static const unsigned char none[DIGEST_SHA256_SIZE];

    return memcmp(trailer->raw_sha256, none, sizeof none) != 0 ? trailer->raw_sha256
                                                               : trailer->stored_sha256;
}

/* It is sound by itself: is it also the one that belongs there? */
static bool check_identity(const struct repository *repository, const struct verify_entry *entry,
                           const struct trailer *trailer, struct error *err)
{
    if (entry->listed &&
        memcmp(entry->listed_sha256, trailer->stored_sha256, DIGEST_SHA256_SIZE) != 0)
        return error_set(
            err, ERROR_INTEGRITY,
            "object \"%s\" in repository \"%s\" is not the one that the lists of packs "
            "say",
            entry->name, repository->name);
    if (!entry->remembered || memcmp(entry->sha256, identity_of(trailer), DIGEST_SHA256_SIZE) == 0)
        return true;
    return error_set(err, ERROR_INTEGRITY,
                     "object \"%s\" in repository \"%s\" has another content than when it was read"
                     " before; if it was replaced on purpose, remove verify.sqlite from the state"
                     " directory",
                     entry->name, repository->name);
}

bool verify_object_read(struct repository *repository, struct verify_entry *entry,
                        struct verify_reader *reader, struct error *err)
{
    struct trailer trailer;

    entry->read = entry->sealed = false;
    if (!read_decoded(repository, entry, reader, &trailer, err)) {
        entry->sealed = err->code == ERROR_CONFIG; /* encrypted for keys that are not here */
        if (!entry->sealed ||
            !object_copy_check(repository, entry->name, entry->kind, &trailer, err))
            return false;
        error_clear(err);
    }
    if (!check_identity(repository, entry, &trailer, err))
        return false;
    entry->size = trailer.stored_length + TRAILER_SIZE;
    memcpy(entry->sha256, identity_of(&trailer), DIGEST_SHA256_SIZE);
    entry->checked = clock_now();
    entry->remembered = true;
    entry->read = true;
    return true;
}

/* What the reading of one object came to. */
static bool settle(struct verify_walk *walk, struct verify_entry *entry, bool ok, struct error *err)
{
    const bool damaged = !ok && err->code == ERROR_INTEGRITY;

    if (!ok && !damaged && err->code != ERROR_NOT_FOUND)
        return false;
    pthread_mutex_lock(&walk->mutex);
    walk->result->read_objects++;
    walk->result->read_bytes += entry->size;
    walk->result->sealed_objects += entry->sealed;
    if (ok)
        verify_walk_remember(walk, entry);
    else if (damaged && !entry->blamed)
        verify_walk_blame(walk, VERIFY_DAMAGED, entry->kind, entry->name, err);
    pthread_mutex_unlock(&walk->mutex);
    error_clear(err); /* what has gone since it was listed was deleted by somebody who may */
    progress_add(entry->size);
    return true;
}

struct reading {
    struct verify_walk *walk;
    atomic_size_t next;
};

static bool read_some(struct workers *workers, int number, void *context, struct error *err)
{
    struct reading *reading = context;
    struct verify_walk *walk = reading->walk;
    struct verify_reader *reader = verify_object_reader();
    bool ok = true;
    size_t i;

    (void)number;
    reader->blocks = walk->blocks;
    while (ok && (i = atomic_fetch_add(&reading->next, 1)) < walk->count) {
        struct verify_entry *entry = &walk->entries[i];

        if (!entry->chosen)
            continue;
        ok = workers_check(workers, err);
        if (ok) {
            bool sound = verify_object_read(walk->repository, entry, reader, err);

            /* Once more, as bits also flip on their way here. */
            if (!sound && err->code == ERROR_INTEGRITY) {
                error_clear(err);
                sound = verify_object_read(walk->repository, entry, reader, err);
            }
            ok = settle(walk, entry, sound, err);
        }
    }
    verify_object_free_reader(reader);
    return ok;
}

bool verify_object_read_chosen(struct verify_walk *walk, struct error *err)
{
    struct reading reading = {.walk = walk};
    uint64_t bytes = 0;

    for (size_t i = 0; i < walk->count; i++)
        bytes += walk->entries[i].chosen ? walk->entries[i].size : 0;
    atomic_init(&reading.next, 0);
    progress_start("verify", bytes);
    const bool ok = workers_run(walk->jobs, read_some, &reading, err);

    progress_stop();
    return ok;
}
