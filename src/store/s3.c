/* s3.c - a bucket, by the S3 protocol: the driver's table; s3.h says how it works */
#include "store/s3.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/clock.h"
#include "pgvigil/mem.h"
#include "store/s3_list.h"
#include "store/s3_request.h"
#include "store/s3_store.h"

#define SCHEME "s3://"
#define WITNESS_MAXIMUM ((size_t)64 * 1024)

char *s3_key(const struct s3_store *store, const char *name)
{
    return mem_printf("%s%s", store->prefix, name);
}

bool s3_refused(const struct s3_store *store, const struct http_response *response,
                const char *doing, const char *name, struct error *err)
{
    struct s3_answer answer;

    return s3_answer_read(response, &answer, err) &&
           s3_answer_refused(&answer, store->bucket.region, err,
                             "could not %s object \"%s\" in \"%s\"", doing, name, store->base.url);
}

/* What stopped a request, with what it was for. */
static bool s3_failed(const struct s3_store *store, const char *doing, const char *name,
                      struct error *err)
{
    return error_context(err, "could not %s object \"%s\" in \"%s\"", doing, name, store->base.url);
}

static bool s3_absent(const struct s3_store *store, const char *name, struct error *err)
{
    return error_set(err, ERROR_NOT_FOUND, "object \"%s\" does not exist in \"%s\"", name,
                     store->base.url);
}

/* Only these words are absence: a missing bucket, or a proxy that knows of nothing, answers 404 too. */
static bool s3_is_absence(const struct http_response *response)
{
    struct error ignored = ERROR_INIT;
    struct s3_answer answer;

    return response->status == 404 && s3_answer_read(response, &answer, &ignored) &&
           strcmp(answer.code, "NoSuchKey") == 0;
}

/* -- get ---------------------------------------------------------------------------------------- */

struct s3_get {
    store_sink sink;
    void *context;
    struct http_response response;
    uint64_t
        skip; /* bytes in front of the wanted ones, from a server that gives the whole object */
    uint64_t left; /* bytes wanted */
    bool refused;  /* by the receiver: the error is its own */
};

static bool s3_pass(const void *data, size_t length, void *context, struct error *err)
{
    struct s3_get *get = context;
    const unsigned char *bytes = data;
    size_t skipped = get->response.status != 200 ? 0
                     : get->skip < length        ? (size_t)get->skip
                                                 : length;

    get->skip -= skipped;
    bytes += skipped;
    length -= skipped;
    if (length > get->left)
        length = (size_t)get->left;
    if (length == 0)
        return true;
    get->left -= length;
    if (get->sink(bytes, length, get->context, err))
        return true;
    get->refused = true;
    return false;
}

static bool s3_get(struct store *base, const char *name, uint64_t offset, uint64_t length,
                   store_sink sink, void *context, struct error *err)
{
    struct s3_store *store = (struct s3_store *)base;
    bool whole = offset == 0 && length == UINT64_MAX;
    uint64_t last = length == 0                        ? offset
                    : length > UINT64_MAX - offset - 1 ? UINT64_MAX - 1
                                                       : offset + length - 1;
    struct s3_get get = {.sink = sink, .context = context, .skip = offset, .left = length};
    char *key = s3_key(store, name);
    char *range = last == UINT64_MAX - 1 ? mem_printf("bytes=%" PRIu64 "-", offset)
                                         : mem_printf("bytes=%" PRIu64 "-%" PRIu64, offset, last);
    const struct s3_request request = {.method = "GET",
                                       .key = key,
                                       .range = whole ? NULL : range,
                                       .sink = s3_pass,
                                       .context = &get,
                                       .deadline = base->deadline};
    bool ok = s3_request_send(&store->bucket, &request, &get.response, err);

    if (!ok && !get.refused)
        s3_failed(store, "read", name, err);
    else if (ok && s3_is_absence(&get.response))
        ok = s3_absent(store, name, err);
    else if (ok && get.response.status != 200 && get.response.status != 206 &&
             get.response.status != 416) /* the object ends before */
        ok = s3_refused(store, &get.response, "read", name, err);
    http_response_free(&get.response);
    free(range);
    free(key);
    return ok;
}

/* -- stat --------------------------------------------------------------------------------------- */

static bool s3_take_info(const struct s3_store *store, const char *name,
                         const struct http_response *response, struct store_info *info,
                         struct error *err)
{
    char size[32], modified[64], *end;

    http_header(response, "content-length", size, sizeof(size));
    http_header(response, "last-modified", modified, sizeof(modified));
    info->size = strtoull(size, &end, 10);
    if (size[0] >= '0' && size[0] <= '9' && *end == '\0' &&
        s3_list_parse_date(modified, &info->modified))
        return true;
    return error_set(err, ERROR_STORE,
                     "could not stat object \"%s\" in \"%s\": the server's answer has no length or "
                     "no date",
                     name, store->base.url);
}

