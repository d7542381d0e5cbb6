/*
 * wal_record.h - the contents of one WAL record
 *
 * src/include/access/xlogrecord.h and xact.h. Part of wal_reader.c.
 */
#ifndef PGVIGIL_WAL_RECORD_H
#define PGVIGIL_WAL_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgvigil/wal_reader.h"

#define WAL_RECORD_HEADER_SIZE 24
#define WAL_RECORD_MAXIMUM_LENGTH (1024u * 1024 * 1024)

struct wal_record_header {
    uint32_t length; /* of the whole record with its header */
    uint32_t xid;
    uint64_t previous; /* where the record before it starts */
    uint8_t info;
    uint8_t manager;
    uint32_t crc;
};

#define WAL_RECORD_CRC_AT 20 /* the CRC covers what lies behind it, then what lies before it */

void wal_record_parse_header(const unsigned char bytes[WAL_RECORD_HEADER_SIZE],
                             struct wal_record_header *header);

/* XLOG_SWITCH: the rest of the segment holds nothing. */
bool wal_record_is_switch(const struct wal_record_header *header);

/* Fills kind, xid, time, name and redo of `record` from `length` bytes of the record, with its
 * header; there may be fewer than the record has. Contents that make no sense leave what could be
 * read. */
void wal_record_decode(int major, const void *bytes, size_t length, struct wal_record *record);

#endif
