/* limit.c - a store that takes no more than so many bytes a second */
#include "store/limit.h"

#include <pthread.h>
#include <stdlib.h>

#include "pgvigil/clock.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"

#define PART ((size_t)16 * 1024) /* so much passes at once, that even slow lines flow */

struct limit {
    struct store base;
    uint64_t rate;
    pthread_mutex_t lock;
    int64_t free_at; /* when all that has passed will have been worth its time */
};

/* Waits until `length` more bytes may pass. A pause earns nothing for later. */
static bool limit_wait(struct limit *limit, size_t length, struct error *err)
{
    pthread_mutex_lock(&limit->lock);
    int64_t now = clock_monotonic();
    int64_t from = limit->free_at > now ? limit->free_at : now;

    limit->free_at = from + (int64_t)(length * (uint64_t)CLOCK_SECOND / limit->rate);
    pthread_mutex_unlock(&limit->lock);
    if (from > now)
        clock_sleep(from - now);
    return process_check(err);
}

struct limited_body {
    struct store_body outer;
    struct limit *limit;
    const struct store_body *inner;
};

static bool limit_read(const struct store_body *body, uint64_t offset, void *data, size_t length,
                       struct error *err)
{
    const struct limited_body *limited = body->context;
    unsigned char *to = data;

    while (length > 0) {
        size_t part = length < PART ? length : PART;

        if (!limit_wait(limited->limit, part, err) ||
            !limited->inner->read(limited->inner, offset, to, part, err))
            return false;
        to += part;
        offset += part;
        length -= part;
    }
    return true;
}

static bool limit_put_whole(struct store *store, const char *name, enum store_use use,
                            const struct store_body *body, enum store_outcome *outcome,
                            struct error *err)
{
    struct limited_body limited = {.outer = *body, .limit = (struct limit *)store, .inner = body};

    limited.outer.read = limit_read;
    limited.outer.context = &limited;
    return store_put_body(store->inner, name, use, &limited.outer, outcome, err);
}

struct limited_sink {
    struct limit *limit;
    store_sink sink;
    void *context;
};

static bool limit_pass(const void *data, size_t length, void *context, struct error *err)
{
    struct limited_sink *limited = context;

    return limit_wait(limited->limit, length, err) &&
           limited->sink(data, length, limited->context, err);
}

static bool limit_get(struct store *store, const char *name, uint64_t offset, uint64_t length,
                      store_sink sink, void *context, struct error *err)
{
    struct limited_sink limited = {
        .limit = (struct limit *)store, .sink = sink, .context = context};

    return store_get(store->inner, name, offset, length, limit_pass, &limited, err);
}

static bool limit_stat(struct store *store, const char *name, struct store_info *info,
                       struct error *err)
{
    return store_stat(store->inner, name, info, err);
}

static bool limit_list(struct store *store, const char *prefix, const char *after, store_list_fn fn,
                       void *context, struct error *err)
{
    return store_list(store->inner, prefix, after, fn, context, err);
}

static bool limit_sync(struct store *store, const char *name, struct error *err)
{
    return store_sync(store->inner, name, err);
}

static bool limit_remove(struct store *store, const char *name, struct error *err)
{
    return store_remove(store->inner, name, err);
}

static bool limit_remove_many(struct store *store, const char *const *names, size_t count,
                              struct error *err)
{
    return store_remove_many(store->inner, names, count, err);
}

static bool limit_create_place(struct store *store, struct error *err)
{
    return store_create_place(store->inner, err);
}

static void limit_close(struct store *store)
{
    struct limit *limit = (struct limit *)store;

    store_close(store->inner);
    pthread_mutex_destroy(&limit->lock);
    free(store->url);
    free(store);
}

static const struct store_driver limit_driver = {
    .scheme = "limit",
    .put_whole = limit_put_whole,
    .get = limit_get,
    .stat = limit_stat,
    .list = limit_list,
    .sync = limit_sync,
    .remove = limit_remove,
    .remove_many = limit_remove_many,
    .create_place = limit_create_place,
    .close = limit_close,
};

struct store *limit_new(struct store *inner, uint64_t rate)
{
    struct limit *limit = mem_calloc(1, sizeof(*limit));

    limit->base.driver = &limit_driver;
    limit->base.url = mem_strdup(inner->url);
    limit->base.inner = inner;
    limit->rate = rate;
    pthread_mutex_init(&limit->lock, NULL);
    return &limit->base;
}
