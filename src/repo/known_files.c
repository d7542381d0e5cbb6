/*
 * known_files.c - what this host remembers of the files of its last backup
 */
#include "pgvigil/known_files.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pgvigil/bytes.h"
#include "pgvigil/files.h"
#include "pgvigil/map_cache.h"
#include "pgvigil/mem.h"

#define MAGIC "pgvigil known 1\n"
#define MAGIC_LENGTH (sizeof(MAGIC) - 1)
#define FILE_MAXIMUM ((size_t)4 << 30)
#define PATH_MAXIMUM 4095
#define BOOT_ID "/proc/sys/kernel/random/boot_id"
/* A file that was written to so shortly before a backup began may have been written to again without
 * another ctime: clocks of file systems tick, and a write has its time before its bytes are there. */
#define SETTLED (60 * CLOCK_SECOND)
/* A step smaller than that, beside a minute, changes nothing. */
#define CLOCK_STEP (10 * CLOCK_SECOND)

struct known_files {
    struct buffer bytes;
    struct known_files_meta meta;
    size_t start; /* of the first file */
    size_t end;
};

static int64_t read_clock(clockid_t which)
{
    struct timespec now;

    clock_gettime(which, &now);
    return (int64_t)now.tv_sec * CLOCK_SECOND + now.tv_nsec / 1000;
}

void known_files_clock_read(struct known_files_clock *clock)
{
    struct error ignored = ERROR_INIT;
    struct buffer text = BUFFER_INIT;

    *clock = (struct known_files_clock){.offset = read_clock(CLOCK_REALTIME) -
                                                  read_clock(CLOCK_BOOTTIME)};
    if (files_read(BOOT_ID, 1024, &text, &ignored) && text.length >= KNOWN_FILES_BOOT_SIZE - 1)
        memcpy(clock->boot, text.data, KNOWN_FILES_BOOT_SIZE - 1);
    buffer_free(&text);
}

static void append_place(const struct map_place *place, struct buffer *out)
{
    buffer_append_u64(out, (uint64_t)place->frame.pack.run);
    buffer_append_u32(out, place->frame.pack.number);
    buffer_append_u32(out, place->frame.offset);
    buffer_append_u32(out, place->frame.length);
    buffer_append_u32(out, place->item_offset);
    buffer_append_u32(out, place->item_length);
}

static void take_place(struct bytes_reader *reader, struct map_place *place)
{
    place->frame.pack.run = (int64_t)bytes_take_u64(reader);
    place->frame.pack.number = bytes_take_u32(reader);
    place->frame.offset = bytes_take_u32(reader);
    place->frame.length = bytes_take_u32(reader);
    place->item_offset = bytes_take_u32(reader);
    place->item_length = bytes_take_u32(reader);
}

void known_files_begin(const struct known_files_meta *meta, struct buffer *out)
{
    buffer_append(out, MAGIC, MAGIC_LENGTH);
    buffer_append(out, meta->secret, sizeof(meta->secret));
    buffer_append_u64(out, (uint64_t)meta->run);
    buffer_append_u64(out, meta->system_identifier);
    buffer_append(out, meta->manifest_sha256, sizeof(meta->manifest_sha256));
    buffer_append_u64(out, (uint64_t)meta->started);
    buffer_append(out, meta->clock.boot, sizeof(meta->clock.boot));
    buffer_append_u64(out, (uint64_t)meta->clock.offset);
}

static bool take_meta(struct bytes_reader *reader, struct known_files_meta *meta)
{
    const unsigned char *magic = bytes_take(reader, MAGIC_LENGTH);
    const unsigned char *secret = bytes_take(reader, sizeof(meta->secret));
    const unsigned char *digest, *boot;

    meta->run = (int64_t)bytes_take_u64(reader);
    meta->system_identifier = bytes_take_u64(reader);
    digest = bytes_take(reader, sizeof(meta->manifest_sha256));
    meta->started = (int64_t)bytes_take_u64(reader);
    boot = bytes_take(reader, sizeof(meta->clock.boot));
    meta->clock.offset = (int64_t)bytes_take_u64(reader);
    if (reader->failed || memcmp(magic, MAGIC, MAGIC_LENGTH) != 0)
        return false;
    memcpy(meta->secret, secret, sizeof(meta->secret));
    memcpy(meta->manifest_sha256, digest, sizeof(meta->manifest_sha256));
    memcpy(meta->clock.boot, boot, sizeof(meta->clock.boot));
    return meta->clock.boot[sizeof(meta->clock.boot) - 1] == '\0' && meta->started >= SETTLED &&
           meta->started <= INT64_MAX / 1000 && meta->clock.offset > INT64_MIN / 2 &&
           meta->clock.offset < INT64_MAX / 2;
}

