#include "memory_store.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pgvigil/mem.h"

struct object {
    char *name;
    unsigned char *data;
    struct store_info info;
};

struct memory_store {
    struct store base;
    pthread_mutex_t lock;
    bool broken;
    int failures; /* to come */
    bool lose_answer;
    bool cut_get;
    struct object *objects; /* by name */
    size_t count;
    size_t capacity;
};

struct memory_put {
    struct store_put base;
    struct buffer data;
};

static struct memory_store *memory_store(struct store *store)
{
    return (struct memory_store *)store;
}

/* Takes the lock, unless the store is broken. */
static bool enter(struct memory_store *store, struct error *err)
{
    pthread_mutex_lock(&store->lock);
    if (!store->broken && store->failures == 0)
        return true;

    bool tired = !store->broken && store->failures-- > 0;
    pthread_mutex_unlock(&store->lock);
    error_set(err, ERROR_STORE, "the memory store is %s", tired ? "tired" : "broken");
    return tired ? error_transient(err, 0) : false;
}

static bool is_set(bool *once)
{
    bool set = *once;

    *once = false;
    return set;
}

static bool lost(struct error *err)
{
    error_set(err, ERROR_STORE, "the line is dead");
    return error_transient(err, 0);
}

static void leave(struct memory_store *store)
{
    pthread_mutex_unlock(&store->lock);
}

static bool absent(const char *name, struct error *err)
{
    return error_set(err, ERROR_NOT_FOUND, "object \"%s\" does not exist", name);
}

