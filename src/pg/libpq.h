/*
 * libpq.h - libpq's functions, loaded when a server is first talked to
 *
 * libpq draws in Kerberos, LDAP and GnuTLS: 4 ms at each start of a program, a tenth of an archive-push,
 * which needs none of them. So it is not linked but loaded. Include this instead of libpq-fe.h; once
 * libpq_load has returned true its functions are called as ever.
 */
#ifndef PGVIGIL_PG_LIBPQ_H
#define PGVIGIL_PG_LIBPQ_H

#include <libpq-fe.h>
#include <stdbool.h>

#include "pgvigil/error.h"
#include "pgvigil/library.h"

/* All that are used. */
#define LIBPQ_FUNCTIONS(F)                                                                         \
    F(PQclear)                                                                                     \
    F(PQconnectPoll)                                                                               \
    F(PQconnectStartParams)                                                                        \
    F(PQconninfoFree)                                                                              \
    F(PQconninfoParse)                                                                             \
    F(PQconsumeInput)                                                                              \
    F(PQerrorMessage)                                                                              \
    F(PQescapeIdentifier)                                                                          \
    F(PQescapeLiteral)                                                                             \
    F(PQfinish)                                                                                    \
    F(PQflush)                                                                                     \
    F(PQfreemem)                                                                                   \
    F(PQgetResult)                                                                                 \
    F(PQgetisnull)                                                                                 \
    F(PQgetvalue)                                                                                  \
    F(PQisBusy)                                                                                    \
    F(PQlibVersion)                                                                                \
    F(PQnfields)                                                                                   \
    F(PQntuples)                                                                                   \
    F(PQresultErrorField)                                                                          \
    F(PQresultStatus)                                                                              \
    F(PQsendQuery)                                                                                 \
    F(PQsendQueryParams)                                                                           \
    F(PQserverVersion)                                                                             \
    F(PQsetNoticeReceiver)                                                                         \
    F(PQsetnonblocking)                                                                            \
    F(PQsocket)                                                                                    \
    F(PQstatus)

struct libpq {
    LIBPQ_FUNCTIONS(LIBRARY_MEMBER)
};

extern struct libpq libpq_loaded;

/* ERROR_SYSTEM when there is no libpq, or not all of it. */
bool libpq_load(struct error *err);

#ifndef LIBPQ_NAMES_PLAIN
#define PQclear libpq_loaded.PQclear
#define PQconnectPoll libpq_loaded.PQconnectPoll
#define PQconnectStartParams libpq_loaded.PQconnectStartParams
#define PQconninfoFree libpq_loaded.PQconninfoFree
#define PQconninfoParse libpq_loaded.PQconninfoParse
#define PQconsumeInput libpq_loaded.PQconsumeInput
#define PQerrorMessage libpq_loaded.PQerrorMessage
#define PQescapeIdentifier libpq_loaded.PQescapeIdentifier
#define PQescapeLiteral libpq_loaded.PQescapeLiteral
#define PQfinish libpq_loaded.PQfinish
#define PQflush libpq_loaded.PQflush
#define PQfreemem libpq_loaded.PQfreemem
#define PQgetResult libpq_loaded.PQgetResult
#define PQgetisnull libpq_loaded.PQgetisnull
#define PQgetvalue libpq_loaded.PQgetvalue
#define PQisBusy libpq_loaded.PQisBusy
#define PQlibVersion libpq_loaded.PQlibVersion
#define PQnfields libpq_loaded.PQnfields
#define PQntuples libpq_loaded.PQntuples
#define PQresultErrorField libpq_loaded.PQresultErrorField
#define PQresultStatus libpq_loaded.PQresultStatus
#define PQsendQuery libpq_loaded.PQsendQuery
#define PQsendQueryParams libpq_loaded.PQsendQueryParams
#define PQserverVersion libpq_loaded.PQserverVersion
#define PQsetNoticeReceiver libpq_loaded.PQsetNoticeReceiver
#define PQsetnonblocking libpq_loaded.PQsetnonblocking
#define PQsocket libpq_loaded.PQsocket
#define PQstatus libpq_loaded.PQstatus
#endif

#endif
