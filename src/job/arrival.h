/*
 * arrival.h - waiting for the server's WAL to arrive in a repository
 */
#ifndef PGVIGIL_JOB_ARRIVAL_H
#define PGVIGIL_JOB_ARRIVAL_H

#include "pgvigil/connection.h"
#include "pgvigil/repository_set.h"

struct arrival {
    uint32_t timeline;
    uint64_t first, last; /* segment numbers */
    uint32_t segment_size;
};

/* Waits until all segments are in this member of the set, at most `timeout` microseconds; ERROR_TIMEOUT
 * names the first missing one, with what the server knows of a failing archive_command. Pays what the
 * set's members are owed meanwhile, as the next push may not come soon. */
bool arrival_wait(const struct arrival *arrival, struct repository_set *set, size_t member,
                  struct connection *connection, int64_t timeout, struct error *err);

#endif
