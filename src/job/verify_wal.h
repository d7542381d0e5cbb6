/*
 * verify_wal.h - the WAL's part of a verification, and which moments damage costs
 */
#ifndef PGVIGIL_VERIFY_WAL_H
#define PGVIGIL_VERIFY_WAL_H

#include "job/verify_walk.h"

/* Finds segments and histories that are missing. Needs the survey. What retention has taken away between
 * a backup that is kept and the next one is not missing. */
void verify_wal_check(struct verify_walk *walk);

/* Which backups damaged and missing WAL costs; then, of all findings, which moments. Needs
 * verify_backup_count_costs. */
bool verify_wal_count_costs(struct verify_walk *walk, struct error *err);

/* Timeline and number of the segment that a finding is about; false if it is about none. */
bool verify_wal_segment(const struct verify_walk *walk, const struct verify_finding *finding,
                        uint32_t *timeline, uint64_t *number);

#endif
