/*
 * connection_error.c - libpq's and the server's refusals as errors
 */
#include "pg/connection_error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/mem.h"

static const char insufficient_privilege[] = "42501";

/* By a piece of the message, as libpq gives no code for a connection that was not made. */
static const struct {
    const char *piece;
    const char *hint;
} connect_hints[] = {
    {"authentication failed", "check user and password in conninfo or the password file, and the "
                              "method in the server's pg_hba.conf"},
    {"no password supplied", "put the password into the password file of the user that runs "
                             "pgvigil (~/.pgpass)"},
    {"no pg_hba.conf entry", "allow this user and address in the server's pg_hba.conf"},
    {"Connection refused", "is the server running, and does it listen on that host and port?"},
    {"No such file or directory", "is the server running? Its socket lies where "
                                  "unix_socket_directories says: set host in conninfo"},
    {"Permission denied", "does this user have access to the directory of the server's socket?"},
    {"could not translate host name", "check host in conninfo"},
    {"starting up", "try again when the server has started"},
    {"shutting down", "the server is being stopped"},
    {"too many", "no connection is free: superusers have some reserved "
                 "(superuser_reserved_connections)"},
    {"remaining connection slots", "no connection is free: superusers have some reserved "
                                   "(superuser_reserved_connections)"},
    {"role \"", "create the role with sql/role.sql, or set user in conninfo"},
    {"database \"", "set dbname in conninfo"},
    {"certificate", "check sslmode and sslrootcert in conninfo"},
};

static const char *hint_for(const char *text)
{
    for (size_t i = 0; i < sizeof connect_hints / sizeof connect_hints[0]; i++) {
        if (strstr(text, connect_hints[i].piece)) {
            return connect_hints[i].hint;
        }
    }
    return "check conninfo in the configuration";
}

/* libpq's text in one line: a line for each host that was tried, and one for each addition. */
static char *one_line(const char *text)
{
    char *line = mem_calloc(2 * strlen(text) + 1, 1);
    size_t length = 0;

    for (; *text; text++) {
        if (*text == '\t') {
            continue;
        }
        if (*text != '\n') {
            line[length++] = *text;
        } else if (text[1] != '\0') {
            line[length++] = ';';
            line[length++] = ' ';
        }
    }
    return line;
}

bool connection_error_connect(const PGconn *pg, struct error *err)
{
    char *text = one_line(PQerrorMessage(pg));

    if (text[0] != '\0') {
        error_set(err, ERROR_DATABASE, "could not connect to the server: %s", text);
        error_hint(err, "%s", hint_for(text));
    } else { /* libpq 17 has nothing to say when it lacks descriptors */
        error_set(err, ERROR_DATABASE, "could not connect to the server: libpq gives no reason");
        error_hint(err, "is the limit of open files (ulimit -n) or memory exhausted?");
    }
    free(text);
    return false;
}

bool connection_error_lost(const PGconn *pg, const char *purpose, struct error *err)
{
    char *text = one_line(PQerrorMessage(pg));

    if (PQstatus(pg) == CONNECTION_BAD) {
        error_set(err, ERROR_DATABASE, "could not %s: the connection to the server was lost: %s",
                  purpose, text);
    } else {
        error_set(err, ERROR_DATABASE, "could not %s: %s", purpose, text);
    }
    free(text);
    return false;
}

bool connection_error_result(const PGconn *pg, const PGresult *result, const char *purpose,
                             struct error *err)
{
    const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
    const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);

    if (primary == NULL) {
        return connection_error_lost(pg, purpose, err);
    }
    error_set(err, ERROR_DATABASE, "could not %s: %s", purpose, primary);
    if (PQstatus(pg) == CONNECTION_BAD) {
        error_set(err, ERROR_DATABASE, "could not %s: the connection to the server was lost: %s",
                  purpose, primary);
    }
    error_detail(err, "SQLSTATE %s%s%s", state ? state : "unknown", detail ? "; " : "",
                 detail ? detail : "");
    if (state && strcmp(state, insufficient_privilege) == 0) {
        error_hint(err, "run sql/role.sql for the role, or connect as a superuser");
    } else if (hint) {
        error_hint(err, "%s", hint);
    }
    return false;
}
