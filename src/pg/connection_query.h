/*
 * connection_query.h - a statement sent, and its answer awaited until a deadline
 *
 * libpq is used without blocking throughout: every wait is a poll with a deadline, cut into slices
 * so that a signal that another thread has received is noticed too. ERROR_TIMEOUT when the server
 * does not answer in time, ERROR_CANCELLED after SIGTERM, else what connection_error.h says.
 */
#ifndef PGVIGIL_CONNECTION_QUERY_H
#define PGVIGIL_CONNECTION_QUERY_H

#include <stdint.h>

#include "pg/libpq.h"
#include "pgvigil/error.h"

/* A statement, what it is for ("start the backup"), its parameters as text, and its patience. */
struct connection_query {
    const char *purpose;
    const char *sql;
    int parameter_count;
    const char *const *parameters;
    int64_t timeout; /* microseconds; 0: a minute */
};

/* Waits for the connection's socket: POLLIN, POLLOUT or both. */
bool connection_query_wait(PGconn *pg, short events, int64_t deadline, const char *purpose,
                           struct error *err);

/* Gives the last result of a query all of whose results are fine; PQclear is the caller's. */
bool connection_query_run(PGconn *pg, const struct connection_query *query, PGresult **answer,
                          struct error *err);

/* The same for a query whose answer does not matter. */
bool connection_query_command(PGconn *pg, const struct connection_query *query, struct error *err);

/* The same for a query that has to give one row of so many columns. */
bool connection_query_row(PGconn *pg, const struct connection_query *query, int columns,
                          PGresult **row, struct error *err);

#endif
