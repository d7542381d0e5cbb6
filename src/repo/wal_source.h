/*
 * wal_source.h - a WAL file on its way into the archive: read it, and see that it is what it should
 *
 * The server may misbehave, and archive-push may be called by hand on any file: nothing is taken on
 * trust but that the file does not change, and when it does that is noticed.
 */
/* layer: repo */
#ifndef PGVIGIL_REPO_WAL_SOURCE_H
#define PGVIGIL_REPO_WAL_SOURCE_H

#include "pgvigil/digest.h"
#include "pgvigil/store.h"
#include "pgvigil/trailer.h"
#include "pgvigil/wal_archive.h"

#define WAL_SOURCE_HISTORY_MAXIMUM (1024 * 1024)
#define WAL_SOURCE_BACKUP_HISTORY_MAXIMUM (64 * 1024)

enum trailer_kind wal_source_kind(enum wal_file_kind kind);

/* ERROR_INTEGRITY, or ERROR_USAGE for what is no WAL file at all, with the reason. */
bool wal_source_check(const struct wal_source *source, uint64_t system_identifier,
                      struct error *err);

/* Gives all of the file to sink, in pieces. ERROR_INTEGRITY if it does not have its length. */
bool wal_source_read(const struct wal_source *source, store_sink sink, void *context,
                     struct error *err);

bool wal_source_digest(const struct wal_source *source, unsigned char sha256[DIGEST_SHA256_SIZE],
                       struct error *err);

#endif
