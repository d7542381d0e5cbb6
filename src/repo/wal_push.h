/*
 * wal_push.h - one WAL file into a repository, as wal_archive_store promises it
 */
/* layer: repo */
#ifndef PGVIGIL_REPO_WAL_PUSH_H
#define PGVIGIL_REPO_WAL_PUSH_H

#include "pgvigil/wal_archive.h"

bool wal_push(struct repository *repository, const struct wal_source *source, int level,
              enum wal_outcome *outcome, struct error *err);

#endif
