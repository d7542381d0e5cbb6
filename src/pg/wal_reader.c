/*
 * wal_reader.c - record by record through WAL
 *
 * WAL is a stream of records cut by page headers. The reader takes it byte range by byte range:
 * `position` is where the next byte lies, and tells whether it belongs to a page's header or to its
 * contents; `state` tells what the contents are. The end of WAL is wherever something is not as the
 * server writes it (src/backend/access/transam/xlogreader.c has the same checks).
 */
#include "pgvigil/wal_reader.h"

#include <stdlib.h>
#include <string.h>

#include "pg/wal_record.h"
#include "pgvigil/buffer.h"
#include "pgvigil/bytes.h"
#include "pgvigil/crc32c.h"
#include "pgvigil/mem.h"
#include "pgvigil/version.h"

#define KEEP_AT_MOST (64u * 1024)
#define SHORT_HEADER_SIZE 24
#define LONG_HEADER_SIZE 40
#define FIRST_IS_OVERWRITE_CONTRECORD 0x0008
#define ALIGNMENT 8

enum state {
    BETWEEN_RECORDS, /* the next byte, aligned, starts a record */
    IN_RECORD,
    IN_FOREIGN_RECORD, /* one that began before the first byte fed */
    IN_UNUSED_SEGMENT, /* behind a switch record */
    ENDED
};

struct wal_reader {
    wal_record_fn fn;
    void *context;
    enum state state;
    bool fed;     /* with anything */
    bool started; /* a page header was seen */
    uint64_t position;

    /* of all pages, from the first one */
    uint16_t magic;
    uint32_t timeline;
    uint32_t segment_size;
    uint64_t system_identifier;

    unsigned char page_header[LONG_HEADER_SIZE];
    size_t page_header_have;
    size_t page_header_need;

    uint32_t foreign_left;

    struct buffer record; /* its first KEEP_AT_MOST bytes */
    uint64_t record_start;
    uint32_t record_length; /* 0 until known */
    uint32_t record_have;
    uint32_t crc; /* of what lies behind the record's header */

    uint64_t last_lsn;
    uint64_t end;
};

struct wal_reader *wal_reader_new(wal_record_fn fn, void *context)
{
    struct wal_reader *reader = mem_calloc(1, sizeof *reader);

    reader->fn = fn;
    reader->context = context;
    return reader;
}

void wal_reader_free(struct wal_reader *reader)
{
    if (reader) {
        buffer_free(&reader->record);
        free(reader);
    }
}

uint64_t wal_reader_end(const struct wal_reader *reader)
{
    return reader->end;
}

uint64_t wal_reader_last_lsn(const struct wal_reader *reader)
{
    return reader->last_lsn;
}

static size_t offset_in_page(const struct wal_reader *reader)
{
    return (size_t)(reader->position % WAL_PAGE_SIZE);
}

static bool in_page_header(const struct wal_reader *reader)
{
    return offset_in_page(reader) < reader->page_header_need || offset_in_page(reader) == 0;
}

static void forget_record(struct wal_reader *reader)
{
    buffer_clear(&reader->record);
    reader->record_length = 0;
    reader->record_have = 0;
    reader->crc = 0;
}

/* Does this header continue what the pages before it were? */
static bool fits_stream(struct wal_reader *reader, const struct wal_page_header *header)
{
    bool is_long = header->info & WAL_PAGE_LONG_HEADER;
    uint64_t page = reader->position - offset_in_page(reader);

    if (header->address != page || header->timeline == 0) {
        return false;
    }
    if (!reader->started) {
        reader->started = true;
        reader->magic = header->magic;
        reader->segment_size = header->segment_size;
        reader->system_identifier = header->system_identifier;
        if (!is_long || !wal_segment_size_valid(header->segment_size)) {
            return false;
        }
    }
    if (header->magic != reader->magic || header->timeline < reader->timeline ||
        is_long != (page % reader->segment_size == 0)) {
        return false;
    }
    reader->timeline = header->timeline;
    return !is_long ||
           (header->system_identifier == reader->system_identifier &&
            header->segment_size == reader->segment_size && header->block_size == WAL_PAGE_SIZE);
}

