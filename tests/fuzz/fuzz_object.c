/*
 * fuzz_object.c - any bytes as a stored object
 *
 * The first byte chooses coding, kind and what is put right: with a proper trailer behind them the
 * bytes get past all digests, as those of a hostile repository would. What is given out before an
 * error must stay within its bound, and the two ways to look at a trailer must agree.
 */
#include <stdlib.h>
#include <string.h>

#include "pgvigil/object.h"

#define NAME "wal/00000001/00000001.history.zst"
#define MAXIMUM 65536

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ZSTD = 1, RIGHT_TRAILER = 2, RIGHT_LENGTH = 4, WAL_KIND = 8 };

static struct buffer object = BUFFER_INIT;

static bool get(struct store *store, const char *name, uint64_t offset, uint64_t length,
                store_sink sink, void *context, struct error *err)
{
    uint64_t rest = offset < object.length ? object.length - offset : 0;
    size_t given = (size_t)(length < rest ? length : rest), half = given / 2;

    (void)store;
    (void)name;
    return sink(object.data + offset, half, context, err) &&
           sink(object.data + offset + half, given - half, context, err);
}

static bool stat_object(struct store *store, const char *name, struct store_info *info,
                        struct error *err)
{
    (void)store;
    (void)name;
    (void)err;
    *info = (struct store_info){.size = object.length};
    return true;
}

static const struct store_driver driver = {.scheme = "fuzz", .get = get, .stat = stat_object};

static void put_trailer(const uint8_t *data, size_t size, enum trailer_kind kind, uint64_t raw)
{
    struct trailer trailer = {.kind = kind, .stored_length = size, .raw_length = raw};
    unsigned char bytes[TRAILER_SIZE];

    digest_sha256(data, size, trailer.stored_sha256);
    trailer_name_digest(1, NAME, trailer.name);
    trailer_encode(&trailer, bytes);
    buffer_append(&object, bytes, sizeof(bytes));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct store store = {.driver = &driver};
    struct repository repository = {.name = "fuzz", .store = &store, .system_identifier = 1};
    struct error err = ERROR_INIT, trailer_err = ERROR_INIT;
    struct buffer raw = BUFFER_INIT;
    struct trailer trailer, again;

    if (size < 3)
        return 0;

    unsigned choice = data[0];
    uint64_t raw_length = (uint64_t)data[1] << 8 | data[2];
    enum trailer_kind kind = choice & WAL_KIND ? TRAILER_HISTORY : TRAILER_REFS;
    enum object_coding coding = choice & ZSTD ? OBJECT_ZSTD : OBJECT_PLAIN;

    data += 3;
    size -= 3;
    buffer_clear(&object);
    buffer_append(&object, data, size);
    if (choice & RIGHT_TRAILER)
        put_trailer(data, size, kind, choice & RIGHT_LENGTH ? size : raw_length);

    bool fine = object_get_buffer(&repository, NAME, kind, coding, MAXIMUM, &raw, &trailer, &err);
    bool trailer_fine = object_trailer(&repository, NAME, kind, &again, &trailer_err);

    if (raw.length > MAXIMUM || (fine && raw.length != trailer.raw_length))
        abort();
    if (fine && (!trailer_fine ||
                 memcmp(again.stored_sha256, trailer.stored_sha256, DIGEST_SHA256_SIZE) != 0))
        abort();
    if (!fine && err.code != ERROR_INTEGRITY && err.code != ERROR_CONFIG)
        abort();
    buffer_free(&raw);
    return 0;
}