/* HEAD's 404 has no body that would say of what; a GET's has. */
static bool s3_explain_absence(struct store *base, const char *name, struct error *err)
{
    struct buffer ignored = BUFFER_INIT;
    bool found = store_get_buffer(base, name, 1, &ignored, err);

    buffer_free(&ignored);
    if (!found && err->code != ERROR_INTEGRITY) /* which means that it has more than a byte */
        return false;
    error_set(err, ERROR_STORE, "object \"%s\" in \"%s\" appeared while it was looked for", name,
              base->url);
    return error_transient(err, 0);
}

static bool s3_stat(struct store *base, const char *name, struct store_info *info,
                    struct error *err)
{
    struct s3_store *store = (struct s3_store *)base;
    char *key = s3_key(store, name);
    const struct s3_request request = {.method = "HEAD", .key = key, .deadline = base->deadline};
    struct http_response response;
    bool ok = s3_request_send(&store->bucket, &request, &response, err);

    if (!ok)
        s3_failed(store, "stat", name, err);
    else if (response.status == 404)
        ok = s3_explain_absence(base, name, err);
    else if (response.status != 200)
        ok = s3_refused(store, &response, "stat", name, err);
    else
        ok = s3_take_info(store, name, &response, info, err);
    http_response_free(&response);
    free(key);
    return ok;
}

/* -- put ---------------------------------------------------------------------------------------- */

static void s3_add(struct s3_request *request, const char *name, const char *value)
{
    if (value)
        request->headers[request->header_count++] = (struct s3_header){name, value};
}

/* Servers want a checksum with it. */
static void s3_add_lock(const struct config_repository *settings, const char *name,
                        struct s3_request *request, char until[CLOCK_TEXT_SIZE])
{
    const struct config_lock *lock = &settings->object_lock;

    if (lock->mode == CONFIG_LOCK_NONE)
        return;
    request->checksum = true;
    s3_add(request, "x-amz-object-lock-mode",
           lock->mode == CONFIG_LOCK_COMPLIANCE ? "COMPLIANCE" : "GOVERNANCE");
    s3_add(request, "x-amz-object-lock-retain-until-date",
           clock_format(store_lock_end(settings, name, clock_now()) / CLOCK_SECOND * CLOCK_SECOND,
                        until));
}

/* One PUT; the answer's status is judged by the caller, who frees the response. */
static bool s3_send_put(struct s3_store *store, const char *name, enum store_use use,
                        const struct store_body *body, enum store_exclusive exclusive,
                        struct http_response *response, struct error *err)
{
    const struct config_repository *settings = store->settings;
    char *key = s3_key(store, name);
    struct s3_request request = {
        .method = "PUT", .key = key, .body = body, .deadline = store->base.deadline};
    char until[CLOCK_TEXT_SIZE];

    s3_add_lock(settings, name, &request, until);
    s3_add(&request, "if-none-match", exclusive == STORE_EXCLUSIVE_NO ? NULL : "*");
    s3_add(&request, "x-amz-server-side-encryption", settings->sse);
    s3_add(&request, "x-amz-server-side-encryption-aws-kms-key-id", settings->kms_key_id);
    s3_add(&request, "x-amz-storage-class",
           use == STORE_WAL    ? settings->storage_class_wal
           : use == STORE_DATA ? settings->storage_class
                               : NULL);
    bool ok = s3_request_send(&store->bucket, &request, response, err);

    free(key);
    return ok || s3_failed(store, "write", name, err);
}

static bool s3_read_bytes(const struct store_body *body, uint64_t offset, void *data, size_t length,
                          struct error *err)
{
    (void)err;
    memcpy(data, ((const struct buffer *)body->context)->data + offset, length);
    return true;
}

/* Does the server refuse to overwrite? Asked with the witness, which is there. */
static bool s3_learn(struct s3_store *store, enum store_exclusive *exclusive, struct error *err)
{
    const char *witness = store->base.witness;
    struct buffer bytes = BUFFER_INIT;
    struct http_response response = {.status = 0};

    *exclusive = STORE_EXCLUSIVE_UNKNOWN;
    if (!witness)
        return true;
    bool ok = store_get_buffer(&store->base, witness, WITNESS_MAXIMUM, &bytes, err);
    if (ok) {
        const struct store_body body = {
            .length = bytes.length, .read = s3_read_bytes, .context = &bytes};

        ok =
            s3_send_put(store, witness, STORE_NOTE, &body, STORE_EXCLUSIVE_UNKNOWN, &response, err);
    }
    if (ok && response.status == 412)
        *exclusive = STORE_EXCLUSIVE_YES;
    else if (ok && (response.status == 200 || response.status == 501))
        *exclusive = STORE_EXCLUSIVE_NO;
    else if (ok)
        ok = s3_refused(store, &response, "write", witness, err);
    store->base.exclusive = (int)*exclusive;
    http_response_free(&response);
    buffer_free(&bytes);
    return ok;
}

/* Where the server does not look itself. */
static bool s3_look(struct store *base, const char *name, bool *taken, struct error *err)
{
    struct store_info info;

    *taken = s3_stat(base, name, &info, err);
    if (*taken || err->code != ERROR_NOT_FOUND)
        return *taken;
    error_clear(err);
    return true;
}

