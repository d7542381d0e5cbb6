/*
 * unfinished.c - what a backup that is not finished has stored
 *
 * A record: kind and length (u32 each), the content, a keyed digest over all of it. The first one is the
 * head, whose key is in itself, as in known_files.c.
 */
#include "pgvigil/unfinished.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgvigil/bytes.h"
#include "pgvigil/files.h"
#include "pgvigil/log.h"
#include "pgvigil/map_cache.h"
#include "pgvigil/mem.h"

#define MAGIC "pgvigil unfinished 1\n"
#define MAGIC_LENGTH (sizeof(MAGIC) - 1)
#define RECORD_START 8 /* kind and length */
#define RECORD_END 8   /* the digest */
#define CONTENT_MAXIMUM ((size_t)16 * 1024)
#define HEAD_CONTENT (MAGIC_LENGTH + DIGEST_SECRET_SIZE + 8 + 4 + DIGEST_SHA256_SIZE)
#define LEAVES_MAXIMUM ((size_t)4 * 1024 * 1024)

enum record { RECORD_HEAD = 1, RECORD_PACK, RECORD_LEAF };

/* Where a leaf's record lies; of two leaves with the same digest one is overlooked. */
struct leaf_place {
    uint64_t digest;
    uint64_t offset;
};

struct unfinished {
    char *path;
    int fd;
    struct unfinished_meta meta;
    struct refs packs;
    struct leaf_place *leaves; /* by digest, the last one first */
    size_t count, capacity;

    pthread_mutex_t mutex; /* whoever appends holds it */
    bool broken;           /* what would be appended could not be read back */
};

/* The caller frees it. */
static char *path_in(const char *state_dir)
{
    return files_join(state_dir, MAP_CACHE_DIRECTORY "/unfinished");
}

static uint64_t leaf_digest(uint64_t key, uint32_t number)
{
    return key + number * UINT64_C(0x9E3779B97F4A7C15);
}

/* -- writing ------------------------------------------------------------------------------------ */

static void append_record(const unsigned char secret[DIGEST_SECRET_SIZE], enum record kind,
                          const struct buffer *content, struct buffer *out)
{
    const size_t start = out->length;

    buffer_append_u32(out, kind);
    buffer_append_u32(out, (uint32_t)content->length);
    buffer_append(out, content->data, content->length);
    buffer_append_u64(out, digest_block(out->data + start, out->length - start, secret));
}

static void append_head(const struct unfinished_meta *meta, struct buffer *out)
{
    struct buffer content = BUFFER_INIT;

    buffer_append_string(&content, MAGIC);
    buffer_append(&content, meta->secret, sizeof(meta->secret));
    buffer_append_u64(&content, meta->system_identifier);
    buffer_append_u32(&content, meta->alone);
    buffer_append(&content, meta->recipients, sizeof(meta->recipients));
    append_record(meta->secret, RECORD_HEAD, &content, out);
    buffer_free(&content);
}

static void append_pack(const struct unfinished *unfinished, const struct refs_pack *pack,
                        struct buffer *out)
{
    struct buffer content = BUFFER_INIT;

    buffer_append_u64(&content, (uint64_t)pack->pack.run);
    buffer_append_u32(&content, pack->pack.number);
    buffer_append_u64(&content, pack->size);
    buffer_append(&content, pack->sha256, sizeof(pack->sha256));
    buffer_append_u32(&content, pack->blocks);
    append_record(unfinished->meta.secret, RECORD_PACK, &content, out);
    buffer_free(&content);
}

void unfinished_put_leaf(const struct unfinished *unfinished, const struct buffer *leaf,
                         struct buffer *record)
{
    append_record(unfinished->meta.secret, RECORD_LEAF, leaf, record);
}

void unfinished_add(struct unfinished *unfinished, const struct refs_pack *pack,
                    const struct buffer *leaves)
{
    struct error err = ERROR_INIT;
    struct buffer out = BUFFER_INIT;

    append_pack(unfinished, pack, &out);
    if (leaves->length > 0)
        buffer_append(&out, leaves->data, leaves->length);
    pthread_mutex_lock(&unfinished->mutex);
    if (!unfinished->broken &&
        !files_write_fd(unfinished->fd, unfinished->path, out.data, out.length, &err)) {
        unfinished->broken = true;
        error_context(&err, "if this backup is interrupted, the next one stores everything again");
        log_error(LOG_WARNING, &err);
    }
    pthread_mutex_unlock(&unfinished->mutex);
    buffer_free(&out);
}

/* -- reading ------------------------------------------------------------------------------------ */

/* One record, taken apart. */
struct reading {
    unsigned char bytes[RECORD_START + CONTENT_MAXIMUM + RECORD_END];
    uint32_t kind;
    struct bytes_reader content;
};

