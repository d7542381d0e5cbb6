/*
 * wal_builder.h - WAL made to measure
 *
 * Writes what a server of a given major version writes: page headers, aligned records with CRC and
 * link to the record before, records that run over pages and segments. Tests that need WAL that no
 * server would write change `bytes` afterwards.
 */
#ifndef PGVIGIL_TESTS_WAL_BUILDER_H
#define PGVIGIL_TESTS_WAL_BUILDER_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/buffer.h"

struct wal_builder {
    struct buffer bytes;
    int major;
    uint32_t segment_size;
    uint64_t system_identifier;
    uint32_t timeline; /* of the pages begun from now on */
    uint64_t start;    /* LSN of the first byte */
    uint64_t previous; /* start of the last record, 0 before the first */
};

/* Starts at the beginning of a segment. Free with buffer_free(&builder->bytes). */
void wal_builder_start(struct wal_builder *builder, int major, uint32_t segment_size,
                       uint64_t start);

uint64_t wal_builder_position(const struct wal_builder *builder);

/* Appends a record with this main data, whatever it means. All give the record's LSN. */
uint64_t wal_builder_record(struct wal_builder *builder, uint8_t manager, uint8_t info,
                            uint32_t xid, const void *data, size_t length);

/* The same with everything behind the record's header given: parts, their headers, data. */
uint64_t wal_builder_record_bare(struct wal_builder *builder, uint8_t manager, uint8_t info,
                                 uint32_t xid, const void *contents, size_t length);

/* `time` in microseconds since 1970. */
uint64_t wal_builder_commit(struct wal_builder *builder, uint32_t xid, int64_t time);
uint64_t wal_builder_abort(struct wal_builder *builder, uint32_t xid, int64_t time);
uint64_t wal_builder_restore_point(struct wal_builder *builder, const char *name, int64_t time);

/* COMMIT PREPARED by another transaction, with so many of each optional part before the xid. */
uint64_t wal_builder_commit_prepared(struct wal_builder *builder, uint32_t xid, int64_t time,
                                     uint32_t parts);

/* A record of so many bytes in all (at least 26). */
uint64_t wal_builder_filler(struct wal_builder *builder, uint32_t length);

/* XLOG_SWITCH and zeros up to the next segment. */
uint64_t wal_builder_switch(struct wal_builder *builder);

/* The server crashed in the last record: what lies behind its first page is lost, and the next page
 * starts with other records. */
void wal_builder_tear(struct wal_builder *builder);

/* Zeros up to the end of the segment, as behind the last record. */
void wal_builder_pad(struct wal_builder *builder);

#endif
