/*
 * wal.c - WAL file names, positions and page headers
 */
#include "pgvigil/wal.h"

#include <stdio.h>
#include <string.h>

#include "pgvigil/bytes.h"
#include "pgvigil/version.h"

#define KNOWN_FLAGS 0x000F
#define SHORT_HEADER_SIZE 24
#define LONG_HEADER_SIZE 40
#define NAME_DIGITS 24

/* Reads exactly `digits` upper-case hexadecimal digits. */
static bool take_hex(const char **at, int digits, uint32_t *value)
{
    uint32_t result = 0;

    for (int i = 0; i < digits; i++) {
        char c = (*at)[i];
        if (c >= '0' && c <= '9') {
            result = result << 4 | (uint32_t)(c - '0');
        } else if (c >= 'A' && c <= 'F') {
            result = result << 4 | (uint32_t)(c - 'A' + 10);
        } else {
            return false;
        }
    }
    *at += digits;
    *value = result;
    return true;
}

static enum wal_file_kind parse_suffix(const char *at, struct wal_name *name)
{
    if (*at == '\0') {
        return WAL_SEGMENT;
    }
    if (strcmp(at, ".partial") == 0) {
        return WAL_PARTIAL;
    }
    if (*at != '.') {
        return WAL_NOT_A_WAL_FILE;
    }
    at++;
    if (take_hex(&at, 8, &name->offset) && strcmp(at, ".backup") == 0) {
        return WAL_BACKUP_HISTORY;
    }
    return WAL_NOT_A_WAL_FILE;
}

enum wal_file_kind wal_parse_name(const char *name, struct wal_name *parsed)
{
    struct wal_name result = {.kind = WAL_NOT_A_WAL_FILE};
    const char *at = name;

    /* There is no timeline 0. */
    if (take_hex(&at, 8, &result.timeline) && result.timeline != 0) {
        if (strcmp(at, ".history") == 0) {
            result.kind = WAL_HISTORY;
        } else if (take_hex(&at, 8, &result.log) && take_hex(&at, 8, &result.seg)) {
            result.kind = parse_suffix(at, &result);
        }
    }
    *parsed = result;
    return result.kind;
}

bool wal_segment_size_valid(uint64_t size)
{
    return size >= WAL_SEGMENT_SIZE_MINIMUM && size <= WAL_SEGMENT_SIZE_MAXIMUM &&
           (size & (size - 1)) == 0;
}

static uint64_t segments_per_log(uint32_t segment_size)
{
    return (UINT64_C(1) << 32) / segment_size;
}

uint64_t wal_segment_number(const struct wal_name *name, uint32_t segment_size)
{
    return name->log * segments_per_log(segment_size) + name->seg;
}

char *wal_segment_name(uint32_t timeline, uint64_t number, uint32_t segment_size,
                       char text[WAL_NAME_SIZE])
{
    uint64_t per_log = segments_per_log(segment_size);

    snprintf(text, WAL_NAME_SIZE, "%08X%08X%08X", timeline, (uint32_t)(number / per_log),
             (uint32_t)(number % per_log));
    return text;
}

char *wal_history_name(uint32_t timeline, char text[WAL_NAME_SIZE])
{
    snprintf(text, WAL_NAME_SIZE, "%08X.history", timeline);
    return text;
}

char *wal_format_lsn(uint64_t lsn, char text[WAL_LSN_TEXT_SIZE])
{
    snprintf(text, WAL_LSN_TEXT_SIZE, "%X/%X", (uint32_t)(lsn >> 32), (uint32_t)lsn);
    return text;
}

/* One to eight hexadecimal digits of either case, as people type them. */
static bool take_lsn_half(const char **at, uint32_t *value)
{
    static const char digits[] = "0123456789abcdef0123456789ABCDEF";
    uint32_t result = 0;
    int count = 0;

    for (; count < 8 && **at != '\0'; count++, (*at)++) {
        const char *found = strchr(digits, **at);
        if (found == NULL) {
            break;
        }
        result = result << 4 | (uint32_t)((found - digits) % 16);
    }
    *value = result;
    return count > 0;
}

