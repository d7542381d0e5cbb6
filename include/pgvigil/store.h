/*
 * store.h - a place that keeps immutable objects under names
 *
 * A driver (file, later s3; for tests memory and fault) is a table of functions; wrappers (later
 * retry, limit) are drivers around a driver. tests/unit/store/conformance.c says what each must do
 * and runs against every one.
 *
 * Names are relative, '/'-separated, made of [A-Za-z0-9._-], no empty, "." or ".." component, no
 * component starting with '.', at most 1000 bytes: store_* check that before a driver sees them.
 *
 * An object comes to be as a whole or not at all, only if its name is free, and durably: when
 * store_put_commit has said STORE_STORED it survives a power cut. Readers see no half-written
 * object. Nothing is ever overwritten.
 *
 * Absence is certain: ERROR_NOT_FOUND is given only when the place itself answered and has no such
 * object. Whatever else goes wrong (a place that is unmounted, forbidden, broken) is ERROR_STORE.
 *
 * Threads: a struct store may be used by many threads at once; a struct store_put by one.
 */
#ifndef PGVIGIL_STORE_H
#define PGVIGIL_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/buffer.h"
#include "pgvigil/error.h"

#define STORE_NAME_MAXIMUM 1000

struct store {
    const struct store_driver *driver; /* a driver's own struct begins with a struct store */
    char *url;                         /* for messages */
};

struct store_put {
    struct store *store;
    char *name;
};

enum store_outcome {
    STORE_STORED, /* the object is there, made by this put */
    STORE_TAKEN   /* the name was taken; nothing was changed */
};

struct store_info {
    uint64_t size;    /* bytes */
    int64_t modified; /* microseconds since 1970, by the store's clock */
};

/* Gets pieces of an object in order; returning false (err set) stops the get with that error. */
typedef bool (*store_sink)(const void *data, size_t length, void *context, struct error *err);

/* Gets objects in ascending bytewise order of their names; false stops the list with err. */
typedef bool (*store_list_fn)(const char *name, const struct store_info *info, void *context,
                              struct error *err);

struct store_driver {
    const char *scheme; /* "file" */

    /* Opens a put. Nothing is visible under the name before commit. */
    bool (*put_begin)(struct store *store, const char *name, struct store_put **put,
                      struct error *err);
    bool (*put_write)(struct store_put *put, const void *data, size_t length, struct error *err);
    /* Both end the put and free it, whatever they return. A commit after a failed write fails. A
     * commit that fails may leave the whole object behind, visible but not known to be durable. */
    bool (*put_commit)(struct store_put *put, enum store_outcome *outcome, struct error *err);
    void (*put_abort)(struct store_put *put);

    /* Gives bytes [offset, offset + length) to sink, fewer (or none) where the object ends sooner.
     * length UINT64_MAX: to the end. */
    bool (*get)(struct store *store, const char *name, uint64_t offset, uint64_t length,
                store_sink sink, void *context, struct error *err);

    bool (*stat)(struct store *store, const char *name, struct store_info *info, struct error *err);

    /* Objects whose names start with prefix (a string, not a directory) and are > after (NULL:
     * all). An unused prefix is an empty list, an unusable place an error. */
    bool (*list)(struct store *store, const char *prefix, const char *after, store_list_fn fn,
                 void *context, struct error *err);

    /* Makes an object that is visible durable, for one that another process may have left visible
     * but not yet safe. */
    bool (*sync)(struct store *store, const char *name, struct error *err);

    /* Absence is success; true means that the object stays away, even after a power cut. */
    bool (*remove)(struct store *store, const char *name, struct error *err);

    /* Makes the place itself (the directory) if it is not there: for init only. */
    bool (*create_place)(struct store *store, struct error *err);

    void (*close)(struct store *store);
};

/* A name that is none, or a prefix that no name can have, is ERROR_USAGE from all of these. */

/* Opens by URL. Does not touch the place. ERROR_CONFIG for a URL that no driver takes. */
bool store_open(const char *url, struct store **store, struct error *err);
void store_close(struct store *store);

bool store_create_place(struct store *store, struct error *err);

bool store_put_begin(struct store *store, const char *name, struct store_put **put,
                     struct error *err);
bool store_put_write(struct store_put *put, const void *data, size_t length, struct error *err);
bool store_put_commit(struct store_put *put, enum store_outcome *outcome, struct error *err);
void store_put_abort(struct store_put *put); /* NULL is fine */

bool store_get(struct store *store, const char *name, uint64_t offset, uint64_t length,
               store_sink sink, void *context, struct error *err);
/* The whole object appended to buffer; larger than maximum is ERROR_INTEGRITY. */
bool store_get_buffer(struct store *store, const char *name, size_t maximum, struct buffer *buffer,
                      struct error *err);
bool store_stat(struct store *store, const char *name, struct store_info *info, struct error *err);
bool store_list(struct store *store, const char *prefix, const char *after, store_list_fn fn,
                void *context, struct error *err);
bool store_sync(struct store *store, const char *name, struct error *err);
bool store_remove(struct store *store, const char *name, struct error *err);

bool store_name_valid(const char *name);

#endif
