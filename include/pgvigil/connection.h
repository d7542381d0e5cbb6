/*
 * connection.h - what pgvigil asks of a running server, through libpq
 *
 * One connection, one thread. application_name is "pgvigil <command>"; search_path is
 * pg_catalog; every query has a deadline of our own (a minute where none is given: a server that
 * stops answering is ERROR_TIMEOUT, SIGTERM is ERROR_CANCELLED). Nothing of conninfo (passwords)
 * gets into messages. SQL functions: src/backend/access/transam/xlogfuncs.c.
 */
#ifndef PGVIGIL_CONNECTION_H
#define PGVIGIL_CONNECTION_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/error.h"

struct connection;

struct connection_server {
    int version_num; /* 150018 */
    uint64_t system_identifier;
    uint32_t timeline;
    uint32_t wal_segment_size;
    bool in_recovery;
    bool data_checksums;
    char *data_directory;
    char *config_file; /* absolute, as the server says; may be NULL (no rights) */
    char *hba_file;
    char *ident_file;
    char *archive_mode;    /* "off", "on", "always" */
    char *archive_command; /* NULL without the right to see it */
    char *archive_library;
    char *wal_level;
    char *full_page_writes;
    char *shared_preload_libraries;
};

bool connection_open(const char *conninfo, const char *command, struct connection **connection,
                     struct error *err);
void connection_close(struct connection *connection);

/* Of libpq, as PQlibVersion gives it: 150013 for 15.13. ERROR_SYSTEM when it cannot be loaded. */
bool connection_library(int *version, struct error *err);

/* Asks all of struct connection_server; the connection owns the strings. */
bool connection_server(struct connection *connection, const struct connection_server **server,
                       struct error *err);

/* pg_backup_start(label, fast): waits for the checkpoint, at most `timeout` microseconds. */
bool connection_backup_start(struct connection *connection, const char *label, bool fast,
                             int64_t timeout, uint64_t *start_lsn, struct error *err);

struct connection_backup_stop {
    uint64_t stop_lsn;
    int64_t stop_time;    /* the server's clock after the stop, microseconds since 1970 */
    char *label;          /* backup_label, to be freed by the caller */
    char *tablespace_map; /* "" when there is none; to be freed */
};

/* pg_backup_stop(wait_for_archive => false). The backup aborts when the connection is lost before.
 * */
bool connection_backup_stop(struct connection *connection, struct connection_backup_stop *stop,
                            struct error *err);

/* A query of one row with text columns, for checks; values[i] is NULL for SQL NULL; freed together
 * by connection_free_row. */
bool connection_row(struct connection *connection, const char *sql, size_t columns, char ***values,
                    struct error *err);
void connection_free_row(char **values, size_t columns);

/* pg_create_restore_point + pg_switch_wal: the segment that holds the byte before end_lsn now must
 * get archived. */
bool connection_switch_wal(struct connection *connection, const char *restore_point,
                           uint64_t *end_lsn, struct error *err);

/* ALTER SYSTEM SET name = 'value', quoted by libpq. */
bool connection_alter_system(struct connection *connection, const char *name, const char *value,
                             struct error *err);

#endif
