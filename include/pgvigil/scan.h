/*
 * scan.h - what of a data directory belongs in a base backup
 *
 * Walks the data directory and its tablespaces as the server's own base backup does
 * (src/backend/backup/basebackup.c: excludeDirContents, excludeFiles, temporary files, unlogged
 * relations other than their init forks, contents of pg_wal), and says what each file is.
 * Symbolic links are followed only for pg_wal and in pg_tblspc; others are reported as skipped
 * (except configuration files, which the backup job reads by itself). global/pg_control is among
 * the entries, the data directory itself is not.
 */
#ifndef PGVIGIL_SCAN_H
#define PGVIGIL_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "pgvigil/control.h"
#include "pgvigil/error.h"

enum scan_kind {
    SCAN_DIRECTORY,
    SCAN_FILE,      /* anything that is not pages of a relation */
    SCAN_RELATION,  /* pages with checksums, if the cluster has them */
    SCAN_TABLESPACE /* the symbolic link pg_tblspc/<oid>; `link` is its target */
};

/* What of a file's status changes whenever its contents do; times in nanoseconds since 1970. */
struct scan_facts {
    uint64_t size;
    int64_t modified, changed; /* mtime and ctime */
    uint64_t inode, device;
};

struct scan_entry {
    char *path; /* relative to the data directory: "pg_tblspc/16400/PG_15_202209061/5/1259" */
    char *link; /* target of a tablespace's link (absolute), else NULL */
    enum scan_kind kind;
    mode_t mode;             /* permission bits */
    uint64_t size;           /* bytes when looked at; may change */
    int64_t modified;        /* microseconds since 1970 */
    uint32_t first_block;    /* block number of a relation segment's first block */
    struct scan_facts facts; /* of files, when they were looked at */
};

struct scan {
    struct scan_entry *entries; /* sorted bytewise by path */
    size_t count;
    uint64_t total_bytes;
    char **skipped; /* paths left out that a person might miss: sockets, devices, foreign links */
    size_t skipped_count;
};

struct scan_facts scan_facts_of(const struct stat *status);

/* Files that vanish during the walk are passed over. */
bool scan_data_directory(const char *data_directory, const struct control *control,
                         struct scan **scan, struct error *err);
void scan_free(struct scan *scan);

#endif