/* A record that runs over the page's start must be the one that was begun, and as long. */
static bool continues(struct wal_reader *reader, const struct wal_page_header *header,
                      bool first_page)
{
    bool continued = header->info & WAL_PAGE_FIRST_IS_CONTRECORD;

    if (header->info & FIRST_IS_OVERWRITE_CONTRECORD) {
        /* The server crashed while it wrote the record and put others in the place of its rest. */
        forget_record(reader);
        reader->state = BETWEEN_RECORDS;
        return !continued;
    }
    if (first_page && continued) {
        reader->state = IN_FOREIGN_RECORD;
        reader->foreign_left = header->remaining_length;
        return header->remaining_length > 0;
    }
    switch (reader->state) {
    case IN_RECORD:
        return continued && header->remaining_length == reader->record_length - reader->record_have;
    case IN_FOREIGN_RECORD:
        return continued && header->remaining_length == reader->foreign_left;
    default:
        return !continued;
    }
}

static void take_page_header(struct wal_reader *reader)
{
    struct wal_page_header header;
    struct error ignored = ERROR_INIT;
    bool first_page = !reader->started;

    if (!wal_parse_page_header(reader->page_header, &header, &ignored) ||
        !fits_stream(reader, &header) || !continues(reader, &header, first_page)) {
        reader->state = ENDED;
    }
}

/* Whether the header is long shows in its first bytes. */
static size_t feed_page_header(struct wal_reader *reader, const unsigned char *data, size_t length)
{
    size_t taken = 0;

    if (offset_in_page(reader) == 0) {
        memset(reader->page_header, 0, sizeof reader->page_header);
        reader->page_header_have = 0;
        reader->page_header_need = SHORT_HEADER_SIZE;
    }
    while (taken < length && reader->page_header_have < reader->page_header_need) {
        reader->page_header[reader->page_header_have++] = data[taken++];
        if (reader->page_header_have == SHORT_HEADER_SIZE &&
            (bytes_get_u16(reader->page_header + 2) & WAL_PAGE_LONG_HEADER)) {
            reader->page_header_need = LONG_HEADER_SIZE;
        }
    }
    /* The header names the page it is on, so it is looked at before the position moves on. */
    if (reader->page_header_have == reader->page_header_need) {
        take_page_header(reader);
    }
    reader->position += taken;
    return taken;
}

static bool record_header_fits(const struct wal_reader *reader)
{
    struct wal_record_header header;

    wal_record_parse_header(reader->record.data, &header);
    return reader->last_lsn == 0 ? header.previous < reader->record_start
                                 : header.previous == reader->last_lsn;
}

static bool crc_holds(const struct wal_reader *reader)
{
    uint32_t crc = crc32c(reader->crc, reader->record.data, WAL_RECORD_CRC_AT);

    return crc == bytes_get_u32(reader->record.data + WAL_RECORD_CRC_AT);
}

