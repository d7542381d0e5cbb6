/* store.c - opens stores by URL and checks names before a driver sees them */
#include "pgvigil/store.h"

#include <stdlib.h>
#include <string.h>

#include "pgvigil/mem.h"
#include "store/file.h"
#include "store/gather.h"
#include "store/limit.h"
#include "store/retry.h"
#include "store/s3.h"

static bool open_file(const struct config_repository *settings, struct store **store,
                      struct error *err)
{
    return file_open(settings->url, store, err);
}

static bool open_s3(const struct config_repository *settings, struct store **store,
                    struct error *err)
{
    if (!s3_open(settings, store, err))
        return false;
    *store = retry_new(*store, settings->timeout);
    return true;
}

#define DIRECTORY_SCHEME "file://"

static const struct {
    const char *scheme; /* with its "://" */
    bool (*open)(const struct config_repository *settings, struct store **store, struct error *err);
} drivers[] = {
    {DIRECTORY_SCHEME, open_file},
    {"s3://", open_s3},
};

bool store_open(const struct config_repository *settings, struct store **store, struct error *err)
{
    const char *url = settings->url;

    for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++) {
        if (strncmp(url, drivers[i].scheme, strlen(drivers[i].scheme)) != 0)
            continue;
        if (!drivers[i].open(settings, store, err))
            return false;
        if (settings->rate_limit > 0)
            *store = limit_new(*store, settings->rate_limit);
        return true;
    }
    error_set(err, ERROR_CONFIG, "no kind of repository is reached by the URL \"%s\"", url);
    return error_hint(err,
                      "a repository in a directory has a URL like file:///var/lib/pgvigil, one "
                      "in a bucket a URL like s3://bucket/prefix");
}

const char *store_directory(const char *url)
{
    const size_t scheme = strlen(DIRECTORY_SCHEME);

    return strncmp(url, DIRECTORY_SCHEME, scheme) == 0 ? url + scheme : NULL;
}

void store_close(struct store *store)
{
    if (store)
        store->driver->close(store);
}

void store_set_deadline(struct store *store, int64_t deadline)
{
    for (; store; store = store->inner)
        store->deadline = deadline;
}

void store_set_witness(struct store *store, const char *name, enum store_exclusive exclusive)
{
    for (; store; store = store->inner) {
        store->witness = name;
        store->exclusive = (int)exclusive;
    }
}

enum store_exclusive store_exclusive(const struct store *store)
{
    while (store->inner)
        store = store->inner;
    return (enum store_exclusive)store->exclusive;
}

