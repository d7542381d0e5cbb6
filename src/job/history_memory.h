/*
 * history_memory.h - timeline history files that this host has seen
 *
 * PostgreSQL chooses a new timeline's number by asking for history files until one is absent. While
 * a repository is out of reach, or has lost one, what was seen before still counts: the files are
 * kept in <state_dir>/history/<system identifier>/.
 */
/* layer: job */
#ifndef PGVIGIL_JOB_HISTORY_MEMORY_H
#define PGVIGIL_JOB_HISTORY_MEMORY_H

#include "pgvigil/buffer.h"
#include "pgvigil/config.h"
#include "pgvigil/wal.h"

/* Durably. What cannot be remembered is logged: it is delivered all the same. */
void history_memory_keep(const struct config *config, uint64_t system_identifier,
                         const struct wal_name *name, const struct buffer *text);

/* Whether the file is remembered; its bytes are appended to text. */
bool history_memory_recall(const struct config *config, uint64_t system_identifier,
                           const struct wal_name *name, struct buffer *text);

#endif
