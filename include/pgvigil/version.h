/*
 * version.h - what differs between PostgreSQL's major versions
 *
 * The one place that knows. Supported: 15 to 18. The magic numbers are in PostgreSQL's
 * src/include/access/xlog_internal.h (XLOG_PAGE_MAGIC) and src/include/catalog/pg_control.h
 * (PG_CONTROL_VERSION).
 */
#ifndef PGVIGIL_VERSION_H
#define PGVIGIL_VERSION_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/error.h"

#define VERSION_MINIMUM 15
#define VERSION_MAXIMUM 18

/* The major version whose WAL has this page magic, or 0 if none of the supported ones. */
int version_of_wal_magic(uint16_t magic);

/* ERROR_CONFIG naming the supported range for a server's server_version_num (e.g. 150004). */
bool version_check_server(int server_version_num, struct error *err);

/* The version of backup_manifest this major version's pg_verifybackup expects: 1 or 2. */
int version_manifest(int major);

/* Size of one dropped-statistics item in a commit record (src/include/access/xact.h). */
size_t version_xact_stats_item_size(int major);

#endif
