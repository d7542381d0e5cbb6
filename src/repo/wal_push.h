/*
 * wal_push.h - one WAL file into the repositories, as wal_archive_store promises it
 */
/* layer: repo */
#ifndef PGVIGIL_REPO_WAL_PUSH_H
#define PGVIGIL_REPO_WAL_PUSH_H

#include "pgvigil/layout.h"
#include "pgvigil/wal_archive.h"

/* object gets the name it has there. */
bool wal_push(struct repository_set *set, const struct wal_source *source, int level,
              enum wal_outcome *outcome, char object[LAYOUT_NAME_SIZE], struct error *err);

#endif
