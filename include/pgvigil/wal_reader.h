/*
 * wal_reader.h - record by record through WAL
 *
 * Fed with the bytes of consecutive WAL from the beginning of a segment, gives each whole record to
 * a callback. Records that began before the first byte fed are passed over. Only what a restore has
 * to know is decoded: position, resource manager, transaction id, and of commit, abort, restore-point
 * and checkpoint records their contents (src/include/access/xlogrecord.h, xact.h, xlog_internal.h).
 * Record CRCs are checked for the records that are decoded. Bounded: a record is kept in memory
 * only up to 64 KiB; longer ones are passed over byte by byte (commit records with more are
 * truncated to their time and xid).
 */
#ifndef PGVIGIL_WAL_READER_H
#define PGVIGIL_WAL_READER_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/error.h"
#include "pgvigil/wal.h"

enum wal_record_kind {
    WAL_RECORD_OTHER,
    WAL_RECORD_COMMIT, /* also COMMIT PREPARED, with the prepared transaction's xid */
    WAL_RECORD_ABORT,  /* also ABORT PREPARED */
    WAL_RECORD_RESTORE_POINT,
    WAL_RECORD_CHECKPOINT
};

struct wal_record {
    enum wal_record_kind kind;
    uint64_t lsn;     /* where the record starts */
    uint64_t end_lsn; /* behind its last byte, aligned to 8 */
    uint32_t xid;
    int64_t time;  /* microseconds since 1970, of commit, abort and restore point */
    char name[65]; /* of a restore point */
    uint64_t redo; /* of a checkpoint: where recovery begins */
};

/* Returns false, with err set, to stop: wal_reader_feed then returns that error. */
typedef bool (*wal_record_fn)(const struct wal_record *record, void *context, struct error *err);

struct wal_reader;

struct wal_reader *wal_reader_new(wal_record_fn fn, void *context);
void wal_reader_free(struct wal_reader *reader);

/*
 * Bytes of the WAL in order; the first call begins at `lsn`, a segment's start. Pieces may be of
 * any size. The end of valid WAL (zeros, an old page, a broken record) is no error: *ended becomes
 * true, wal_reader_end tells where, and further bytes are ignored.
 */
bool wal_reader_feed(struct wal_reader *reader, uint64_t lsn, const void *data, size_t length,
                     bool *ended, struct error *err);

/* End of the last whole record seen (0: none yet), and the start of that record. */
uint64_t wal_reader_end(const struct wal_reader *reader);
uint64_t wal_reader_last_lsn(const struct wal_reader *reader);

#endif
