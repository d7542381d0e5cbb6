/* spool.c - many lists that grow side by side in one file without a name */
#include "pgvigil/spool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgvigil/files.h"
#include "pgvigil/mem.h"

#define BUFFERS ((size_t)64 * 1024 * 1024)
#define CHUNK_MINIMUM ((size_t)4 * 1024)
#define CHUNK_MAXIMUM ((size_t)64 * 1024)

/* Its bytes are those of its chunks in the file, in this order, and then those waiting. */
struct list {
    pthread_mutex_t mutex;
    uint32_t *chunks;
    size_t count, capacity;
    unsigned char *waiting; /* a chunk's room, or NULL */
    size_t length;
};

struct spool {
    int fd;
    size_t chunk; /* bytes of one */
    struct list *lists;
    size_t list_count;
    atomic_uint_least32_t next; /* chunk of the file that is free */
};

struct spool *spool_new(int fd, size_t lists)
{
    struct spool *spool = mem_calloc(1, sizeof(*spool));
    const size_t chunk = lists > 0 ? BUFFERS / lists / CHUNK_MINIMUM * CHUNK_MINIMUM : 0;

    spool->fd = fd;
    spool->chunk = chunk < CHUNK_MINIMUM   ? CHUNK_MINIMUM
                   : chunk > CHUNK_MAXIMUM ? CHUNK_MAXIMUM
                                           : chunk;
    spool->lists = mem_calloc(lists, sizeof(*spool->lists));
    spool->list_count = lists;
    for (size_t i = 0; i < lists; i++)
        pthread_mutex_init(&spool->lists[i].mutex, NULL);
    atomic_init(&spool->next, 0);
    return spool;
}

void spool_free(struct spool *spool)
{
    if (!spool)
        return;
    for (size_t i = 0; i < spool->list_count; i++) {
        free(spool->lists[i].chunks);
        free(spool->lists[i].waiting);
        pthread_mutex_destroy(&spool->lists[i].mutex);
    }
    free(spool->lists);
    close(spool->fd);
    free(spool);
}

/* Puts what waits, a full chunk, into the file. */
static bool spool_flush(struct spool *spool, struct list *list, struct error *err)
{
    const uint32_t chunk = atomic_fetch_add(&spool->next, 1);

    list->chunks = mem_grow(list->chunks, list->count, &list->capacity, sizeof(*list->chunks));
    list->chunks[list->count++] = chunk;
    list->length = 0;
    return files_temporary_write(spool->fd, list->waiting, spool->chunk,
                                 (uint64_t)chunk * spool->chunk, err);
}

static bool spool_append(struct spool *spool, struct list *list, const unsigned char *data,
                         size_t length, struct error *err)
{
    while (length > 0) {
        const size_t room = spool->chunk - list->length;
        const size_t part = length < room ? length : room;

        if (!list->waiting)
            list->waiting = mem_alloc(spool->chunk);
        memcpy(list->waiting + list->length, data, part);
        list->length += part;
        data += part;
        length -= part;
        if (list->length == spool->chunk && !spool_flush(spool, list, err))
            return false;
    }
    return true;
}

bool spool_add(struct spool *spool, size_t list, const void *data, size_t length, struct error *err)
{
    struct list *to = &spool->lists[list];

    pthread_mutex_lock(&to->mutex);
    const bool ok = spool_append(spool, to, data, length, err);
    pthread_mutex_unlock(&to->mutex);
    return ok;
}

static uint64_t spool_length(const struct spool *spool, const struct list *list)
{
    return (uint64_t)list->count * spool->chunk + list->length;
}

static bool spool_empty(struct spool *spool, struct list *list, struct buffer *out,
                        struct error *err)
{
    const uint64_t length = spool_length(spool, list);
    void *room;

    buffer_clear(out);
    /* It may be much, and then to have no memory is an error. */
    if (out->capacity <= length) {
        if (!mem_try_alloc(&room, (size_t)length + 1, err))
            return false;
        free(out->data);
        *out = (struct buffer){.data = room, .capacity = (size_t)length + 1};
    }
    for (size_t i = 0; i < list->count; i++, out->length += spool->chunk)
        if (!files_temporary_read(spool->fd, out->data + out->length, spool->chunk,
                                  (uint64_t)list->chunks[i] * spool->chunk, err))
            return false;
    if (list->length > 0)
        buffer_append(out, list->waiting, list->length);
    list->count = list->length = 0;
    free(list->waiting);
    list->waiting = NULL;
    return true;
}

bool spool_take(struct spool *spool, size_t list, struct buffer *out, struct error *err)
{
    struct list *from = &spool->lists[list];

    pthread_mutex_lock(&from->mutex);
    const bool ok = spool_empty(spool, from, out, err);
    pthread_mutex_unlock(&from->mutex);
    return ok;
}

uint64_t spool_bytes(struct spool *spool, size_t list)
{
    struct list *one = &spool->lists[list];

    pthread_mutex_lock(&one->mutex);
    const uint64_t bytes = spool_length(spool, one);
    pthread_mutex_unlock(&one->mutex);
    return bytes;
}