void known_files_add(const struct known_file *file, struct buffer *out)
{
    const size_t length = strlen(file->path) + 1;

    buffer_append_u32(out, (uint32_t)length);
    buffer_append(out, file->path, length);
    buffer_append_u64(out, file->size);
    buffer_append_u32(out, file->crc32c);
    append_place(&file->map, out);
    buffer_append_u32(out, file->remembered);
    buffer_append_u64(out, file->facts.size);
    buffer_append_u64(out, (uint64_t)file->facts.modified);
    buffer_append_u64(out, (uint64_t)file->facts.changed);
    buffer_append_u64(out, file->facts.inode);
    buffer_append_u64(out, file->facts.device);
}

static bool take_file(struct bytes_reader *reader, struct known_file *file)
{
    const uint32_t length = bytes_take_u32(reader);

    if (reader->failed || length < 2 || length > PATH_MAXIMUM + 1)
        return false;
    file->path = (const char *)bytes_take(reader, length);
    file->size = bytes_take_u64(reader);
    file->crc32c = bytes_take_u32(reader);
    take_place(reader, &file->map);
    file->remembered = bytes_take_u32(reader) == 1;
    file->facts.size = bytes_take_u64(reader);
    file->facts.modified = (int64_t)bytes_take_u64(reader);
    file->facts.changed = (int64_t)bytes_take_u64(reader);
    file->facts.inode = bytes_take_u64(reader);
    file->facts.device = bytes_take_u64(reader);
    return !reader->failed && file->path[length - 1] == '\0';
}

/* The caller frees it. */
static char *known_path(const char *state_dir)
{
    return files_join(state_dir, MAP_CACHE_DIRECTORY "/known");
}

/* The digest's key is in what it is over: it finds damage, not forgery. */
static uint64_t seal(const unsigned char *bytes, size_t length)
{
    return digest_block(bytes, length, bytes + MAGIC_LENGTH);
}

bool known_files_write(const char *state_dir, struct buffer *out, struct error *err)
{
    char *path = known_path(state_dir);
    bool ok;

    buffer_append_u64(out, seal(out->data, out->length));
    ok = files_write(path, out->data, out->length, 0600, err);
    free(path);
    return ok;
}

static bool check(struct known_files *known)
{
    struct bytes_reader reader = {.at = known->bytes.data};

    if (known->bytes.length < MAGIC_LENGTH + DIGEST_SECRET_SIZE + 8)
        return false;
    known->end = known->bytes.length - 8;
    reader.left = known->end;
    if (seal(known->bytes.data, known->end) != bytes_get_u64(known->bytes.data + known->end) ||
        !take_meta(&reader, &known->meta))
        return false;
    known->start = known->end - reader.left;
    return true;
}

bool known_files_read(const char *state_dir, struct known_files **known, struct error *err)
{
    struct known_files *read = mem_calloc(1, sizeof(*read));
    char *path = known_path(state_dir);
    bool ok = files_read(path, FILE_MAXIMUM, &read->bytes, err);

    if (ok && !check(read))
        ok = error_set(err, ERROR_INTEGRITY, "file \"%s\" is damaged", path);
    free(path);
    if (!ok) {
        known_files_free(read);
        return false;
    }
    *known = read;
    return true;
}

void known_files_free(struct known_files *known)
{
    if (known == NULL)
        return;
    buffer_free(&known->bytes);
    free(known);
}

const struct known_files_meta *known_files_meta(const struct known_files *known)
{
    return &known->meta;
}

bool known_files_each(const struct known_files *known, known_files_fn fn, void *context,
                      struct error *err)
{
    struct bytes_reader reader = {.at = known->bytes.data + known->start,
                                  .left = known->end - known->start};

    while (reader.left > 0) {
        struct known_file file;

        if (!take_file(&reader, &file))
            return error_set(err, ERROR_INTEGRITY, "damaged list of known files");
        if (!fn(&file, context, err))
            return false;
    }
    return true;
}

static bool same_time(const struct known_files_clock *then, const struct known_files_clock *now)
{
    const int64_t step = now->offset - then->offset;

    return then->boot[0] != '\0' && strcmp(then->boot, now->boot) == 0 && step < CLOCK_STEP &&
           step > -CLOCK_STEP;
}

bool known_files_trust(const struct known_files_meta *meta, const struct known_file *file,
                       const struct scan_facts *facts, const struct known_files_clock *clock)
{
    return file->remembered && same_time(&meta->clock, clock) && file->size == facts->size &&
           file->facts.size == facts->size && file->facts.modified == facts->modified &&
           file->facts.changed == facts->changed && file->facts.inode == facts->inode &&
           file->facts.device == facts->device &&
           facts->changed <= (meta->started - SETTLED) * 1000;
}
