/*
 * restore_agreement.h - is what recovery will read the WAL of one server?
 */
#ifndef PGVIGIL_RESTORE_AGREEMENT_H
#define PGVIGIL_RESTORE_AGREEMENT_H

#include "pgvigil/backup_info.h"
#include "pgvigil/restore.h"
#include "pgvigil/wal_scan.h"

/*
 * Compares the WAL of several repositories (wal_agreement.h) from an LSN on up to where recovery from the
 * backup will stop: what comes behind that may be of two servers. `stop` is the record that a target by
 * transaction or name stands for. A time is such a place only if it is certain that recovery stops
 * before the repositories disagree.
 */
bool restore_agreement_check(struct wal_scan *scan, const struct backup_info *backup,
                             uint64_t from_lsn, const struct restore_request *request,
                             const struct wal_record *stop, struct error *err);

#endif