static bool finish_record(struct wal_reader *reader, struct error *err)
{
    struct wal_record record = {.lsn = reader->record_start};
    struct wal_record_header header;

    if (!crc_holds(reader)) {
        reader->state = ENDED;
        return true;
    }
    wal_record_parse_header(reader->record.data, &header);
    record.end_lsn = (reader->position + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    wal_record_decode(version_of_wal_magic(reader->magic), reader->record.data,
                      reader->record.length, &record);
    reader->last_lsn = record.lsn;
    reader->end = record.end_lsn;
    reader->state = wal_record_is_switch(&header) ? IN_UNUSED_SEGMENT : BETWEEN_RECORDS;
    forget_record(reader);
    return reader->fn(&record, reader->context, err);
}

static uint32_t smaller(uint64_t a, uint64_t b)
{
    return (uint32_t)(a < b ? a : b);
}

/* The length comes first, and always lies on one page; the header may go on on the next. */
static size_t feed_record(struct wal_reader *reader, const unsigned char *data, size_t length,
                          struct error *err, bool *ok)
{
    uint32_t want = reader->record_have < 4                        ? 4
                    : reader->record_have < WAL_RECORD_HEADER_SIZE ? WAL_RECORD_HEADER_SIZE
                                                                   : reader->record_length;
    uint32_t taken = smaller(want - reader->record_have, length);

    if (reader->record.length < KEEP_AT_MOST) {
        buffer_append(&reader->record, data, smaller(taken, KEEP_AT_MOST - reader->record.length));
    }
    if (reader->record_have >= WAL_RECORD_HEADER_SIZE) {
        reader->crc = crc32c(reader->crc, data, taken);
    }
    reader->record_have += taken;
    reader->position += taken;
    if (reader->record_have == 4 && reader->record_length == 0) {
        reader->record_length = bytes_get_u32(reader->record.data);
        if (reader->record_length < WAL_RECORD_HEADER_SIZE ||
            reader->record_length > WAL_RECORD_MAXIMUM_LENGTH) {
            reader->state = ENDED;
            return taken;
        }
    }
    if (want == WAL_RECORD_HEADER_SIZE && reader->record_have == want &&
        !record_header_fits(reader)) {
        reader->state = ENDED;
        return taken;
    }
    if (reader->record_have == reader->record_length) {
        *ok = finish_record(reader, err);
    }
    return taken;
}

/* Takes what it can of `length` bytes that all lie on one page, behind its header. */
static size_t feed_contents(struct wal_reader *reader, const unsigned char *data, size_t length,
                            struct error *err, bool *ok)
{
    uint32_t taken;

    switch (reader->state) {
    case IN_RECORD:
        return feed_record(reader, data, length, err, ok);
    case IN_FOREIGN_RECORD:
        taken = smaller(reader->foreign_left, length);
        reader->foreign_left -= taken;
        reader->position += taken;
        if (reader->foreign_left == 0) {
            reader->state = BETWEEN_RECORDS;
        }
        return taken;
    default:
        if (reader->position % ALIGNMENT != 0) {
            taken = smaller(ALIGNMENT - reader->position % ALIGNMENT, length);
            reader->position += taken;
            return taken;
        }
        reader->state = IN_RECORD;
        reader->record_start = reader->position;
        return 0;
    }
}

/* Passes over the rest of a segment, page headers too: the server leaves them zero there. */
static size_t feed_unused(struct wal_reader *reader, size_t length)
{
    uint64_t left = reader->segment_size - reader->position % reader->segment_size;
    size_t taken = left < length ? (size_t)left : length;

    if (reader->position % reader->segment_size == 0) {
        taken = 0;
    }
    reader->position += taken;
    if (reader->position % reader->segment_size == 0) {
        reader->state = BETWEEN_RECORDS;
    }
    return taken;
}

static size_t feed_some(struct wal_reader *reader, const unsigned char *data, size_t length,
                        struct error *err, bool *ok)
{
    if (reader->state == IN_UNUSED_SEGMENT) {
        return feed_unused(reader, length);
    }
    if (in_page_header(reader)) {
        return feed_page_header(reader, data, length);
    }
    size_t left = WAL_PAGE_SIZE - offset_in_page(reader);
    return feed_contents(reader, data, left < length ? left : length, err, ok);
}

/* Where the bytes fed next must begin: anywhere a segment can start at first, then no gap. */
static bool in_order(struct wal_reader *reader, uint64_t lsn)
{
    if (!reader->fed) {
        reader->fed = true;
        reader->position = lsn;
        return lsn % WAL_SEGMENT_SIZE_MINIMUM == 0;
    }
    return reader->state == ENDED || lsn == reader->position;
}

bool wal_reader_feed(struct wal_reader *reader, uint64_t lsn, const void *data, size_t length,
                     bool *ended, struct error *err)
{
    const unsigned char *at = data;
    char text[WAL_LSN_TEXT_SIZE];
    bool ok = true;

    if (!in_order(reader, lsn)) {
        return error_set(err, ERROR_USAGE, "WAL was read out of order at %s",
                         wal_format_lsn(lsn, text));
    }
    while (ok && length > 0 && reader->state != ENDED) {
        size_t taken = feed_some(reader, at, length, err, &ok);
        at += taken;
        length -= taken;
    }
    *ended = reader->state == ENDED;
    return ok;
}