bool wal_parse_lsn(const char *text, uint64_t *lsn)
{
    uint32_t high;
    uint32_t low;

    if (!take_lsn_half(&text, &high) || *text != '/') {
        return false;
    }
    text++;
    if (!take_lsn_half(&text, &low) || *text != '\0') {
        return false;
    }
    *lsn = (uint64_t)high << 32 | low;
    return true;
}

bool wal_parse_page_header(const void *bytes, struct wal_page_header *header, struct error *err)
{
    const unsigned char *b = bytes;
    struct wal_page_header result = {
        .magic = bytes_get_u16(b),
        .info = bytes_get_u16(b + 2),
        .timeline = bytes_get_u32(b + 4),
        .address = bytes_get_u64(b + 8),
        .remaining_length = bytes_get_u32(b + 16),
        .header_size = SHORT_HEADER_SIZE,
    };

    if (version_of_wal_magic(result.magic) == 0) {
        error_set(err, ERROR_INTEGRITY, "WAL page has the unknown magic number %04X", result.magic);
        return error_hint(err, "pgvigil supports PostgreSQL %d to %d", VERSION_MINIMUM,
                          VERSION_MAXIMUM);
    }
    if ((result.info & ~KNOWN_FLAGS) != 0) {
        return error_set(err, ERROR_INTEGRITY, "WAL page has the unknown flags %04X", result.info);
    }
    if (result.info & WAL_PAGE_LONG_HEADER) {
        result.system_identifier = bytes_get_u64(b + 24);
        result.segment_size = bytes_get_u32(b + 32);
        result.block_size = bytes_get_u32(b + 36);
        result.header_size = LONG_HEADER_SIZE;
    }
    *header = result;
    return true;
}

static bool check_sizes(const struct wal_page_header *header, uint64_t length, struct error *err)
{
    if (!(header->info & WAL_PAGE_LONG_HEADER)) {
        return error_set(err, ERROR_INTEGRITY, "its first page is not the first of a segment");
    }
    if (header->block_size != WAL_PAGE_SIZE) {
        return error_set(err, ERROR_INTEGRITY, "its pages are of %u bytes, not of %d",
                         header->block_size, WAL_PAGE_SIZE);
    }
    if (!wal_segment_size_valid(header->segment_size)) {
        return error_set(err, ERROR_INTEGRITY, "its header says a segment has %u bytes",
                         header->segment_size);
    }
    if (header->segment_size != length) {
        return error_set(err, ERROR_INTEGRITY, "it has %llu bytes, its header says %u",
                         (unsigned long long)length, header->segment_size);
    }
    return true;
}

static bool check_place(const struct wal_name *name, const struct wal_page_header *header,
                        struct error *err)
{
    char text[WAL_LSN_TEXT_SIZE];

    if (name->seg >= segments_per_log(header->segment_size)) {
        return error_set(err, ERROR_INTEGRITY, "no segment of %u bytes has such a name",
                         header->segment_size);
    }
    if (header->address != wal_segment_number(name, header->segment_size) * header->segment_size) {
        return error_set(err, ERROR_INTEGRITY, "it begins at %s, which is not what its name says",
                         wal_format_lsn(header->address, text));
    }
    if (header->timeline == 0 || header->timeline > name->timeline) {
        return error_set(err, ERROR_INTEGRITY, "it is of timeline %u, its name of timeline %u",
                         header->timeline, name->timeline);
    }
    return true;
}

bool wal_check_segment(const struct wal_name *name, uint64_t length, const void *first_page,
                       uint64_t system_identifier, struct error *err)
{
    struct wal_page_header header;

    if (!wal_parse_page_header(first_page, &header, err) || !check_sizes(&header, length, err)) {
        return false;
    }
    if (system_identifier != 0 && header.system_identifier != system_identifier) {
        error_set(err, ERROR_INTEGRITY, "it is of another cluster");
        return error_detail(err, "its system identifier is %llu, this cluster's is %llu",
                            (unsigned long long)header.system_identifier,
                            (unsigned long long)system_identifier);
    }
    return check_place(name, &header, err);
}
