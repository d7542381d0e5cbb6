/*
 * fetch.h - archive-get: one WAL file out of the repositories
 *
 * PostgreSQL takes exit code 0 as delivered, 1 to 125 as "does not exist", and stops recovery at
 * anything above (src/backend/access/transam/xlogarchive.c, RestoreArchivedFile). So absence is
 * answered only when it is certain.
 */
#ifndef PGVIGIL_FETCH_H
#define PGVIGIL_FETCH_H

#include "pgvigil/config.h"
#include "pgvigil/error.h"

enum fetch_answer {
    FETCH_DELIVERED,
    FETCH_ABSENT /* surely */
};

struct fetch_request {
    const char *file;           /* its name, as %f gives it */
    const char *path;           /* where it is wanted, as %p gives it */
    const char *repository;     /* the only one to be asked, or NULL: all */
    const char *const *without; /* names not to be asked, NULL at the end; or NULL */
};

/*
 * Puts the WAL file at the path, which gets its name only once the file is whole and verified.
 * False: it cannot be told (unreachable, damaged, or missing although a later segment of that
 * timeline or of a descendant that left it behind that segment exists), and recovery must stop.
 * Repositories that the request leaves out are neither asked nor missed. The system identifier is
 * that of the pg_control in the directory recovery runs in: the one whose pg_wal the path lies in,
 * the current directory, or the configured data directory, whichever is one first.
 *
 * History files once delivered are remembered in the state directory, and delivered from there when
 * no repository has them or can be asked.
 */
bool fetch_file(const struct config *config, const struct fetch_request *request,
                enum fetch_answer *answer, struct error *err);

/* Does a standby ask (standby.signal in that directory)? It asks again and again, so that "absent"
 * is no wrong answer where fetch_file cannot tell. */
bool fetch_is_for_standby(const struct config *config, const struct fetch_request *request);

#endif
