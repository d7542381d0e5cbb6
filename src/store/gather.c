/* gather.c - puts that gather an object before it is stored in one request */
#include "store/gather.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgvigil/files.h"
#include "pgvigil/mem.h"

#define CHUNK ((size_t)1024 * 1024)
#define CHUNKS (GATHER_MEMORY / CHUNK)

struct gather {
    struct store_put base;
    enum store_use use;
    uint64_t length;
    unsigned char *chunks[CHUNKS]; /* of CHUNK bytes each, as far as needed */
    int file;                      /* of what lies behind GATHER_MEMORY; -1: nothing does */
    bool broken;                   /* a write failed */
    bool has_sha256;
    unsigned char sha256[STORE_SHA256_SIZE];
};

/* Chunks that no put has now. They are kept until the process ends: pack follows pack, and to have the system give
 * the same memory anew takes as much processor time as all else that a put does. */
struct spare {
    struct spare *next;
};

static struct spare *spares;
static pthread_mutex_t spares_lock = PTHREAD_MUTEX_INITIALIZER;

static unsigned char *take_chunk(struct error *err)
{
    pthread_mutex_lock(&spares_lock);
    void *chunk = spares;
    if (chunk)
        spares = spares->next;
    pthread_mutex_unlock(&spares_lock);
    return chunk || mem_try_alloc(&chunk, CHUNK, err) ? chunk : NULL;
}

static void give_chunks_back(unsigned char *const *chunks)
{
    pthread_mutex_lock(&spares_lock);
    for (size_t i = 0; i < CHUNKS && chunks[i]; i++) {
        struct spare *spare = (struct spare *)(void *)chunks[i];

        spare->next = spares;
        spares = spare;
    }
    pthread_mutex_unlock(&spares_lock);
}

struct store_put *gather_begin(struct store *store, const char *name, enum store_use use)
{
    struct gather *gather = mem_calloc(1, sizeof(*gather));

    gather->base.store = store;
    gather->base.name = mem_strdup(name);
    gather->use = use;
    gather->file = -1;
    return &gather->base;
}

static void gather_free(struct gather *gather)
{
    give_chunks_back(gather->chunks);
    if (gather->file >= 0)
        close(gather->file);
    free(gather->base.name);
    free(gather);
}

/* As much as goes into the chunk where the object ends now. */
static bool gather_to_memory(struct gather *gather, const unsigned char *data, size_t length,
                             size_t *taken, struct error *err)
{
    size_t which = (size_t)(gather->length / CHUNK), at = (size_t)(gather->length % CHUNK);
    size_t room = CHUNK - at;

    if (!gather->chunks[which])
        gather->chunks[which] = take_chunk(err);
    if (!gather->chunks[which])
        return false;
    *taken = length < room ? length : room;
    memcpy(gather->chunks[which] + at, data, *taken);
    return true;
}

static bool gather_to_file(struct gather *gather, const void *data, size_t length,
                           struct error *err)
{
    const char *directory = files_temporary_place();

    if (gather->file < 0)
        gather->file = open(directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (gather->file < 0) {
        error_set_errno(err, "could not make a temporary file in \"%s\"", directory);
        return error_hint(err, "TMPDIR may name another directory");
    }
    return files_write_fd(gather->file, directory, data, length, err);
}

bool gather_write(struct store_put *put, const void *data, size_t length, struct error *err)
{
    struct gather *gather = (struct gather *)put;
    const unsigned char *at = data;

    while (length > 0) {
        size_t taken = length;
        bool ok = gather->length < GATHER_MEMORY ? gather_to_memory(gather, at, length, &taken, err)
                                                 : gather_to_file(gather, at, length, err);

        if (!ok) {
            gather->broken = true;
            return error_context(err, "could not write object \"%s\" in \"%s\"", put->name,
                                 put->store->url);
        }
        gather->length += taken;
        at += taken;
        length -= taken;
    }
    return true;
}

void gather_sha256(struct store_put *put, const unsigned char sha256[STORE_SHA256_SIZE])
{
    struct gather *gather = (struct gather *)put;

    memcpy(gather->sha256, sha256, STORE_SHA256_SIZE);
    gather->has_sha256 = true;
}

static bool gather_read_file(const struct gather *gather, uint64_t offset, unsigned char *data,
                             size_t length, struct error *err)
{
    while (length > 0) {
        ssize_t got = pread(gather->file, data, length, (off_t)offset);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set_errno(err, "could not read a temporary file in \"%s\"",
                                   files_temporary_place());
        if (got == 0)
            return error_set(err, ERROR_SYSTEM, "a temporary file in \"%s\" became shorter",
                             files_temporary_place());
        data += got;
        offset += (uint64_t)got;
        length -= (size_t)got;
    }
    return true;
}

static bool gather_read(const struct store_body *body, uint64_t offset, void *data, size_t length,
                        struct error *err)
{
    const struct gather *gather = body->context;
    unsigned char *to = data;

    while (length > 0 && offset < GATHER_MEMORY) {
        size_t at = (size_t)(offset % CHUNK);
        size_t part = length < CHUNK - at ? length : CHUNK - at;

        memcpy(to, gather->chunks[offset / CHUNK] + at, part);
        to += part;
        offset += part;
        length -= part;
    }
    return length == 0 || gather_read_file(gather, offset - GATHER_MEMORY, to, length, err);
}

bool gather_commit(struct store_put *put, enum store_outcome *outcome, struct error *err)
{
    struct gather *gather = (struct gather *)put;
    const struct store_body body = {.length = gather->length,
                                    .sha256 = gather->has_sha256 ? gather->sha256 : NULL,
                                    .read = gather_read,
                                    .context = gather};
    bool ok =
        !gather->broken ||
        error_set(err, ERROR_STORE, "could not write object \"%s\" in \"%s\": it is not whole",
                  put->name, put->store->url);

    ok = ok &&
         put->store->driver->put_whole(put->store, put->name, gather->use, &body, outcome, err);
    gather_free(gather);
    return ok;
}

void gather_abort(struct store_put *put)
{
    gather_free((struct gather *)put);
}
