/*
 * control.h - global/pg_control
 *
 * src/include/catalog/pg_control.h. Parsed field by field from bytes of a known length at known
 * offsets of 64-bit little-endian builds (all that Debian ships for amd64 and arm64), never by
 * casting to a struct; the CRC decides whether the bytes are whole.
 */
#ifndef PGVIGIL_CONTROL_H
#define PGVIGIL_CONTROL_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/error.h"

#define CONTROL_PATH "global/pg_control"
#define CONTROL_FILE_SIZE 8192

enum control_state { /* enum DBState, same numbers */
                     CONTROL_STARTUP = 0,
                     CONTROL_SHUTDOWNED,
                     CONTROL_SHUTDOWNED_IN_RECOVERY,
                     CONTROL_SHUTDOWNING,
                     CONTROL_IN_CRASH_RECOVERY,
                     CONTROL_IN_ARCHIVE_RECOVERY,
                     CONTROL_IN_PRODUCTION
};

struct control {
    uint64_t system_identifier;
    uint32_t control_version; /* 1300 for 15 and 16, 1700 for 17, 1800 for 18 */
    uint32_t catalog_version;
    int major; /* PostgreSQL's major version where catalog_version tells, else 0 */
    enum control_state state;
    uint64_t checkpoint_lsn;
    uint64_t redo_lsn;
    uint32_t timeline;
    uint32_t minimum_recovery_timeline; /* of a standby: how far its pages are; else 0 */
    int64_t checkpoint_time;            /* microseconds since 1970 (whole seconds) */
    uint32_t wal_segment_size;
    uint32_t block_size;
    uint32_t wal_block_size;
    uint32_t relation_segment_blocks; /* blocks in one segment file of a relation */
    uint32_t checksum_version;        /* 0: no page checksums */
    int max_connections;
    int max_worker_processes;
    int max_wal_senders;
    int max_prepared_xacts;
    int max_locks_per_xact;
};

/* length must be at least the struct's; ERROR_INTEGRITY when the CRC does not hold or the version
 * is unknown, with the reason. */
bool control_parse(const void *bytes, size_t length, struct control *control, struct error *err);

/*
 * Reads <data directory>/global/pg_control, again for up to a second while its CRC does not hold
 * (the server may be writing it). `bytes` gets the file when it is not NULL. ERROR_NOT_FOUND when
 * `data_directory` is no data directory, with a message that says so.
 */
bool control_read(const char *data_directory, struct control *control,
                  unsigned char bytes[CONTROL_FILE_SIZE], size_t *length, struct error *err);

#endif
