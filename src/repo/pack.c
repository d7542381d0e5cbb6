/*
 * pack.c - filling, storing and reading packs
 */
#include "pgvigil/pack.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/cms.h"
#include "pgvigil/compress.h"
#include "pgvigil/mem.h"
#include "pgvigil/object.h"
#include "pgvigil/repository_ask.h"

/* Bytes of frames, whether the pack is encrypted or not. */
#define PACK_CAPACITY (PACK_SIZE - CMS_OVERHEAD - TRAILER_SIZE)

struct pack_set {
    struct repository *repository;
    int64_t run;
    pack_stored_fn on_map; /* or NULL */
    void *on_map_context;
    pthread_mutex_t mutex; /* guards next and refs */
    uint32_t next;
    struct refs refs;
};

struct pack_writer {
    struct pack_set *set;
    enum refs_kind kind;
    struct compress_context *compress;
    unsigned char *bytes; /* PACK_CAPACITY of them */
    size_t used;
    uint32_t blocks;
    struct layout_pack pack; /* number 0: none begun */
    pack_noted_fn on_stored; /* or NULL */
    void *on_stored_context;
};

struct pack_set *pack_set_new(struct repository *repository, int64_t run)
{
    struct pack_set *set = mem_calloc(1, sizeof *set);

    set->repository = repository;
    set->run = run;
    set->next = 1;
    pthread_mutex_init(&set->mutex, NULL);
    return set;
}

void pack_set_free(struct pack_set *set)
{
    if (set == NULL)
        return;
    refs_free(&set->refs);
    pthread_mutex_destroy(&set->mutex);
    free(set);
}

void pack_set_on_map(struct pack_set *set, pack_stored_fn fn, void *context)
{
    set->on_map = fn;
    set->on_map_context = context;
}

const struct refs *pack_set_refs(struct pack_set *set)
{
    refs_sort(&set->refs);
    return &set->refs;
}

bool pack_writer_new(struct pack_set *set, enum refs_kind kind, int level,
                     struct pack_writer **writer, struct error *err)
{
    void *bytes;

    if (!mem_try_alloc(&bytes, PACK_CAPACITY, err))
        return false;
    *writer = mem_calloc(1, sizeof **writer);
    (*writer)->set = set;
    (*writer)->kind = kind;
    (*writer)->bytes = bytes;
    (*writer)->compress = compress_new(level);
    return true;
}

void pack_writer_free(struct pack_writer *writer)
{
    if (writer == NULL)
        return;
    compress_free(writer->compress);
    free(writer->bytes);
    free(writer);
}

void pack_writer_on_stored(struct pack_writer *writer, pack_noted_fn fn, void *context)
{
    writer->on_stored = fn;
    writer->on_stored_context = context;
}

static void begin_pack(struct pack_writer *writer)
{
    struct pack_set *set = writer->set;

    pthread_mutex_lock(&set->mutex);
    writer->pack = (struct layout_pack){.run = set->run, .number = set->next++};
    pthread_mutex_unlock(&set->mutex);
    writer->used = 0;
    writer->blocks = 0;
}

bool pack_writer_add(struct pack_writer *writer, const void *raw, size_t length, uint32_t blocks,
                     struct pack_frame *frame, struct error *err)
{
    size_t compressed;

    if (writer->pack.number != 0 && PACK_CAPACITY - writer->used < compress_bound(length) &&
        !pack_writer_flush(writer, err))
        return false;
    if (writer->pack.number == 0)
        begin_pack(writer);
    if (!compress_frame(writer->compress, raw, length, writer->bytes + writer->used,
                        PACK_CAPACITY - writer->used, &compressed, err))
        return false;
    *frame = (struct pack_frame){
        .pack = writer->pack, .offset = (uint32_t)writer->used, .length = (uint32_t)compressed};
    writer->used += compressed;
    writer->blocks += blocks;
    return true;
}

/* Does somebody want the bytes of this pack once it is stored? */
static bool is_wanted(const struct pack_writer *writer)
{
    return writer->kind == REFS_MAP && writer->set->on_map != NULL;
}

