/*
 * ship.h - archive-push: one WAL file into the repositories
 */
#ifndef PGVIGIL_SHIP_H
#define PGVIGIL_SHIP_H

#include "pgvigil/config.h"
#include "pgvigil/error.h"
#include "pgvigil/wal_archive.h"

/*
 * Stores the file at `path` (as %p gives it: relative to the data directory, which is the current
 * directory then) and returns only once it is durable. The cluster is the one whose pg_control is
 * in the configured data directory, or without one in the current directory; where both are there
 * and differ in their system identifiers the push is refused. Checks before it stores: see wal.h.
 * Gives up with ERROR_TIMEOUT at archive.timeout; a system call that hangs (a network file system
 * without its server) cannot be interrupted, and PostgreSQL waits for as long as that takes.
 */
bool ship_file(const struct config *config, const char *path, enum wal_outcome *outcome,
               struct error *err);

/* The same for a file of this cluster, wherever it lies. */
bool ship_file_of(const struct config *config, uint64_t system_identifier, const char *path,
                  enum wal_outcome *outcome, struct error *err);

#endif
