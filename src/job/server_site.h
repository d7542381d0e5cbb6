/*
 * server_site.h - is this the directory the server runs in, and does it archive through pgvigil?
 *
 * What a backup insists on and `check` shows, so that a green check means that a backup starts.
 */
#ifndef PGVIGIL_JOB_SERVER_SITE_H
#define PGVIGIL_JOB_SERVER_SITE_H

#include "pgvigil/config.h"
#include "pgvigil/connection.h"
#include "pgvigil/control.h"

/* The server's data directory, proven to be that of the configuration where that names one (with
 * the same inode, not only the same cluster in it), and to be the one in which this very server
 * runs, not a copy of it at the same path of another host. The caller frees *path. */
bool server_site_directory(const struct config *config, struct connection *connection,
                           const struct connection_server *server, char **path,
                           struct control *control, struct error *err);

/* archive_mode, wal_level and a command let the server archive; says so when it only lacks its restart. */
bool server_site_archives(struct connection *connection, const struct connection_server *server,
                          struct error *err);

/* archive_command seems to call pgvigil, with this configuration; a script that does so in its turn cannot
 * be seen through. */
bool server_site_calls_us(const struct config *config, const struct connection_server *server,
                          struct error *err);

#endif
