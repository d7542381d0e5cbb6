/*
 * connection_error.h - libpq's and the server's refusals as errors
 *
 * All return false. `purpose` is what was being done, to go behind "could not ".
 */
#ifndef PGVIGIL_CONNECTION_ERROR_H
#define PGVIGIL_CONNECTION_ERROR_H

#include "pg/libpq.h"
#include "pgvigil/error.h"

/* The connection could not be made; the hint is about the commonest reasons. */
bool connection_error_connect(const PGconn *pg, struct error *err);

/* libpq itself gave up. */
bool connection_error_lost(const PGconn *pg, const char *purpose, struct error *err);

/* The server's answer is an error: its primary message, with SQLSTATE and its detail as detail. */
bool connection_error_result(const PGconn *pg, const PGresult *result, const char *purpose,
                             struct error *err);

#endif