/* The index of the object, or of the place where it belongs. */
static size_t find(const struct memory_store *store, const char *name, bool *found)
{
    size_t low = 0, high = store->count;

    *found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(store->objects[middle].name, name);

        if (order == 0) {
            *found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool put_begin(struct store *base, const char *name, struct store_put **result,
                      struct error *err)
{
    if (!enter(memory_store(base), err))
        return false;
    leave(memory_store(base));

    struct memory_put *put = mem_calloc(1, sizeof(*put));

    put->base.store = base;
    put->base.name = mem_strdup(name);
    *result = &put->base;
    return true;
}

static bool put_write(struct store_put *put, const void *data, size_t length, struct error *err)
{
    (void)err;
    buffer_append(&((struct memory_put *)put)->data, data, length);
    return true;
}

static void put_abort(struct store_put *base)
{
    buffer_free(&((struct memory_put *)base)->data);
    free(base->name);
    free(base);
}

static void insert(struct memory_store *store, size_t at, struct memory_put *put)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    store->objects =
        mem_grow(store->objects, store->count, &store->capacity, sizeof(*store->objects));
    memmove(store->objects + at + 1, store->objects + at,
            (store->count - at) * sizeof(*store->objects));
    store->objects[at] = (struct object){
        .name = mem_strdup(put->base.name),
        .data = put->data.data,
        .info = {.size = put->data.length,
                 .modified = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000},
    };
    store->count++;
    put->data = (struct buffer)BUFFER_INIT;
}

static bool put_commit(struct store_put *base, enum store_outcome *outcome, struct error *err)
{
    struct memory_store *store = memory_store(base->store);
    bool found, done = enter(store, err);

    if (done) {
        size_t at = find(store, base->name, &found);

        if (!found)
            insert(store, at, (struct memory_put *)base);
        *outcome = found ? STORE_TAKEN : STORE_STORED;
        done = !is_set(&store->lose_answer) || lost(err);
        leave(store);
    }
    put_abort(base);
    return done;
}

static bool get(struct store *base, const char *name, uint64_t offset, uint64_t length,
                store_sink sink, void *context, struct error *err)
{
    struct memory_store *store = memory_store(base);
    struct buffer copy = BUFFER_INIT;
    bool found, done = true;

    if (!enter(store, err))
        return false;

    size_t at = find(store, name, &found);
    bool cut = is_set(&store->cut_get);

    if (found && offset < store->objects[at].info.size) {
        uint64_t rest = store->objects[at].info.size - offset;

        buffer_append(&copy, store->objects[at].data + offset,
                      (size_t)(length < rest ? length : rest));
    }
    leave(store);
    if (!found)
        return absent(name, err);
    /* In two pieces, so that nobody relies on one. */
    size_t half = copy.length / 2;
    if (half > 0)
        done = sink(copy.data, half, context, err);
    if (cut)
        done = lost(err);
    else if (done && copy.length > half)
        done = sink(copy.data + half, copy.length - half, context, err);
    buffer_free(&copy);
    return done;
}

static bool stat_object(struct store *base, const char *name, struct store_info *info,
                        struct error *err)
{
    struct memory_store *store = memory_store(base);
    bool found;

    if (!enter(store, err))
        return false;

    size_t at = find(store, name, &found);

    if (found)
        *info = store->objects[at].info;
    leave(store);
    return found || absent(name, err);
}

/* Without the lock while fn runs, as fn may use the store. */
static bool list(struct store *base, const char *prefix, const char *after, store_list_fn fn,
                 void *context, struct error *err)
{
    struct memory_store *store = memory_store(base);
    struct object *objects = NULL;
    size_t count = 0, capacity = 0;
    bool done = true;

    if (!enter(store, err))
        return false;
    for (size_t i = 0; i < store->count; i++) {
        const struct object *object = &store->objects[i];

        if (strncmp(object->name, prefix, strlen(prefix)) != 0 ||
            (after && strcmp(object->name, after) <= 0))
            continue;
        objects = mem_grow(objects, count, &capacity, sizeof(*objects));
        objects[count++] = (struct object){.name = mem_strdup(object->name), .info = object->info};
    }
    leave(store);
    for (size_t i = 0; i < count; i++) {
        done = done && fn(objects[i].name, &objects[i].info, context, err);
        free(objects[i].name);
    }
    free(objects);
    return done;
}

static bool sync_object(struct store *base, const char *name, struct error *err)
{
    struct store_info info;

    return stat_object(base, name, &info, err);
}

static void object_free(struct object *object)
{
    free(object->name);
    free(object->data);
}

static bool remove_object(struct store *base, const char *name, struct error *err)
{
    struct memory_store *store = memory_store(base);
    bool found;

    if (!enter(store, err))
        return false;

    size_t at = find(store, name, &found);

    if (found) {
        object_free(&store->objects[at]);
        store->count--;
        memmove(store->objects + at, store->objects + at + 1,
                (store->count - at) * sizeof(*store->objects));
    }
    leave(store);
    return true;
}

static bool create_place(struct store *base, struct error *err)
{
    if (!enter(memory_store(base), err))
        return false;
    leave(memory_store(base));
    return true;
}

static void close_store(struct store *base)
{
    struct memory_store *store = memory_store(base);

    for (size_t i = 0; i < store->count; i++)
        object_free(&store->objects[i]);
    free(store->objects);
    pthread_mutex_destroy(&store->lock);
    free(base->url);
    free(store);
}

static const struct store_driver driver = {
    .scheme = "memory",
    .put_begin = put_begin,
    .put_write = put_write,
    .put_commit = put_commit,
    .put_abort = put_abort,
    .get = get,
    .stat = stat_object,
    .list = list,
    .sync = sync_object,
    .remove = remove_object,
    .create_place = create_place,
    .close = close_store,
};

struct store *memory_store_new(void)
{
    struct memory_store *store = mem_calloc(1, sizeof(*store));

    store->base.driver = &driver;
    store->base.url = mem_strdup("memory://");
    pthread_mutex_init(&store->lock, NULL);
    return &store->base;
}

void memory_store_fail(struct store *base, int count)
{
    struct memory_store *store = memory_store(base);

    pthread_mutex_lock(&store->lock);
    store->failures = count;
    pthread_mutex_unlock(&store->lock);
}

void memory_store_lose_answer(struct store *store)
{
    memory_store(store)->lose_answer = true;
}

void memory_store_cut_get(struct store *store)
{
    memory_store(store)->cut_get = true;
}

void memory_store_break(struct store *base, bool broken)
{
    struct memory_store *store = memory_store(base);

    pthread_mutex_lock(&store->lock);
    store->broken = broken;
    pthread_mutex_unlock(&store->lock);
}
