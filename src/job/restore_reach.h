/*
 * restore_reach.h - does the archived WAL lead from a backup to the target?
 *
 * PostgreSQL finds out only at the end of recovery, hours later, that a target is not there ("recovery
 * ended before configured recovery target was reached"). So it is asked beforehand.
 */
#ifndef PGVIGIL_RESTORE_REACH_H
#define PGVIGIL_RESTORE_REACH_H

#include "pgvigil/backup_info.h"
#include "pgvigil/restore.h"
#include "pgvigil/wal_scan.h"

/*
 * `where` names the repositories that the scan is of, as repository_ask_names does. `newest_timeline`
 * is the highest that there is in them.
 * `stop` is the record that a target by transaction or name stands for, else NULL. ERROR_NEGATIVE
 * names the first segment missing, or where the archive ends, and what can be reached.
 */
bool restore_reach_check(struct wal_scan *scan, const char *where, uint32_t newest_timeline,
                         const struct backup_info *backup, const struct restore_request *request,
                         const struct wal_record *stop, struct error *err);

#endif