/* Reads `length` bytes to where the record's start has been read. */
typedef bool (*read_fn)(void *context, unsigned char *to, size_t length);

static bool read_record(struct reading *reading, read_fn read, void *context,
                        const unsigned char *secret)
{
    size_t length;

    if (!read(context, reading->bytes, RECORD_START))
        return false;
    reading->kind = bytes_get_u32(reading->bytes);
    length = bytes_get_u32(reading->bytes + 4);
    if (length > CONTENT_MAXIMUM ||
        !read(context, reading->bytes + RECORD_START, length + RECORD_END))
        return false;
    reading->content = (struct bytes_reader){.at = reading->bytes + RECORD_START, .left = length};
    if (secret == NULL) {
        if (reading->kind != RECORD_HEAD || length != HEAD_CONTENT)
            return false;
        secret = reading->content.at + MAGIC_LENGTH;
    }
    return digest_block(reading->bytes, RECORD_START + length, secret) ==
           bytes_get_u64(reading->content.at + length);
}

static bool read_stream(void *context, unsigned char *to, size_t length)
{
    return fread(to, 1, length, context) == length;
}

static bool take_head(struct reading *reading, struct unfinished_meta *meta)
{
    struct bytes_reader *reader = &reading->content;
    const unsigned char *magic = bytes_take(reader, MAGIC_LENGTH);

    memcpy(meta->secret, bytes_take(reader, sizeof(meta->secret)), sizeof(meta->secret));
    meta->system_identifier = bytes_take_u64(reader);
    meta->alone = bytes_take_u32(reader) == 1;
    memcpy(meta->recipients, bytes_take(reader, sizeof(meta->recipients)),
           sizeof(meta->recipients));
    return memcmp(magic, MAGIC, MAGIC_LENGTH) == 0;
}

static bool take_pack(struct reading *reading, struct refs *packs)
{
    struct bytes_reader *reader = &reading->content;
    struct refs_pack pack = {.kind = REFS_DATA};
    const unsigned char *digest;

    pack.pack.run = (int64_t)bytes_take_u64(reader);
    pack.pack.number = bytes_take_u32(reader);
    pack.size = bytes_take_u64(reader);
    digest = bytes_take(reader, sizeof(pack.sha256));
    pack.blocks = bytes_take_u32(reader);
    if (reader->failed || reader->left > 0 || pack.pack.run < 0 || pack.pack.number == 0)
        return false;
    memcpy(pack.sha256, digest, sizeof(pack.sha256));
    refs_add(packs, &pack);
    return true;
}

/* The content is proven by its digest; what it says is looked at when it is wanted. */
static bool take_leaf(struct unfinished *unfinished, const struct reading *reading, uint64_t offset)
{
    struct bytes_reader reader = reading->content;
    uint64_t key;

    bytes_take(&reader, 4);
    key = bytes_take_u64(&reader);
    const uint32_t number = bytes_take_u32(&reader);

    if (reader.failed)
        return false;
    if (unfinished->count == LEAVES_MAXIMUM)
        return true;
    unfinished->leaves = mem_grow(unfinished->leaves, unfinished->count, &unfinished->capacity,
                                  sizeof(*unfinished->leaves));
    unfinished->leaves[unfinished->count++] =
        (struct leaf_place){.digest = leaf_digest(key, number), .offset = offset};
    return true;
}

/* Up to where it is sound. */
static uint64_t read_records(struct unfinished *unfinished, FILE *stream, uint64_t offset,
                             struct reading *reading)
{
    while (read_record(reading, read_stream, stream, unfinished->meta.secret) &&
           ((reading->kind == RECORD_PACK && take_pack(reading, &unfinished->packs)) ||
            (reading->kind == RECORD_LEAF && take_leaf(unfinished, reading, offset))))
        offset = (uint64_t)ftello(stream);
    return offset;
}

static int compare_places(const void *a, const void *b)
{
    const struct leaf_place *left = a, *right = b;

    if (left->digest != right->digest)
        return left->digest < right->digest ? -1 : 1;
    return (left->offset < right->offset) - (left->offset > right->offset);
}

/* What is behind the last sound record would hide what is appended to it. */
static bool read_all(struct unfinished *unfinished, FILE *stream, struct error *err)
{
    struct reading *reading = mem_alloc(sizeof(*reading));
    bool ok =
        read_record(reading, read_stream, stream, NULL) && take_head(reading, &unfinished->meta);
    uint64_t end = 0;

    if (ok)
        end = read_records(unfinished, stream, (uint64_t)ftello(stream), reading);
    free(reading);
    if (!ok)
        return error_set(err, ERROR_INTEGRITY, "file \"%s\" is damaged", unfinished->path);
    if (ftruncate(unfinished->fd, (off_t)end) != 0)
        return error_set_errno(err, "could not truncate file \"%s\"", unfinished->path);
    refs_sort(&unfinished->packs);
    if (unfinished->count > 0)
        qsort(unfinished->leaves, unfinished->count, sizeof(*unfinished->leaves), compare_places);
    return true;
}

