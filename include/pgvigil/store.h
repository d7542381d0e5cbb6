/*
 * store.h - a place that keeps immutable objects under names
 *
 * A driver (file, s3; for tests memory) is a table of functions; wrappers (retry, limit) are drivers
 * around a store. tests/unit/store/conformance.c says what each must do and runs against every one.
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
#include "pgvigil/config.h"
#include "pgvigil/error.h"

#define STORE_NAME_MAXIMUM 1000
#define STORE_SHA256_SIZE 32

/* Does the place itself refuse to overwrite an object? */
enum store_exclusive {
    STORE_EXCLUSIVE_UNKNOWN, /* not found out yet */
    STORE_EXCLUSIVE_YES,
    STORE_EXCLUSIVE_NO /* we look first, and two who look at the same moment may both store */
};

struct store {
    const struct store_driver *driver; /* a driver's own struct begins with a struct store */
    char *url;                         /* for messages */
    struct store *inner;               /* of a wrapper: owned; NULL for others */
    _Atomic int64_t deadline;          /* by clock_monotonic, for all that is asked; 0: none */
    _Atomic int exclusive;             /* enum store_exclusive, of a driver */
    const char *witness;               /* an object known to be there, or NULL; borrowed */
};

struct store_put {
    struct store *store;
    char *name;
};

enum store_outcome {
    STORE_STORED, /* the object is there, made by this put */
    STORE_TAKEN   /* the name was taken; nothing was changed */
};

/* What an object is for: a driver may have places of different price. */
enum store_use {
    STORE_NOTE, /* small, and read often */
    STORE_WAL,
    STORE_DATA
};

/* The bytes of an object to be stored. */
struct store_body {
    uint64_t length;
    const unsigned char *sha256; /* of all of it, or NULL: not known yet */
    /* Gives `length` bytes from `offset` on, which are there. Any thread, and again, may call it. */
    bool (*read)(const struct store_body *body, uint64_t offset, void *data, size_t length,
                 struct error *err);
    void *context;
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

    /* A driver has either put_whole or the four functions of a stream behind it. A put_whole that
     * fails may leave the whole object behind, as a commit may. */
    bool (*put_whole)(struct store *store, const char *name, enum store_use use,
                      const struct store_body *body, enum store_outcome *outcome,
                      struct error *err);

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

    /* Removes many, which may be quicker than one by one. NULL: one by one. */
    bool (*remove_many)(struct store *store, const char *const *names, size_t count,
                        struct error *err);

    /* See store_keeps_versions. NULL: no. */
    bool (*keeps_versions)(struct store *store);

    /* Makes the place itself (the directory) if it is not there: for init only. */
    bool (*create_place)(struct store *store, struct error *err);

    void (*close)(struct store *store);
};

/* A name that is none, or a prefix that no name can have, is ERROR_USAGE from all of these. */

/* Opens what the configuration of a repository (borrowed as long as the store lives) says. Does not
 * touch the place. ERROR_CONFIG for a URL that no driver takes. */
bool store_open(const struct config_repository *settings, struct store **store, struct error *err);
void store_close(struct store *store);

/* The path in a URL that names a directory, for those who deal with its owner or where it lies; NULL for
 * other kinds. Part of `url`. */
const char *store_directory(const char *url);

/* For this store and all those within: requests end by then, with an error. 0: no deadline. */
void store_set_deadline(struct store *store, int64_t deadline);
/* Tells of an object that was just read, against which may be found out whether the place refuses to
 * overwrite; and what is known of that already. `name` must outlive the store. */
void store_set_witness(struct store *store, const char *name, enum store_exclusive exclusive);
enum store_exclusive store_exclusive(const struct store *store);

bool store_create_place(struct store *store, struct error *err);

bool store_put_begin(struct store *store, const char *name, enum store_use use,
                     struct store_put **put, struct error *err);
/* The SHA-256 of all that was written, if the writer knows it: it need not be computed again. */
void store_put_sha256(struct store_put *put, const unsigned char sha256[STORE_SHA256_SIZE]);
bool store_put_write(struct store_put *put, const void *data, size_t length, struct error *err);
bool store_put_commit(struct store_put *put, enum store_outcome *outcome, struct error *err);
void store_put_abort(struct store_put *put); /* NULL is fine */
/* All in one. */
bool store_put_body(struct store *store, const char *name, enum store_use use,
                    const struct store_body *body, enum store_outcome *outcome, struct error *err);

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
bool store_remove_many(struct store *store, const char *const *names, size_t count,
                       struct error *err);

bool store_name_valid(const char *name);

/*
 * With an object lock: until when an object that is stored at `stored` (microseconds since 1970) is held;
 * 0 without one. Packs are held for twice the duration, so that for one duration after a pack was stored
 * backups that are held for one themselves can be built on it.
 */
int64_t store_lock_end(const struct config_repository *settings, const char *name, int64_t stored);

/* Does the place keep what is removed, as an older version? False where that cannot be found out. */
bool store_keeps_versions(struct store *store);

#endif
