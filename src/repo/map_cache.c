/*
 * map_cache.c - the maps of backups on the local disk, and reading them
 */
#include "pgvigil/map_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgvigil/bytes.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"

#define COPY_PREFIX "map-"
#define COPY_END (DIGEST_SHA256_SIZE + 8) /* behind the pack's bytes */
#define FRAMES 16                         /* decompressed ones that a reader holds */

/* What has come of asking for a pack: its copy is good, or the reason why it cannot be had. */
struct standing {
    bool proven;
    struct error *lost;
};

struct map_cache {
    char *directory;
    unsigned char secret[DIGEST_SECRET_SIZE];
    struct repository *repository; /* of the packs in refs */
    const struct refs *refs;       /* or NULL */

    pthread_mutex_t mutex;      /* guards what follows; one pack is checked or fetched at a time */
    struct standing *standings; /* of the packs in refs */
    size_t count;
    int64_t run; /* the one at hand, whose packs are kept as they are stored; or 0 */
};

bool map_cache_open(const char *state_dir, const unsigned char secret[DIGEST_SECRET_SIZE],
                    struct map_cache **cache, struct error *err)
{
    struct map_cache *opened = mem_calloc(1, sizeof(*opened));

    opened->directory = files_join(state_dir, MAP_CACHE_DIRECTORY);
    memcpy(opened->secret, secret, sizeof(opened->secret));
    pthread_mutex_init(&opened->mutex, NULL);
    if (!files_make_directories(opened->directory, err)) {
        map_cache_close(opened);
        return false;
    }
    *cache = opened;
    return true;
}

void map_cache_close(struct map_cache *cache)
{
    if (cache == NULL)
        return;
    pthread_mutex_destroy(&cache->mutex);
    for (size_t i = 0; i < cache->count; i++)
        free(cache->standings[i].lost);
    free(cache->standings);
    free(cache->directory);
    free(cache);
}

void map_cache_build_on(struct map_cache *cache, const struct refs *refs,
                        struct repository *repository)
{
    cache->refs = refs;
    cache->repository = repository;
    cache->count = refs->count;
    cache->standings = mem_calloc(refs->count, sizeof(*cache->standings));
}

static void copy_name(const struct layout_pack *pack, char name[LAYOUT_NAME_SIZE])
{
    char run[CLOCK_COMPACT_SIZE];

    snprintf(name, LAYOUT_NAME_SIZE, COPY_PREFIX "%s-%08" PRIu32, layout_run_text(pack->run, run),
             pack->number);
}

/* The caller frees it. */
static char *copy_path(const struct map_cache *cache, const struct layout_pack *pack)
{
    char name[LAYOUT_NAME_SIZE];

    copy_name(pack, name);
    return files_join(cache->directory, name);
}

static bool write_copy(struct map_cache *cache, const struct refs_pack *pack, const void *bytes,
                       size_t length, struct error *err)
{
    struct buffer copy = BUFFER_INIT;
    char *path = copy_path(cache, &pack->pack);
    bool ok;

    buffer_reserve(&copy, length + COPY_END);
    buffer_append(&copy, bytes, length);
    buffer_append(&copy, pack->sha256, DIGEST_SHA256_SIZE);
    buffer_append_u64(&copy, digest_block(copy.data, copy.length, cache->secret));
    ok = files_write(path, copy.data, copy.length, 0600, err);
    buffer_free(&copy);
    free(path);
    return ok;
}

bool map_cache_keep(struct map_cache *cache, const struct refs_pack *pack, const void *bytes,
                    size_t length, struct error *err)
{
    pthread_mutex_lock(&cache->mutex);
    cache->run = pack->pack.run;
    pthread_mutex_unlock(&cache->mutex);
    return write_copy(cache, pack, bytes, length, err);
}

/* Is this the copy of that pack, as it was written? */
static bool is_copy(const struct map_cache *cache, const struct refs_pack *pack,
                    const struct buffer *copy)
{
    size_t length = copy->length - 8;

    return copy->length > COPY_END &&
           memcmp(copy->data + length - DIGEST_SHA256_SIZE, pack->sha256, DIGEST_SHA256_SIZE) ==
               0 &&
           digest_block(copy->data, length, cache->secret) == bytes_get_u64(copy->data + length);
}

static bool has_copy(const struct map_cache *cache, const struct refs_pack *pack)
{
    struct buffer copy = BUFFER_INIT;
    struct error ignored = ERROR_INIT;
    char *path = copy_path(cache, &pack->pack);
    bool has =
        files_read(path, PACK_SIZE + COPY_END, &copy, &ignored) && is_copy(cache, pack, &copy);

    buffer_free(&copy);
    free(path);
    return has;
}