static bool note_pack(struct pack_writer *writer, const struct trailer *trailer, struct error *err)
{
    struct pack_set *set = writer->set;
    struct refs_pack stored = {.pack = writer->pack,
                               .size = trailer->stored_length + TRAILER_SIZE,
                               .kind = writer->kind,
                               .blocks = writer->blocks,
                               .live = writer->blocks};

    memcpy(stored.sha256, trailer->stored_sha256, DIGEST_SHA256_SIZE);
    pthread_mutex_lock(&set->mutex);
    refs_add(&set->refs, &stored);
    pthread_mutex_unlock(&set->mutex);
    if (writer->on_stored != NULL)
        writer->on_stored(&stored, writer->on_stored_context);
    return !is_wanted(writer) ||
           set->on_map(&stored, writer->bytes, writer->used, set->on_map_context, err);
}

/* Encrypting in place saves a copy, unless the bytes are wanted afterwards. */
static bool store_bytes(struct pack_writer *writer, const char *name, enum store_outcome *outcome,
                        struct trailer *trailer, struct error *err)
{
    struct repository *repository = writer->set->repository;

    if (is_wanted(writer))
        return object_put(repository, name, TRAILER_PACK, OBJECT_PLAIN, 0, writer->bytes,
                          writer->used, outcome, trailer, err);
    return object_put_scratch(repository, name, TRAILER_PACK, writer->bytes, writer->used, outcome,
                              trailer, err);
}

bool pack_writer_flush(struct pack_writer *writer, struct error *err)
{
    char name[LAYOUT_NAME_SIZE];
    enum store_outcome outcome;
    struct trailer trailer;

    if (writer->pack.number == 0)
        return true;
    layout_pack(&writer->pack, name);
    if (!store_bytes(writer, name, &outcome, &trailer, err))
        return false;
    if (outcome == STORE_TAKEN) {
        error_set(err, ERROR_INTEGRITY, "could not store \"%s\" in repository \"%s\": %s", name,
                  writer->set->repository->name, "somebody else's object has this name");
        return error_hint(err, "is the same run under way on another host?");
    }
    if (!note_pack(writer, &trailer, err))
        return false;
    writer->pack.number = 0;
    return true;
}

struct pack_wanted {
    const struct refs_pack *pack;
    struct buffer *buffer;
};

static bool pack_fetch_from(struct repository *repository, void *context, struct error *err)
{
    const struct pack_wanted *wanted = context;
    const struct refs_pack *pack = wanted->pack;
    char name[LAYOUT_NAME_SIZE];
    struct trailer trailer;

    layout_pack(&pack->pack, name);
    buffer_clear(wanted->buffer);
    if (!object_get_buffer(repository, name, TRAILER_PACK, OBJECT_PLAIN, PACK_SIZE, wanted->buffer,
                           &trailer, err)) {
        if (err->code == ERROR_NOT_FOUND)
            err->code = ERROR_INTEGRITY; /* a committed backup needs it */
        return false;
    }
    if (trailer.stored_length + TRAILER_SIZE != pack->size ||
        memcmp(trailer.stored_sha256, pack->sha256, DIGEST_SHA256_SIZE) != 0)
        return error_set(err, ERROR_INTEGRITY,
                         "\"%s\" in repository \"%s\" is not the pack that the backup was made of",
                         name, repository->name);
    return true;
}

bool pack_fetch(struct repository *repository, const struct refs_pack *pack, struct buffer *buffer,
                struct error *err)
{
    struct pack_wanted wanted = {.pack = pack, .buffer = buffer};

    return repository_ask(repository, pack_fetch_from, &wanted, err);
}

bool pack_read_frame(const struct buffer *pack, const struct pack_frame *frame,
                     struct decompress_context *context, void *raw, size_t capacity,
                     size_t *raw_length, struct error *err)
{
    char name[LAYOUT_NAME_SIZE];

    layout_pack(&frame->pack, name);
    if (frame->offset > pack->length || frame->length > pack->length - frame->offset)
        return error_set(err, ERROR_INTEGRITY, "frame at %" PRIu32 " of \"%s\" lies outside of it",
                         frame->offset, name);
    if (!decompress_frame(context, pack->data + frame->offset, frame->length, raw, capacity,
                          raw_length, err))
        return error_context(err, "could not read the frame at %" PRIu32 " of \"%s\"",
                             frame->offset, name);
    return true;
}
