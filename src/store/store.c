/* store.c - opens stores by URL and checks names before a driver sees them */
#include "pgvigil/store.h"

#include <stdlib.h>
#include <string.h>

#include "store/file.h"

static const struct {
    const char *scheme; /* with its "://" */
    bool (*open)(const char *url, struct store **store, struct error *err);
} drivers[] = {
    {"file://", file_open},
};

bool store_open(const char *url, struct store **store, struct error *err)
{
    for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++)
        if (strncmp(url, drivers[i].scheme, strlen(drivers[i].scheme)) == 0)
            return drivers[i].open(url, store, err);

    error_set(err, ERROR_CONFIG, "no kind of repository is reached by the URL \"%s\"", url);
    return error_hint(err, "a repository in a directory has a URL like file:///var/lib/pgvigil");
}

void store_close(struct store *store)
{
    if (store)
        store->driver->close(store);
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

bool store_put_begin(struct store *store, const char *name, struct store_put **put,
                     struct error *err)
{
    return check_name(store, name, err) && store->driver->put_begin(store, name, put, err);
}

bool store_put_write(struct store_put *put, const void *data, size_t length, struct error *err)
{
    return length == 0 || put->store->driver->put_write(put, data, length, err);
}

bool store_put_commit(struct store_put *put, enum store_outcome *outcome, struct error *err)
{
    return put->store->driver->put_commit(put, outcome, err);
}

void store_put_abort(struct store_put *put)
{
    if (put)
        put->store->driver->put_abort(put);
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