static bool fetch_copy(struct map_cache *cache, const struct refs_pack *pack, struct error *err)
{
    struct buffer bytes = BUFFER_INIT;
    bool ok = pack_fetch(cache->repository, pack, &bytes, err) &&
              write_copy(cache, pack, bytes.data, bytes.length, err);

    buffer_free(&bytes);
    return ok;
}

/* The mutex is held. A pack that could not be had is not asked for again, as there may be a million files
 * with maps in it: what is said of the first one goes for all. */
static bool prove_locked(struct map_cache *cache, size_t index, struct error *err)
{
    const struct refs_pack *pack = &cache->refs->packs[index];
    struct standing *standing = &cache->standings[index];

    if (standing->lost != NULL) {
        *err = *standing->lost;
        return false;
    }
    standing->proven = standing->proven || has_copy(cache, pack) || fetch_copy(cache, pack, err);
    if (!standing->proven && err->code != ERROR_CANCELLED) {
        standing->lost = mem_alloc(sizeof(*err));
        *standing->lost = *err;
    }
    return standing->proven;
}

static bool prove(struct map_cache *cache, const struct layout_pack *pack, struct error *err)
{
    const struct refs_pack *found = cache->refs != NULL ? refs_find(cache->refs, pack) : NULL;
    char name[LAYOUT_NAME_SIZE];
    bool ok;

    pthread_mutex_lock(&cache->mutex);
    if (found != NULL && found->kind == REFS_MAP)
        ok = prove_locked(cache, (size_t)(found - cache->refs->packs), err);
    else
        ok =
            pack->run == cache->run ||
            error_set(err, ERROR_INTEGRITY, "damaged map: \"%s\" is none of the backup's map packs",
                      layout_pack(pack, name));
    pthread_mutex_unlock(&cache->mutex);
    return ok;
}

static bool read_copy(struct map_cache *cache, const struct pack_frame *frame, struct buffer *bytes,
                      struct error *err)
{
    char *path = copy_path(cache, &frame->pack);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t got = -1;

    buffer_clear(bytes);
    buffer_reserve(bytes, frame->length);
    if (fd >= 0) {
        got = pread(fd, bytes->data, frame->length, frame->offset);
        close(fd);
    }
    if (got < 0)
        error_set_errno(err, "could not read file \"%s\"", path);
    else if ((size_t)got < frame->length)
        error_set(err, ERROR_INTEGRITY, "damaged map: a frame lies outside of \"%s\"", path);
    else
        bytes->length = frame->length;
    free(path);
    return bytes->length == frame->length;
}

/* What a name in the directory stands for; false if it is no copy's. */
static bool parse_copy(const char *name, struct layout_pack *pack)
{
    const size_t prefix = strlen(COPY_PREFIX), run_length = CLOCK_COMPACT_SIZE - 1;
    char run[CLOCK_COMPACT_SIZE], again[LAYOUT_NAME_SIZE];

    if (strncmp(name, COPY_PREFIX, prefix) != 0 || strlen(name) < prefix + run_length + 1)
        return false;
    memcpy(run, name + prefix, run_length);
    run[run_length] = '\0';
    pack->number = (uint32_t)strtoul(name + prefix + run_length + 1, NULL, 10);
    if (!layout_parse_run(run, &pack->run))
        return false;
    copy_name(pack, again);
    return strcmp(again, name) == 0;
}

bool map_cache_prune(struct map_cache *cache, const struct refs *refs, struct error *err)
{
    DIR *entries = opendir(cache->directory);
    struct dirent *entry;

    if (entries == NULL)
        return error_set_errno(err, "could not open directory \"%s\"", cache->directory);
    while ((entry = readdir(entries)) != NULL) {
        struct layout_pack pack;
        bool left = strncmp(entry->d_name, FILES_TEMPORARY, strlen(FILES_TEMPORARY)) == 0;

        if (left || (parse_copy(entry->d_name, &pack) && refs_find(refs, &pack) == NULL))
            unlinkat(dirfd(entries), entry->d_name, 0); /* what stays is in nobody's way */
    }
    closedir(entries);
    return true;
}

/* A decompressed frame. */
struct held {
    struct pack_frame frame; /* pack.number 0: none */
    struct buffer raw;
    uint64_t used; /* when, by the reader's count */
};

struct map_cache_reader {
    struct map_cache *cache;
    struct decompress_context *decompress;
    struct buffer compressed;
    unsigned char *raw; /* MAP_ITEM_MAXIMUM bytes */
    struct held held[FRAMES];
    uint64_t count;
};

