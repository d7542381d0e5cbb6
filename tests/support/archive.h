/*
 * archive.h - what archiving needs, made by hand: repositories, segments, data directories
 */
#ifndef PGVIGIL_TESTS_ARCHIVE_H
#define PGVIGIL_TESTS_ARCHIVE_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/buffer.h"
#include "pgvigil/config.h"
#include "pgvigil/repository.h"
#include "pgvigil/wal_archive.h"

#define ARCHIVE_SYSTEM UINT64_C(7300000000000000001)
#define ARCHIVE_SEGMENT_SIZE (1024u * 1024)

/* A repository "test" over a memory store, cluster "main" of ARCHIVE_SYSTEM selected. */
struct repository *archive_repository(void);
void archive_free_repository(struct repository *repository);

/* Replaces an object by other bytes, behind pgvigil's back. `name` is relative to the cluster. */
void archive_replace(struct repository *repository, const char *name, const void *data,
                     size_t length);
/* The object as it is stored, trailer included. */
void archive_read(struct repository *repository, const char *name, struct buffer *bytes);

/* The bytes of a segment: a proper header and pages that compress by half, from `seed`. */
void archive_segment(struct buffer *bytes, uint32_t segment_size, uint32_t timeline,
                     uint64_t number, uint64_t system_identifier, uint64_t seed);

/* A file of these bytes in `directory`; its path, to be freed. */
char *archive_file(const char *directory, const char *name, const void *data, size_t length);

/* wal_archive_store into this one alone. */
bool archive_store_source(struct repository *repository, const struct wal_source *source,
                          enum wal_outcome *outcome, struct error *err);

/* Stores bytes as a WAL file through a temporary file, as wal_archive_store answers. */
bool archive_store(struct repository *repository, const char *file, const void *data, size_t length,
                   enum wal_outcome *outcome, struct error *err);
/* Stores a segment made by archive_segment with timeline and number as seed; it must work. */
void archive_store_segment(struct repository *repository, uint32_t timeline, uint64_t number);
void archive_store_history(struct repository *repository, uint32_t timeline, const char *text);

/* <directory>/global/pg_control of a cluster with 1 MB segments; directories are made. */
void archive_control(const char *directory, uint64_t system_identifier);

/* A configuration of cluster "main" beneath root: pgdata "data", state_dir "state", and `count`
 * repositories "r1", "r2"... in directories of these names; those are not made. */
struct config *archive_config(const char *root, size_t count);

#endif
