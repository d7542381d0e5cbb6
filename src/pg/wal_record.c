/*
 * wal_record.c - the contents of one WAL record
 */
#include "pg/wal_record.h"

#include <string.h>

#include "pgvigil/bytes.h"
#include "pgvigil/clock.h"
#include "pgvigil/version.h"

/* Resource managers (rmgrlist.h) and their records. */
#define MANAGER_XLOG 0
#define MANAGER_XACT 1

#define INFO_OF_XLOG 0xF0
#define XLOG_CHECKPOINT_SHUTDOWN 0x00
#define XLOG_CHECKPOINT_ONLINE 0x10
#define XLOG_SWITCH 0x40
#define XLOG_RESTORE_POINT 0x70

#define INFO_OF_XACT 0x70
#define XACT_COMMIT 0x00
#define XACT_ABORT 0x20
#define XACT_COMMIT_PREPARED 0x30
#define XACT_ABORT_PREPARED 0x40
#define XACT_HAS_INFO 0x80

#define RESTORE_POINT_NAME_SIZE 64

/* What the header of a record's parts can be, apart from references to blocks. */
enum { PART_TOPLEVEL_XID = 252, PART_ORIGIN = 253, PART_DATA_LONG = 254, PART_DATA_SHORT = 255 };

/* XACT_XINFO_HAS_*: the parts of a commit or abort record, in the order in which they come. */
enum {
    HAS_DATABASE = 1 << 0,
    HAS_SUBTRANSACTIONS = 1 << 1,
    HAS_RELATIONS = 1 << 2,
    HAS_INVALIDATIONS = 1 << 3,
    HAS_PREPARED_XID = 1 << 4,
    HAS_DROPPED_STATS = 1 << 8
};

#define DATABASE_SIZE 8
#define SUBTRANSACTION_SIZE 4
#define RELATION_SIZE 12
#define INVALIDATION_SIZE 16

void wal_record_parse_header(const unsigned char bytes[WAL_RECORD_HEADER_SIZE],
                             struct wal_record_header *header)
{
    *header = (struct wal_record_header){
        .length = bytes_get_u32(bytes),
        .xid = bytes_get_u32(bytes + 4),
        .previous = bytes_get_u64(bytes + 8),
        .info = bytes[16],
        .manager = bytes[17],
        .crc = bytes_get_u32(bytes + WAL_RECORD_CRC_AT),
    };
}

bool wal_record_is_switch(const struct wal_record_header *header)
{
    return header->manager == MANAGER_XLOG && (header->info & INFO_OF_XLOG) == XLOG_SWITCH;
}

/* Moves to the record's own data. The records decoded here refer to no blocks. */
static bool find_data(struct bytes_reader *reader)
{
    for (;;) {
        const unsigned char *part = bytes_take(reader, 1);
        if (part == NULL) {
            return false;
        }
        switch (*part) {
        case PART_TOPLEVEL_XID:
            bytes_take(reader, 4);
            break;
        case PART_ORIGIN:
            bytes_take(reader, 2);
            break;
        case PART_DATA_SHORT:
            bytes_take(reader, 1);
            return !reader->failed;
        case PART_DATA_LONG:
            bytes_take(reader, 4);
            return !reader->failed;
        default:
            return false;
        }
    }
}

static int64_t take_time(struct bytes_reader *reader)
{
    /* Unsigned, as a damaged time may overflow. */
    return (int64_t)(bytes_take_u64(reader) + (uint64_t)CLOCK_POSTGRES_EPOCH);
}

static void pass_array(struct bytes_reader *reader, size_t item_size)
{
    uint32_t count = bytes_take_u32(reader);

    if (count > reader->left / item_size) {
        reader->failed = true;
    } else {
        bytes_take(reader, count * item_size);
    }
}

/* The xid of a prepared transaction lies behind several arrays; false if it cannot be reached. */
static bool take_prepared_xid(struct bytes_reader *reader, int major, uint32_t *xid)
{
    uint32_t parts = bytes_take_u32(reader);

    if (parts & HAS_DATABASE) {
        bytes_take(reader, DATABASE_SIZE);
    }
    if (parts & HAS_SUBTRANSACTIONS) {
        pass_array(reader, SUBTRANSACTION_SIZE);
    }
    if (parts & HAS_RELATIONS) {
        pass_array(reader, RELATION_SIZE);
    }
    if (parts & HAS_DROPPED_STATS) {
        pass_array(reader, version_xact_stats_item_size(major));
    }
    if (parts & HAS_INVALIDATIONS) {
        pass_array(reader, INVALIDATION_SIZE);
    }
    if (!(parts & HAS_PREPARED_XID)) {
        return false;
    }
    *xid = bytes_take_u32(reader);
    return !reader->failed;
}

static void decode_xact(int major, uint8_t info, struct bytes_reader *reader,
                        struct wal_record *record)
{
    uint8_t operation = info & INFO_OF_XACT;
    bool commit = operation == XACT_COMMIT || operation == XACT_COMMIT_PREPARED;
    bool prepared = operation == XACT_COMMIT_PREPARED || operation == XACT_ABORT_PREPARED;
    uint32_t xid;

    if (!commit && operation != XACT_ABORT && operation != XACT_ABORT_PREPARED) {
        return;
    }
    int64_t time = take_time(reader);
    if (reader->failed) {
        return;
    }
    record->kind = commit ? WAL_RECORD_COMMIT : WAL_RECORD_ABORT;
    record->time = time;
    if (prepared && (info & XACT_HAS_INFO) && take_prepared_xid(reader, major, &xid)) {
        record->xid = xid;
    }
}

static void decode_restore_point(struct bytes_reader *reader, struct wal_record *record)
{
    int64_t time = take_time(reader);
    const unsigned char *name = bytes_take(reader, RESTORE_POINT_NAME_SIZE);

    if (name == NULL) {
        return;
    }
    record->kind = WAL_RECORD_RESTORE_POINT;
    record->time = time;
    memcpy(record->name, name, strnlen((const char *)name, RESTORE_POINT_NAME_SIZE));
}

/* A checkpoint's contents begin with its redo position (pg_control.h). */
static void decode_xlog(uint8_t operation, struct bytes_reader *reader, struct wal_record *record)
{
    if (operation == XLOG_RESTORE_POINT) {
        decode_restore_point(reader, record);
    } else if (operation == XLOG_CHECKPOINT_ONLINE || operation == XLOG_CHECKPOINT_SHUTDOWN) {
        record->redo = bytes_take_u64(reader);
        record->kind = reader->failed ? WAL_RECORD_OTHER : WAL_RECORD_CHECKPOINT;
    }
}

void wal_record_decode(int major, const void *bytes, size_t length, struct wal_record *record)
{
    struct bytes_reader reader = {.at = bytes, .left = length};
    const unsigned char *start = bytes_take(&reader, WAL_RECORD_HEADER_SIZE);
    struct wal_record_header header;

    if (start == NULL) {
        return;
    }
    wal_record_parse_header(start, &header);
    record->xid = header.xid;
    if ((header.manager != MANAGER_XACT && header.manager != MANAGER_XLOG) || !find_data(&reader)) {
        return;
    }
    if (header.manager == MANAGER_XACT) {
        decode_xact(major, header.info, &reader, record);
    } else {
        decode_xlog(header.info & INFO_OF_XLOG, &reader, record);
    }
}