bool map_cache_reader_new(struct map_cache *cache, struct map_cache_reader **reader,
                          struct error *err)
{
    void *raw;

    if (!mem_try_alloc(&raw, MAP_ITEM_MAXIMUM, err))
        return false;
    *reader = mem_calloc(1, sizeof(**reader));
    (*reader)->cache = cache;
    (*reader)->raw = raw;
    (*reader)->decompress = decompress_new();
    return true;
}

void map_cache_reader_free(struct map_cache_reader *reader)
{
    if (reader == NULL)
        return;
    for (size_t i = 0; i < FRAMES; i++)
        buffer_free(&reader->held[i].raw);
    decompress_free(reader->decompress);
    buffer_free(&reader->compressed);
    free(reader->raw);
    free(reader);
}

static bool same_frame(const struct pack_frame *a, const struct pack_frame *b)
{
    return layout_compare_packs(&a->pack, &b->pack) == 0 && a->offset == b->offset &&
           a->length == b->length;
}

/* The frame that is held, or the place of the one that was used least recently. */
static struct held *find_held(struct map_cache_reader *reader, const struct pack_frame *frame)
{
    struct held *oldest = &reader->held[0];

    for (size_t i = 0; i < FRAMES; i++) {
        if (same_frame(&reader->held[i].frame, frame))
            return &reader->held[i];
        if (reader->held[i].used < oldest->used)
            oldest = &reader->held[i];
    }
    return oldest;
}

/* Gives the raw bytes of a frame, which stay as they are until the next one is asked for. A frame
 * larger than others, with the root of a large file, is not held. */
static bool load_frame(struct map_cache_reader *reader, const struct pack_frame *frame,
                       const unsigned char **raw, size_t *length, struct error *err)
{
    struct held *held = find_held(reader, frame);

    held->used = ++reader->count;
    if (!same_frame(&held->frame, frame)) {
        const struct pack_frame whole = {.pack = frame->pack, .length = frame->length};

        held->frame.pack.number = 0;
        if (!prove(reader->cache, &frame->pack, err) ||
            !read_copy(reader->cache, frame, &reader->compressed, err) ||
            !pack_read_frame(&reader->compressed, &whole, reader->decompress, reader->raw,
                             MAP_ITEM_MAXIMUM, length, err))
            return false;
        *raw = reader->raw;
        if (*length > PACK_FRAME_RAW)
            return true;
        buffer_clear(&held->raw);
        buffer_append(&held->raw, reader->raw, *length);
        held->frame = *frame;
    }
    *raw = held->raw.data;
    *length = held->raw.length;
    return true;
}

static bool load_item(struct map_cache_reader *reader, const struct map_place *place,
                      const unsigned char **item, struct error *err)
{
    const unsigned char *raw = NULL;
    size_t length = 0;

    if (!load_frame(reader, &place->frame, &raw, &length, err))
        return false;
    if (place->item_offset > length || place->item_length > length - place->item_offset)
        return error_set(err, ERROR_INTEGRITY, "damaged map: an item lies outside of its frame");
    *item = raw + place->item_offset;
    return true;
}

bool map_cache_reader_root(struct map_cache_reader *reader, const struct map_place *place,
                           uint64_t key, uint64_t file_size, struct map_root *root,
                           struct error *err)
{
    const unsigned char *item = NULL;

    if (!load_item(reader, place, &item, err) ||
        !map_decode_root(item, place->item_length, root, err))
        return false;
    if (root->key == key && root->file_size == file_size)
        return true;
    map_free_root(root);
    return error_set(err, ERROR_INTEGRITY, "damaged map: the root is that of another file");
}

bool map_cache_reader_leaf(struct map_cache_reader *reader, const struct map_place *place,
                           uint64_t key, uint32_t number, uint64_t file_size, struct map_leaf *leaf,
                           struct error *err)
{
    const uint64_t blocks = (file_size + PACK_BLOCK - 1) / PACK_BLOCK;
    const uint64_t left = blocks - (uint64_t)number * MAP_LEAF_BLOCKS;
    const unsigned char *item = NULL;

    if (!load_item(reader, place, &item, err) ||
        !map_decode_leaf(item, place->item_length, leaf, err))
        return false;
    return (leaf->key == key && leaf->number == number &&
            leaf->blocks == (left < MAP_LEAF_BLOCKS ? left : MAP_LEAF_BLOCKS)) ||
           error_set(err, ERROR_INTEGRITY, "damaged map: leaf %" PRIu32 " is another one", number);
}