static bool is_name_character(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

/* Whether each component is well formed; `partial` lets the last one be empty, as in a prefix. */
static bool components_valid(const char *name, size_t length, bool partial)
{
    bool at_start = true; /* of a component */

    for (size_t i = 0; i < length; i++) {
        if (name[i] == '/') {
            if (at_start)
                return false;
            at_start = true;
        } else if (!is_name_character(name[i]) || (at_start && name[i] == '.')) {
            return false;
        } else {
            at_start = false;
        }
    }
    return !at_start || partial;
}

bool store_name_valid(const char *name)
{
    size_t length = strnlen(name, STORE_NAME_MAXIMUM + 1);

    return length <= STORE_NAME_MAXIMUM && components_valid(name, length, false);
}

static bool check_name(const struct store *store, const char *name, struct error *err)
{
    return store_name_valid(name) ||
           error_set(err, ERROR_USAGE, "\"%.*s\" cannot be the name of an object in \"%s\"",
                     STORE_NAME_MAXIMUM / 4, name, store->url);
}

static bool check_prefix(const struct store *store, const char *prefix, struct error *err)
{
    size_t length = strnlen(prefix, STORE_NAME_MAXIMUM + 1);

    return (length <= STORE_NAME_MAXIMUM && components_valid(prefix, length, true)) ||
           error_set(err, ERROR_USAGE, "no name of an object in \"%s\" can begin with \"%.*s\"",
                     store->url, STORE_NAME_MAXIMUM / 4, prefix);
}

bool store_create_place(struct store *store, struct error *err)
{
    return store->driver->create_place(store, err);
}

bool store_put_begin(struct store *store, const char *name, enum store_use use,
                     struct store_put **put, struct error *err)
{
    if (!check_name(store, name, err))
        return false;
    if (!store->driver->put_whole)
        return store->driver->put_begin(store, name, put, err);
    *put = gather_begin(store, name, use);
    return true;
}

bool store_put_write(struct store_put *put, const void *data, size_t length, struct error *err)
{
    if (length == 0)
        return true;
    return put->store->driver->put_whole ? gather_write(put, data, length, err)
                                         : put->store->driver->put_write(put, data, length, err);
}

void store_put_sha256(struct store_put *put, const unsigned char sha256[STORE_SHA256_SIZE])
{
    if (put->store->driver->put_whole)
        gather_sha256(put, sha256);
}

bool store_put_commit(struct store_put *put, enum store_outcome *outcome, struct error *err)
{
    return put->store->driver->put_whole ? gather_commit(put, outcome, err)
                                         : put->store->driver->put_commit(put, outcome, err);
}

void store_put_abort(struct store_put *put)
{
    if (!put)
        return;
    if (put->store->driver->put_whole)
        gather_abort(put);
    else
        put->store->driver->put_abort(put);
}

/* A body through the functions of a stream. */
static bool stream_body(struct store *store, const char *name, const struct store_body *body,
                        enum store_outcome *outcome, struct error *err)
{
    const size_t most = (size_t)256 * 1024;
    struct store_put *put;
    uint64_t offset = 0;
    bool ok = true;

    if (!store->driver->put_begin(store, name, &put, err))
        return false;

    unsigned char *part = mem_alloc(most);
    while (ok && offset < body->length) {
        size_t length = body->length - offset < most ? (size_t)(body->length - offset) : most;

        ok = body->read(body, offset, part, length, err) &&
             store->driver->put_write(put, part, length, err);
        offset += length;
    }
    free(part);
    if (ok)
        return store->driver->put_commit(put, outcome, err);
    store->driver->put_abort(put);
    return false;
}

bool store_put_body(struct store *store, const char *name, enum store_use use,
                    const struct store_body *body, enum store_outcome *outcome, struct error *err)
{
    if (!check_name(store, name, err))
        return false;
    return store->driver->put_whole ? store->driver->put_whole(store, name, use, body, outcome, err)
                                    : stream_body(store, name, body, outcome, err);
}

bool store_get(struct store *store, const char *name, uint64_t offset, uint64_t length,
               store_sink sink, void *context, struct error *err)
{
    return check_name(store, name, err) &&
           store->driver->get(store, name, offset, length, sink, context, err);
}

struct collector {
    struct buffer *buffer;
    size_t left;
    const char *name;
    size_t maximum;
};

static bool collect(const void *data, size_t length, void *context, struct error *err)
{
    struct collector *collector = context;

    if (length > collector->left)
        return error_set(err, ERROR_INTEGRITY, "object \"%s\" is larger than %zu bytes",
                         collector->name, collector->maximum);
    collector->left -= length;
    buffer_append(collector->buffer, data, length);
    return true;
}

bool store_get_buffer(struct store *store, const char *name, size_t maximum, struct buffer *buffer,
                      struct error *err)
{
    size_t before = buffer->length;
    struct collector collector = {
        .buffer = buffer, .left = maximum, .name = name, .maximum = maximum};

    if (store_get(store, name, 0, UINT64_MAX, collect, &collector, err))
        return true;
    buffer->length = before;
    if (buffer->data)
        buffer->data[before] = '\0';
    return false;
}

bool store_stat(struct store *store, const char *name, struct store_info *info, struct error *err)
{
    return check_name(store, name, err) && store->driver->stat(store, name, info, err);
}

bool store_list(struct store *store, const char *prefix, const char *after, store_list_fn fn,
                void *context, struct error *err)
{
    return check_prefix(store, prefix, err) &&
           store->driver->list(store, prefix, after, fn, context, err);
}

bool store_sync(struct store *store, const char *name, struct error *err)
{
    return check_name(store, name, err) && store->driver->sync(store, name, err);
}

bool store_remove(struct store *store, const char *name, struct error *err)
{
    return check_name(store, name, err) && store->driver->remove(store, name, err);
}

bool store_remove_many(struct store *store, const char *const *names, size_t count,
                       struct error *err)
{
    for (size_t i = 0; i < count; i++)
        if (!check_name(store, names[i], err))
            return false;
    if (store->driver->remove_many)
        return store->driver->remove_many(store, names, count, err);
    for (size_t i = 0; i < count; i++)
        if (!store->driver->remove(store, names[i], err))
            return false;
    return true;
}

int64_t store_lock_end(const struct config_repository *settings, const char *name, int64_t stored)
{
    const struct config_lock *lock = &settings->object_lock;

    if (lock->mode == CONFIG_LOCK_NONE)
        return 0;
    return stored + (strstr(name, "/pack/") ? 2 : 1) * lock->duration;
}

bool store_keeps_versions(struct store *store)
{
    while (store->inner)
        store = store->inner;
    return store->driver->keeps_versions && store->driver->keeps_versions(store);
}
