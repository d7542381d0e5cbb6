/*
 * arrival.h - waiting for the server's WAL to arrive in a repository
 */
#ifndef PGVIGIL_JOB_ARRIVAL_H
#define PGVIGIL_JOB_ARRIVAL_H

#include "pgvigil/connection.h"
#include "pgvigil/repository.h"

struct arrival {
    uint32_t timeline;
    uint64_t first, last; /* segment numbers */
    uint32_t segment_size;
};

/* Waits until all segments are in the repository, at most `timeout` microseconds; ERROR_TIMEOUT
 * names the first missing one, with what the server knows of a failing archive_command. */
bool arrival_wait(const struct arrival *arrival, struct repository *repository,
                  struct connection *connection, int64_t timeout, struct error *err);

#endif
