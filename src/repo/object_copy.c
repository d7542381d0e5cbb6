/* object_copy.c - the same object in another repository */
#include "pgvigil/object_copy.h"

#include <stdlib.h>
#include <string.h>

#include "pgvigil/digest.h"
#include "pgvigil/layout.h"
#include "pgvigil/object.h"
#include "pgvigil/trailer.h"
#include "repo/object_kind.h"

/* One object on its way. The last TRAILER_SIZE bytes so far are held back: perhaps the trailer. */
struct copying {
    struct store_put *put;        /* NULL: it is only read */
    struct digest_sha256 *stored; /* of all before the trailer */
    struct digest_sha256 *whole;
    unsigned char tail[TRAILER_SIZE];
    size_t tail_length;
    uint64_t length; /* before the trailer */
};

static bool copy_pass(struct copying *copying, const void *data, size_t length, struct error *err)
{
    if (length == 0)
        return true;
    digest_sha256_update(copying->stored, data, length);
    copying->length += length;
    return !copying->put || store_put_write(copying->put, data, length, err);
}

static bool copy_take(const void *data, size_t length, void *context, struct error *err)
{
    struct copying *copying = context;
    const unsigned char *bytes = data;
    size_t total = copying->tail_length + length;
    size_t surplus = total > TRAILER_SIZE ? total - TRAILER_SIZE : 0;
    size_t old = surplus < copying->tail_length ? surplus : copying->tail_length;
    size_t fresh = surplus - old;

    digest_sha256_update(copying->whole, data, length);
    if (!copy_pass(copying, copying->tail, old, err) || !copy_pass(copying, bytes, fresh, err))
        return false;
    copying->tail_length -= old;
    memmove(copying->tail, copying->tail + old, copying->tail_length);
    memcpy(copying->tail + copying->tail_length, bytes + fresh, length - fresh);
    copying->tail_length += length - fresh;
    return true;
}

/* All has been read: is it what its trailer says, under the name that it was asked for? */
static bool copy_check(struct copying *copying, const struct repository *from, const char *name,
                       struct trailer *trailer, struct error *err)
{
    unsigned char digest[DIGEST_SHA256_SIZE], name_digest[TRAILER_NAME_SIZE];

    digest_sha256_finish(copying->stored, digest);
    object_kind_name_digest(from, name, TRAILER_PACK, name_digest);
    if (copying->tail_length == TRAILER_SIZE && trailer_decode(copying->tail, trailer, err) &&
        trailer->stored_length == copying->length &&
        trailer->encrypted == repository_encrypts(from, name) &&
        memcmp(trailer->name, name_digest, sizeof(name_digest)) == 0 &&
        memcmp(trailer->stored_sha256, digest, sizeof(digest)) == 0)
        return true;
    return error_set(err, ERROR_INTEGRITY, "object \"%s\" in repository \"%s\" is damaged", name,
                     from->name);
}

/* What PostgreSQL calls the same WAL file may have been compressed in different ways. */
static bool copy_same(const struct trailer *ours, const struct trailer *theirs)
{
    static const unsigned char none[DIGEST_SHA256_SIZE];

    return memcmp(ours->raw_sha256, none, sizeof(none)) != 0
               ? theirs->raw_length == ours->raw_length &&
                     memcmp(theirs->raw_sha256, ours->raw_sha256, sizeof(none)) == 0
               : memcmp(theirs->stored_sha256, ours->stored_sha256, sizeof(none)) == 0;
}

/* The name is taken in the other repository: by the same? */
static bool copy_confirm(struct repository *to, const char *name, const struct trailer *ours,
                         struct error *err)
{
    struct trailer theirs;
    char *full = repository_object_name(to, name);
    bool ok = object_trailer(to, name, ours->kind, &theirs, err);

    if (ok && !copy_same(ours, &theirs))
        ok = error_set(err, ERROR_INTEGRITY,
                       "object \"%s\" in repository \"%s\" has another content than its copies",
                       name, to->name);
    ok = ok && store_sync(to->store, full, err);
    free(full);
    return ok;
}

static enum store_use copy_use(const char *name)
{
    size_t length = strlen(name);

    if (strncmp(name, LAYOUT_WAL_PREFIX, strlen(LAYOUT_WAL_PREFIX)) == 0)
        return STORE_WAL;
    return length > 5 && strcmp(name + length - 5, ".json") == 0 ? STORE_NOTE : STORE_DATA;
}

static bool copy_commit(struct copying *copying, struct repository *to, const char *name,
                        const struct trailer *trailer, struct error *err)
{
    unsigned char sha256[DIGEST_SHA256_SIZE];
    struct store_put *put = copying->put;
    enum store_outcome outcome;

    copying->put = NULL;
    digest_sha256_finish(copying->whole, sha256);
    store_put_sha256(put, sha256);
    if (!store_put_write(put, copying->tail, TRAILER_SIZE, err)) {
        store_put_abort(put);
        return false;
    }
    return store_put_commit(put, &outcome, err) &&
           (outcome == STORE_STORED || copy_confirm(to, name, trailer, err));
}

bool object_copy(struct repository *from, struct repository *to, const char *name,
                 struct error *err)
{
    struct copying copying = {.stored = digest_sha256_new(), .whole = digest_sha256_new()};
    char *full = repository_object_name(from, name), *target = repository_object_name(to, name);
    struct trailer trailer;
    bool ok = store_put_begin(to->store, target, copy_use(name), &copying.put, err) &&
              store_get(from->store, full, 0, UINT64_MAX, copy_take, &copying, err) &&
              copy_check(&copying, from, name, &trailer, err) &&
              copy_commit(&copying, to, name, &trailer, err);

    store_put_abort(copying.put);
    digest_sha256_free(copying.stored);
    digest_sha256_free(copying.whole);
    free(target);
    free(full);
    return ok;
}

bool object_copy_check(struct repository *from, const char *name, enum trailer_kind kind,
                       struct trailer *trailer, struct error *err)
{
    struct copying copying = {.stored = digest_sha256_new(), .whole = digest_sha256_new()};
    char *full = repository_object_name(from, name);
    bool ok = store_get(from->store, full, 0, UINT64_MAX, copy_take, &copying, err) &&
              copy_check(&copying, from, name, trailer, err);

    if (ok && trailer->kind != kind)
        ok = error_set(err, ERROR_INTEGRITY,
                       "object \"%s\" in repository \"%s\" is damaged: it is a %s, where a %s was "
                       "expected",
                       name, from->name, trailer_kind_name(trailer->kind), trailer_kind_name(kind));
    digest_sha256_free(copying.stored);
    digest_sha256_free(copying.whole);
    free(full);
    return ok;
}
