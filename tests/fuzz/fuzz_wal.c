/*
 * fuzz_wal.c - WAL of any content is read up to where it stops being WAL
 *
 * The first byte chooses: odd, the rest is WAL as it is; even, the rest becomes the contents of
 * records that are otherwise right, as chance does not find a CRC.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/wal_reader.h"
#include "support/wal_builder.h"

#define SEGMENT_SIZE (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    uint64_t end;
    size_t count;
};

static bool see(const struct wal_record *record, void *context, struct error *err)
{
    struct seen *seen = context;

    (void)err;
    if (record->lsn < seen->end || record->end_lsn <= record->lsn || record->lsn % 8 != 0 ||
        memchr(record->name, '\0', sizeof record->name) == NULL)
        abort();
    seen->end = record->end_lsn;
    seen->count++;
    return true;
}

static size_t read_wal(const uint8_t *data, size_t size, size_t piece)
{
    struct seen seen = {.count = 0};
    struct wal_reader *reader = wal_reader_new(see, &seen);
    struct error err = ERROR_INIT;
    bool ended = false;

    for (size_t at = 0; at < size; at += piece) {
        size_t length = size - at < piece ? size - at : piece;
        uint8_t *copy = malloc(length);
        if (!copy)
            abort();
        memcpy(copy, data + at, length);
        if (!wal_reader_feed(reader, at, copy, length, &ended, &err))
            abort();
        free(copy);
    }
    if (wal_reader_end(reader) != seen.end)
        abort();
    wal_reader_free(reader);
    return seen.count;
}

/* Each record takes four bytes of what it is, and up to the given length of contents. The first is
 * followed by one that is too long to be kept. */
static size_t build(struct wal_builder *builder, const uint8_t *data, size_t size)
{
    size_t count = 0;

    while (size >= 4) {
        size_t length = data[2] | (size_t)(data[3] & 3) << 8;
        if (length > size - 4)
            length = size - 4;
        wal_builder_record_bare(builder, data[0] & 1, data[1], 9, data + 4, length);
        if (count++ == 0 && data[0] % 16 == 7) {
            wal_builder_filler(builder, 70000);
            count++;
        }
        data += 4 + length;
        size -= 4 + length;
    }
    return count;
}

static void read_built(const uint8_t *data, size_t size, int major)
{
    struct wal_builder builder;
    size_t count;

    wal_builder_start(&builder, major, SEGMENT_SIZE, 0);
    count = build(&builder, data, size);
    /* A switch record may be among them, behind which there is nothing to see. */
    if (read_wal(builder.bytes.data, builder.bytes.length, 4096) > count)
        abort();
    buffer_free(&builder.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wal_page_header header;
    struct error err = ERROR_INIT;
    static const struct wal_name name = {.kind = WAL_SEGMENT, .timeline = 1};

    if (size < 41)
        return 0;
    if (data[0] % 2 == 0) {
        read_built(data + 1, size - 1, 15 + data[0] / 2 % 4);
        return 0;
    }
    wal_parse_page_header(data + 1, &header, &err);
    wal_check_segment(&name, SEGMENT_SIZE, data + 1, 0, &err);
    if (read_wal(data + 1, size - 1, 8192) != read_wal(data + 1, size - 1, 13))
        abort();
    return 0;
}