static struct unfinished *open_file(const char *state_dir, int flags, struct error *err)
{
    struct unfinished *opened = mem_calloc(1, sizeof(*opened));

    opened->path = path_in(state_dir);
    pthread_mutex_init(&opened->mutex, NULL);
    opened->fd = open(opened->path, O_RDWR | O_APPEND | O_CLOEXEC | O_NONBLOCK | flags, 0600);
    if (opened->fd < 0) {
        const bool absent = errno == ENOENT;

        error_set_errno(err, "could not open file \"%s\"", opened->path);
        if (absent)
            err->code = ERROR_NOT_FOUND;
    } else if (files_check_regular(opened->fd, opened->path, err)) {
        return opened;
    }
    unfinished_close(opened);
    return NULL;
}

bool unfinished_open(const char *state_dir, struct unfinished **unfinished, struct error *err)
{
    struct unfinished *opened = open_file(state_dir, 0, err);
    FILE *stream;

    if (opened == NULL)
        return false;
    stream = fopen(opened->path, "re");
    if (stream == NULL)
        error_set_errno(err, "could not open file \"%s\"", opened->path);
    if (stream == NULL || !read_all(opened, stream, err)) {
        if (stream != NULL)
            fclose(stream);
        unfinished_close(opened);
        return false;
    }
    fclose(stream);
    *unfinished = opened;
    return true;
}

bool unfinished_new(const char *state_dir, const struct unfinished_meta *meta,
                    struct unfinished **unfinished, struct error *err)
{
    char *directory = files_join(state_dir, MAP_CACHE_DIRECTORY);
    struct unfinished *made = files_make_directories(directory, err)
                                  ? open_file(state_dir, O_CREAT | O_TRUNC, err)
                                  : NULL;
    struct buffer head = BUFFER_INIT;

    free(directory);
    if (made == NULL)
        return false;
    made->meta = *meta;
    append_head(meta, &head);

    bool ok = files_write_fd(made->fd, made->path, head.data, head.length, err);

    buffer_free(&head);
    if (!ok) {
        unfinished_close(made);
        return false;
    }
    *unfinished = made;
    return true;
}

void unfinished_close(struct unfinished *unfinished)
{
    if (unfinished == NULL)
        return;
    if (unfinished->fd >= 0)
        close(unfinished->fd);
    pthread_mutex_destroy(&unfinished->mutex);
    refs_free(&unfinished->packs);
    free(unfinished->leaves);
    free(unfinished->path);
    free(unfinished);
}

bool unfinished_forget(const char *state_dir, struct error *err)
{
    char *path = path_in(state_dir);
    bool ok = unlink(path) == 0 || errno == ENOENT ||
              error_set_errno(err, "could not remove file \"%s\"", path);

    free(path);
    return ok;
}

const struct unfinished_meta *unfinished_meta(const struct unfinished *unfinished)
{
    return &unfinished->meta;
}

const struct refs *unfinished_packs(const struct unfinished *unfinished)
{
    return &unfinished->packs;
}

/* The first of those with this digest. */
static const struct leaf_place *find_place(const struct unfinished *unfinished, uint64_t digest)
{
    size_t low = 0, high = unfinished->count;

    while (low < high) {
        const size_t middle = low + (high - low) / 2;

        if (unfinished->leaves[middle].digest < digest)
            low = middle + 1;
        else
            high = middle;
    }
    return low < unfinished->count && unfinished->leaves[low].digest == digest
               ? &unfinished->leaves[low]
               : NULL;
}

struct position {
    int fd;
    off_t offset;
};

static bool read_at(void *context, unsigned char *to, size_t length)
{
    struct position *position = context;
    const ssize_t got = pread(position->fd, to, length, position->offset);

    position->offset += (off_t)length;
    return got == (ssize_t)length;
}

bool unfinished_find(const struct unfinished *unfinished, uint64_t key, uint32_t number,
                     struct map_leaf *leaf)
{
    const struct leaf_place *place = find_place(unfinished, leaf_digest(key, number));
    struct error ignored = ERROR_INIT;
    struct reading reading;

    if (place == NULL)
        return false;

    struct position position = {.fd = unfinished->fd, .offset = (off_t)place->offset};

    return read_record(&reading, read_at, &position, unfinished->meta.secret) &&
           map_decode_leaf(reading.content.at, reading.content.left, leaf, &ignored) &&
           leaf->key == key && leaf->number == number;
}
