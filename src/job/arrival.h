/*
 * arrival.h - waiting for the server's WAL to arrive in a repository
 */
#ifndef PGVIGIL_JOB_ARRIVAL_H
#define PGVIGIL_JOB_ARRIVAL_H

#include "pgvigil/connection.h"
#include "pgvigil/repository_set.h"

enum arrival_patience {
    ARRIVAL_UNTIL_DEADLINE,
    ARRIVAL_WHILE_TRIED /* not once the server has done with the segment, or pauses after failures */
};

struct arrival {
    uint32_t timeline;
    uint64_t first, last; /* segment numbers */
    uint32_t segment_size;
    const char *data_directory; /* of the server that wrote them, or NULL: arrival_check_own */
    enum arrival_patience patience;
    int64_t
        failures; /* arrival_failures before the segments were complete, for ARRIVAL_WHILE_TRIED */
    bool *
        left_out; /* by member: set where archive_command had left it out, so that it was owed the last; or NULL */
};

/* Is this segment in the repository the one that the server in the data directory has in pg_wal? If not, another one
 * with its system identifier has archived there: ERROR_INTEGRITY. What cannot be told is; NULL, for a standby,
 * which does not write itself, is not. */
bool arrival_check_own(struct repository *repository, const char *data_directory,
                       const char *segment, struct error *err);

/* How often archiving has failed so far, by the server's count. */
int64_t arrival_failures(struct connection *connection);

/* Told of each member once: the segments are there (NULL), or why not. */
typedef void (*arrival_report_fn)(size_t member, const struct error *err, void *context);

/* Waits until all segments, the last one being the server's own, are in these open members of the set,
 * at most `timeout` microseconds for all of them together. ERROR_TIMEOUT names the first missing one, with
 * what the server knows of a failing archive_command. Pays what the set's members are owed meanwhile, as
 * the next push may not come soon. */
void arrival_wait_all(const struct arrival *arrival, struct repository_set *set,
                      const bool *members, struct connection *connection, int64_t timeout,
                      arrival_report_fn report, void *context);

/* The same for one of them. */
bool arrival_wait(const struct arrival *arrival, struct repository_set *set, size_t member,
                  struct connection *connection, int64_t timeout, struct error *err);

#endif
