/*
 * connection_query.c - a statement sent, and its answer awaited until a deadline
 */
#include "pg/connection_query.h"

#include <errno.h>
#include <poll.h>

#include "pg/connection_error.h"
#include "pgvigil/clock.h"
#include "pgvigil/process.h"

#define QUERY_TIMEOUT (60 * CLOCK_SECOND)
#define WAIT_SLICE (CLOCK_SECOND / 4)

bool connection_query_wait(PGconn *pg, short events, int64_t deadline, const char *purpose,
                           struct error *err)
{
    for (;;) {
        struct pollfd poll_fd = {.fd = PQsocket(pg), .events = events};
        int64_t left = deadline - clock_monotonic();

        if (!process_check(err)) {
            return false;
        }
        if (left <= 0) {
            return error_set(err, ERROR_TIMEOUT, "could not %s: the server did not answer in time",
                             purpose);
        }
        int64_t slice = left < WAIT_SLICE ? left : WAIT_SLICE;
        int ready = poll(&poll_fd, 1, (int)((slice + 999) / 1000));
        if (ready > 0) {
            return true;
        }
        if (ready < 0 && errno != EINTR) {
            return error_set_errno(err, "could not %s: could not wait for the server", purpose);
        }
    }
}

static bool send_query(PGconn *pg, const struct connection_query *query, int64_t deadline,
                       struct error *err)
{
    int sent = query->parameter_count == 0
                   ? PQsendQuery(pg, query->sql)
                   : PQsendQueryParams(pg, query->sql, query->parameter_count, NULL,
                                       query->parameters, NULL, NULL, 0);

    if (!sent) {
        return connection_error_lost(pg, query->purpose, err);
    }
    for (;;) {
        int left = PQflush(pg);
        if (left == 0) {
            return true;
        }
        if (left < 0) {
            return connection_error_lost(pg, query->purpose, err);
        }
        if (!connection_query_wait(pg, POLLIN | POLLOUT, deadline, query->purpose, err)) {
            return false;
        }
        if (!PQconsumeInput(pg)) {
            return connection_error_lost(pg, query->purpose, err);
        }
    }
}

/* The next result, NULL behind the last one. */
static bool next_result(PGconn *pg, const struct connection_query *query, int64_t deadline,
                        PGresult **result, struct error *err)
{
    while (PQisBusy(pg)) {
        if (!connection_query_wait(pg, POLLIN, deadline, query->purpose, err)) {
            return false;
        }
        if (!PQconsumeInput(pg)) {
            return connection_error_lost(pg, query->purpose, err);
        }
    }
    *result = PQgetResult(pg);
    return true;
}

static bool usable(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);

    return status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
}

bool connection_query_run(PGconn *pg, const struct connection_query *query, PGresult **answer,
                          struct error *err)
{
    int64_t deadline = clock_monotonic() + (query->timeout > 0 ? query->timeout : QUERY_TIMEOUT);
    PGresult *last = NULL;
    PGresult *result = NULL;
    bool failed = false;

    if (!send_query(pg, query, deadline, err)) {
        return false;
    }
    for (;;) {
        if (!next_result(pg, query, deadline, &result, err)) {
            PQclear(last);
            return false;
        }
        if (result == NULL) {
            break;
        }
        if (!failed) {
            PQclear(last);
            last = result;
            failed = !usable(result);
        } else {
            PQclear(result);
        }
    }
    if (last == NULL || failed) {
        connection_error_result(pg, last, query->purpose, err);
        PQclear(last);
        return false;
    }
    *answer = last;
    return true;
}

bool connection_query_command(PGconn *pg, const struct connection_query *query, struct error *err)
{
    PGresult *result;

    if (!connection_query_run(pg, query, &result, err)) {
        return false;
    }
    PQclear(result);
    return true;
}

bool connection_query_row(PGconn *pg, const struct connection_query *query, int columns,
                          PGresult **row, struct error *err)
{
    if (!connection_query_run(pg, query, row, err)) {
        return false;
    }
    if (PQntuples(*row) == 1 && PQnfields(*row) == columns) {
        return true;
    }
    error_set(err, ERROR_DATABASE,
              "could not %s: the server gave %d rows of %d columns instead of one of %d",
              query->purpose, PQntuples(*row), PQnfields(*row), columns);
    PQclear(*row);
    return false;
}
