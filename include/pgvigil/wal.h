/*
 * wal.h - WAL file names, positions and page headers
 *
 * src/include/access/xlog_internal.h and src/include/access/xlogdefs.h. An LSN is a uint64_t; a
 * segment is known by timeline and number (LSN / segment size).
 */
#ifndef PGVIGIL_WAL_H
#define PGVIGIL_WAL_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/error.h"

#define WAL_PAGE_SIZE 8192
#define WAL_SEGMENT_SIZE_MINIMUM (1024u * 1024)
#define WAL_SEGMENT_SIZE_MAXIMUM (1024u * 1024 * 1024)
#define WAL_NAME_SIZE 64 /* any WAL file name with its NUL */
#define WAL_LSN_TEXT_SIZE 18

enum wal_file_kind {
    WAL_NOT_A_WAL_FILE,
    WAL_SEGMENT,        /* 24 hexadecimal digits */
    WAL_PARTIAL,        /* <segment>.partial */
    WAL_BACKUP_HISTORY, /* <segment>.<8 digits>.backup */
    WAL_HISTORY         /* <8 digits>.history */
};

struct wal_name {
    enum wal_file_kind kind;
    uint32_t timeline;
    uint32_t log;    /* digits 9 to 16 (not for history) */
    uint32_t seg;    /* digits 17 to 24 */
    uint32_t offset; /* of a .backup file */
};

/* Strict: upper-case hexadecimal, nothing before or after. */
enum wal_file_kind wal_parse_name(const char *name, struct wal_name *parsed);

bool wal_segment_size_valid(uint64_t size); /* a power of two from 1 MiB to 1 GiB */

uint64_t wal_segment_number(const struct wal_name *name, uint32_t segment_size);
char *wal_segment_name(uint32_t timeline, uint64_t number, uint32_t segment_size,
                       char text[WAL_NAME_SIZE]);
char *wal_history_name(uint32_t timeline, char text[WAL_NAME_SIZE]);

char *wal_format_lsn(uint64_t lsn, char text[WAL_LSN_TEXT_SIZE]); /* "A/FE000028" */
bool wal_parse_lsn(const char *text, uint64_t *lsn);              /* strict */

struct wal_page_header {
    uint16_t magic;
    uint16_t info;
    uint32_t timeline;
    uint64_t address;
    uint32_t remaining_length; /* of a record continued from the page before */
    /* of a long header only, else 0 */
    uint64_t system_identifier;
    uint32_t segment_size;
    uint32_t block_size;
    size_t header_size; /* 24 or 40 */
};

#define WAL_PAGE_FIRST_IS_CONTRECORD 0x0001
#define WAL_PAGE_LONG_HEADER 0x0002

/* At least 40 bytes at `bytes`. ERROR_INTEGRITY if magic or info are not of a supported version. */
bool wal_parse_page_header(const void *bytes, struct wal_page_header *header, struct error *err);

/*
 * Is `first_page` the first page of the segment that `name` says, of this cluster? Checks magic,
 * long header, system identifier (0: any), page address against name, segment size against
 * `length`, and the header's timeline not above the name's (the first segment after a promotion is
 * a copy of the old one). ERROR_INTEGRITY with the reason. Not for segments that are all zeros.
 */
bool wal_check_segment(const struct wal_name *name, uint64_t length, const void *first_page,
                       uint64_t system_identifier, struct error *err);

#endif
