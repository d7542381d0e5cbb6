/* wal_builder.c - WAL made to measure */
#include "support/wal_builder.h"

#include <stdlib.h>
#include <string.h>

#include "pgvigil/bytes.h"
#include "pgvigil/clock.h"
#include "pgvigil/crc32c.h"
#include "pgvigil/mem.h"
#include "pgvigil/wal.h"

#define RECORD_HEADER 24
#define FIRST_IS_OVERWRITE_CONTRECORD 0x0008

void wal_builder_start(struct wal_builder *builder, int major, uint32_t segment_size,
                       uint64_t start)
{
    *builder = (struct wal_builder){
        .major = major,
        .segment_size = segment_size,
        .system_identifier = UINT64_C(7710215589685620587),
        .timeline = 1,
        .start = start,
    };
}

uint64_t wal_builder_position(const struct wal_builder *builder)
{
    return builder->start + builder->bytes.length;
}

static uint16_t magic(int major)
{
    static const uint16_t magics[] = {0xD110, 0xD113, 0xD116, 0xD118};

    return magics[major - 15];
}

static void put_page_header(struct wal_builder *builder, uint16_t info, uint32_t remaining)
{
    uint64_t position = wal_builder_position(builder);
    bool is_long = position % builder->segment_size == 0;

    buffer_append_u16(&builder->bytes, magic(builder->major));
    buffer_append_u16(&builder->bytes, (uint16_t)(info | (is_long ? WAL_PAGE_LONG_HEADER : 0)));
    buffer_append_u32(&builder->bytes, builder->timeline);
    buffer_append_u64(&builder->bytes, position);
    buffer_append_u32(&builder->bytes, remaining);
    buffer_append_u32(&builder->bytes, 0);
    if (is_long) {
        buffer_append_u64(&builder->bytes, builder->system_identifier);
        buffer_append_u32(&builder->bytes, builder->segment_size);
        buffer_append_u32(&builder->bytes, WAL_PAGE_SIZE);
    }
}

static void put_zeros(struct wal_builder *builder, uint64_t length)
{
    static const unsigned char zeros[WAL_PAGE_SIZE];

    while (length > 0) {
        size_t some = length < sizeof zeros ? (size_t)length : sizeof zeros;
        buffer_append(&builder->bytes, zeros, some);
        length -= some;
    }
}

static uint64_t left_until(uint64_t position, uint64_t multiple)
{
    return (multiple - position % multiple) % multiple;
}

/* To where the next record starts: aligned, behind the page's header. */
static void align(struct wal_builder *builder)
{
    put_zeros(builder, left_until(wal_builder_position(builder), 8));
    if (wal_builder_position(builder) % WAL_PAGE_SIZE == 0) {
        put_page_header(builder, 0, 0);
    }
}

static void put_over_pages(struct wal_builder *builder, const unsigned char *data, size_t length)
{
    while (length > 0) {
        uint64_t position = wal_builder_position(builder);
        if (position % WAL_PAGE_SIZE == 0) {
            put_page_header(builder, WAL_PAGE_FIRST_IS_CONTRECORD, (uint32_t)length);
            position = wal_builder_position(builder);
        }
        uint64_t left = left_until(position, WAL_PAGE_SIZE);
        size_t some = left < length ? (size_t)left : length;
        buffer_append(&builder->bytes, data, some);
        data += some;
        length -= some;
    }
}

static void put_main_data(struct buffer *record, const void *data, size_t length)
{
    unsigned char short_header[2] = {255, (unsigned char)length};
    unsigned char long_header = 254;

    if (length == 0) {
        return;
    }
    if (length < 256) {
        buffer_append(record, short_header, sizeof short_header);
    } else {
        buffer_append(record, &long_header, 1);
        buffer_append_u32(record, (uint32_t)length);
    }
    buffer_append(record, data, length);
}

uint64_t wal_builder_record_bare(struct wal_builder *builder, uint8_t manager, uint8_t info,
                                 uint32_t xid, const void *contents, size_t length)
{
    struct buffer record = BUFFER_INIT;

    align(builder);
    uint64_t lsn = wal_builder_position(builder);
    buffer_append_u32(&record, 0);
    buffer_append_u32(&record, xid);
    buffer_append_u64(&record, builder->previous);
    buffer_append_u16(&record, (uint16_t)(info | (unsigned)manager << 8));
    buffer_append_u16(&record, 0);
    buffer_append_u32(&record, 0);
    buffer_append(&record, contents, length);
    bytes_put_u32(record.data, (uint32_t)record.length);
    uint32_t crc = crc32c(0, record.data + RECORD_HEADER, record.length - RECORD_HEADER);
    bytes_put_u32(record.data + RECORD_HEADER - 4, crc32c(crc, record.data, RECORD_HEADER - 4));
    put_over_pages(builder, record.data, record.length);
    builder->previous = lsn;
    buffer_free(&record);
    return lsn;
}