static bool s3_put_whole(struct store *base, const char *name, enum store_use use,
                         const struct store_body *body, enum store_outcome *outcome,
                         struct error *err)
{
    struct s3_store *store = (struct s3_store *)base;
    enum store_exclusive exclusive = (enum store_exclusive)base->exclusive;
    struct http_response response;
    bool taken = false, ok;

    if (exclusive == STORE_EXCLUSIVE_UNKNOWN && !s3_learn(store, &exclusive, err))
        return false;
    if (exclusive != STORE_EXCLUSIVE_YES && !s3_look(base, name, &taken, err))
        return false;
    *outcome = STORE_TAKEN;
    if (taken)
        return true;
    ok = s3_send_put(store, name, use, body, exclusive, &response, err);
    if (ok && response.status == 501 && exclusive == STORE_EXCLUSIVE_UNKNOWN) {
        base->exclusive = STORE_EXCLUSIVE_NO;
        http_response_free(&response);
        ok = s3_send_put(store, name, use, body, STORE_EXCLUSIVE_NO, &response, err);
    }
    if (ok && response.status == 200)
        *outcome = STORE_STORED;
    else if (ok && response.status != 412)
        ok = s3_refused(store, &response, "write", name, err);
    if (!ok && response.status == 400 && store->settings->object_lock.mode != CONFIG_LOCK_NONE)
        error_hint(err, "with object_lock the bucket must have been made with object lock");
    http_response_free(&response);
    return ok;
}

/* -- the rest ----------------------------------------------------------------------------------- */

/* An object that can be seen is durable. */
static bool s3_sync(struct store *base, const char *name, struct error *err)
{
    struct store_info info;

    return s3_stat(base, name, &info, err);
}

static bool s3_remove(struct store *base, const char *name, struct error *err)
{
    struct s3_store *store = (struct s3_store *)base;
    char *key = s3_key(store, name);
    const struct s3_request request = {.method = "DELETE", .key = key, .deadline = base->deadline};
    struct http_response response;
    bool ok = s3_request_send(&store->bucket, &request, &response, err);

    if (!ok)
        s3_failed(store, "remove", name, err);
    else if (response.status / 100 != 2 && !s3_is_absence(&response))
        ok = s3_refused(store, &response, "remove", name, err);
    http_response_free(&response);
    free(key);
    return ok;
}

/* The bucket is the owner's to make: with its region, its lifecycle and its rights. */
static bool s3_create_place(struct store *base, struct error *err)
{
    return s3_list_check_bucket((struct s3_store *)base, err);
}

static void s3_close(struct store *base)
{
    struct s3_store *store = (struct s3_store *)base;

    s3_request_close_bucket(&store->bucket);
    free(store->prefix);
    free(base->url);
    free(store);
}

static const struct store_driver s3_driver = {
    .scheme = "s3",
    .put_whole = s3_put_whole,
    .get = s3_get,
    .stat = s3_stat,
    .list = s3_list,
    .sync = s3_sync,
    .remove = s3_remove,
    .remove_many = s3_list_remove_many,
    .keeps_versions = s3_list_keeps_versions,
    .create_place = s3_create_place,
    .close = s3_close,
};

/* "bucket/prefix", of which the prefix may be missing. */
static bool s3_split_url(const char *url, char **bucket, char **prefix, struct error *err)
{
    const char *at = url + strlen(SCHEME);
    size_t length = strcspn(at, "/"), end = strlen(at);

    while (end > length && at[end - 1] == '/')
        end--;
    *bucket = mem_strndup(at, length);
    *prefix = end > length ? mem_strndup(at + length + 1, end - length - 1) : mem_strdup("");
    if (length >= 3 && length <= 255 && store_name_valid(*bucket) &&
        ((*prefix)[0] == '\0' || (store_name_valid(*prefix) && strlen(*prefix) < 500)))
        return true;
    free(*bucket);
    free(*prefix);
    error_set(err, ERROR_CONFIG, "\"%s\" names no bucket and prefix", url);
    return error_hint(err, "write it as s3://bucket/prefix, of letters, digits, '.', '-', '_' and "
                           "'/' in the prefix");
}

bool s3_open(const struct config_repository *settings, struct store **result, struct error *err)
{
    char *bucket, *prefix;

    if (!s3_split_url(settings->url, &bucket, &prefix, err))
        return false;

    struct s3_store *store = mem_calloc(1, sizeof(*store));
    bool ok = s3_request_open_bucket(settings, bucket, &store->bucket, err);

    if (ok) {
        store->base.driver = &s3_driver;
        store->base.url = mem_strdup(settings->url);
        store->settings = settings;
        store->prefix = prefix[0] ? mem_printf("%s/", prefix) : mem_strdup("");
        *result = &store->base;
    } else {
        free(store);
    }
    free(bucket);
    free(prefix);
    return ok;
}
