/*
 * backup_info.h - backup.json: what everybody may know of a backup
 *
 * Written last; its presence is the commit. Never encrypted.
 */
#ifndef PGVIGIL_BACKUP_INFO_H
#define PGVIGIL_BACKUP_INFO_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/buffer.h"
#include "pgvigil/digest.h"
#include "pgvigil/repository.h"

struct backup_tablespace {
    uint32_t oid;
    char *location; /* absolute */
};

struct backup_info {
    int64_t run; /* seconds since 1970; the backup's ID */
    uint64_t system_identifier;
    int version_num; /* PostgreSQL's, e.g. 150018 */
    uint32_t timeline;
    uint64_t start_lsn, stop_lsn;
    int64_t start_time, stop_time; /* the server's clock, microseconds since 1970 */
    uint32_t wal_segment_size;
    bool data_checksums;
    char *host, *data_directory;
    struct backup_tablespace *tablespaces;
    size_t tablespace_count;

    uint64_t file_count;
    uint64_t database_bytes; /* of all files */
    uint64_t stored_bytes;   /* that this run stored, maps and manifest included */
    uint64_t pack_bytes;     /* of all packs it needs, its own and older ones */
    uint64_t page_errors;    /* pages whose checksum failed */
    char **page_error_list;  /* "base/5/1259 block 7", at most 100 */
    size_t page_error_list_count;

    unsigned char manifest_sha256[DIGEST_SHA256_SIZE];
    unsigned char refs_sha256[DIGEST_SHA256_SIZE];
};

void backup_info_encode(const struct backup_info *info, struct buffer *json);
/* Strict about types and bounds, unknown keys are passed over; ERROR_INTEGRITY. */
bool backup_info_parse(const char *json, size_t length, struct backup_info **info,
                       struct error *err);
void backup_info_free(struct backup_info *info);

/* The commit. ERROR_INTEGRITY if a backup.json is there already. */
bool backup_info_store(struct repository *repository, const struct backup_info *info,
                       struct error *err);
bool backup_info_fetch(struct repository *repository, int64_t run, struct backup_info **info,
                       struct error *err);

#endif