uint64_t wal_builder_record(struct wal_builder *builder, uint8_t manager, uint8_t info,
                            uint32_t xid, const void *data, size_t length)
{
    struct buffer contents = BUFFER_INIT;

    put_main_data(&contents, data, length);
    uint64_t lsn =
        wal_builder_record_bare(builder, manager, info, xid, contents.data, contents.length);
    buffer_free(&contents);
    return lsn;
}

static uint64_t postgres_time(int64_t time)
{
    return (uint64_t)(time - CLOCK_POSTGRES_EPOCH);
}

static uint64_t put_xact(struct wal_builder *builder, uint8_t info, uint32_t xid, int64_t time)
{
    unsigned char data[8];

    bytes_put_u64(data, postgres_time(time));
    return wal_builder_record(builder, 1, info, xid, data, sizeof data);
}

uint64_t wal_builder_commit(struct wal_builder *builder, uint32_t xid, int64_t time)
{
    return put_xact(builder, 0x00, xid, time);
}

uint64_t wal_builder_abort(struct wal_builder *builder, uint32_t xid, int64_t time)
{
    return put_xact(builder, 0x20, xid, time);
}

static void put_parts(struct buffer *data, uint32_t count, size_t size)
{
    buffer_append_u32(data, count);
    for (size_t i = 0; i < count * size; i++) {
        buffer_append(data, "\x5A", 1);
    }
}

uint64_t wal_builder_commit_prepared(struct wal_builder *builder, uint32_t xid, int64_t time,
                                     uint32_t parts)
{
    struct buffer data = BUFFER_INIT;

    buffer_append_u64(&data, postgres_time(time));
    buffer_append_u32(&data, 1 | 2 | 4 | 8 | 16 | 128 | 256);
    buffer_append_u64(&data, 0x5A5A5A5A5A5A5A5A); /* database */
    put_parts(&data, parts, 4);                   /* subtransactions */
    put_parts(&data, parts, 12);                  /* relations */
    put_parts(&data, parts, builder->major >= 18 ? 16 : 12);
    put_parts(&data, parts, 16); /* invalidations */
    buffer_append_u32(&data, xid);
    buffer_append(&data, "gid", 4);
    uint64_t lsn = wal_builder_record(builder, 1, 0x80 | 0x30, 0, data.data, data.length);
    buffer_free(&data);
    return lsn;
}

uint64_t wal_builder_restore_point(struct wal_builder *builder, const char *name, int64_t time)
{
    unsigned char data[72] = {0};

    bytes_put_u64(data, postgres_time(time));
    memcpy(data + 8, name, strnlen(name, 64));
    return wal_builder_record(builder, 0, 0x70, 0, data, sizeof data);
}

uint64_t wal_builder_filler(struct wal_builder *builder, uint32_t length)
{
    size_t data_length = length - RECORD_HEADER - (length - RECORD_HEADER - 2 < 256 ? 2 : 5);
    unsigned char *data = mem_alloc(data_length);

    for (size_t i = 0; i < data_length; i++) {
        data[i] = (unsigned char)(i * 7 + length);
    }
    uint64_t lsn = wal_builder_record(builder, 10, 0, 3, data, data_length);
    free(data);
    return lsn;
}

void wal_builder_pad(struct wal_builder *builder)
{
    put_zeros(builder, left_until(wal_builder_position(builder), builder->segment_size));
}

uint64_t wal_builder_switch(struct wal_builder *builder)
{
    uint64_t lsn = wal_builder_record(builder, 0, 0x40, 0, NULL, 0);

    wal_builder_pad(builder);
    return lsn;
}

void wal_builder_tear(struct wal_builder *builder)
{
    uint64_t page_end = (builder->previous / WAL_PAGE_SIZE + 1) * WAL_PAGE_SIZE;

    builder->bytes.length = (size_t)(page_end - builder->start);
    put_page_header(builder, FIRST_IS_OVERWRITE_CONTRECORD, 0);
    /* The record that was begun does not count. */
    builder->previous =
        bytes_get_u64(builder->bytes.data + (builder->previous - builder->start) + 8);
}
