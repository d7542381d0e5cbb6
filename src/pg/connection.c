/*
 * connection.c - what pgvigil asks of a running server, through libpq
 */
#include "pgvigil/connection.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "pg/connection_error.h"
#include "pg/connection_options.h"
#include "pg/connection_query.h"
#include "pg/libpq.h"
#include "pgvigil/bytes.h"
#include "pgvigil/clock.h"
#include "pgvigil/mem.h"
#include "pgvigil/version.h"
#include "pgvigil/wal.h"

struct connection {
    PGconn *pg;
    struct connection_server server;
    bool server_known;
};

/*
 * Nothing that the DBA sets for ordinary sessions may end or disturb this one, which can be idle
 * for hours. SQL_ASCII: names and labels come as the bytes they are, whatever the server's
 * encoding. client_connection_check_interval: if pgvigil dies while the server waits for a
 * checkpoint, the server ends the backup instead of going on for nobody.
 */
static const char session_settings[] = "SET search_path = pg_catalog;"
                                       "SET client_encoding = 'SQL_ASCII';"
                                       "SET client_min_messages = warning;"
                                       "SET statement_timeout = 0;"
                                       "SET lock_timeout = 0;"
                                       "SET idle_in_transaction_session_timeout = 0;"
                                       "SET idle_session_timeout = 0;"
                                       "SET client_connection_check_interval = '10s';";

static const char transaction_timeout_setting[] = "SET transaction_timeout = 0;";
#define FIRST_WITH_TRANSACTION_TIMEOUT 170000

static void ignore_notice(void *context, const PGresult *result)
{
    (void)context;
    (void)result;
}

static bool poll_until_open(PGconn *pg, int64_t deadline, struct error *err)
{
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;

    while (status != PGRES_POLLING_OK) {
        short events = status == PGRES_POLLING_READING ? POLLIN : POLLOUT;

        if (!connection_query_wait(pg, events, deadline, "connect to the server", err)) {
            return false;
        }
        status = PQconnectPoll(pg);
        if (status == PGRES_POLLING_FAILED) {
            return connection_error_connect(pg, err);
        }
    }
    return true;
}

static bool establish(struct connection *connection, const char *conninfo, const char *command,
                      struct error *err)
{
    struct connection_options options;

    if (!connection_options_parse(conninfo, command, &options, err)) {
        return false;
    }
    connection->pg = PQconnectStartParams(options.keywords, options.values, 0);
    int64_t deadline = clock_monotonic() + options.timeout;
    connection_options_free(&options);
    if (connection->pg == NULL) {
        return error_set(err, ERROR_SYSTEM, "could not connect to the server: out of memory");
    }
    if (PQstatus(connection->pg) == CONNECTION_BAD) {
        return connection_error_connect(connection->pg, err);
    }
    PQsetNoticeReceiver(connection->pg, ignore_notice, NULL);
    return poll_until_open(connection->pg, deadline, err) &&
           version_check_server(PQserverVersion(connection->pg), err);
}

static bool prepare_session(struct connection *connection, struct error *err)
{
    struct connection_query query = {.purpose = "set up the database session",
                                     .sql = session_settings};

    if (PQsetnonblocking(connection->pg, 1) != 0) {
        return connection_error_lost(connection->pg, query.purpose, err);
    }
    if (!connection_query_command(connection->pg, &query, err)) {
        return false;
    }
    if (PQserverVersion(connection->pg) < FIRST_WITH_TRANSACTION_TIMEOUT) {
        return true;
    }
    query.sql = transaction_timeout_setting;
    return connection_query_command(connection->pg, &query, err);
}

bool connection_library(int *version, struct error *err)
{
    if (!libpq_load(err)) {
        return false;
    }
    *version = PQlibVersion();
    return true;
}

bool connection_open(const char *conninfo, const char *command, struct connection **connection,
                     struct error *err)
{
    struct connection *opened;

    *connection = NULL;
    if (!libpq_load(err)) {
        return false;
    }
    opened = mem_calloc(1, sizeof *opened);
    if (!establish(opened, conninfo, command, err) || !prepare_session(opened, err)) {
        connection_close(opened);
        return false;
    }
    *connection = opened;
    return true;
}

static void free_server(struct connection_server *server)
{
    free(server->data_directory);
    free(server->config_file);
    free(server->hba_file);
    free(server->ident_file);
    free(server->archive_mode);
    free(server->archive_command);
    free(server->archive_library);
    free(server->wal_level);
    free(server->full_page_writes);
    free(server->shared_preload_libraries);
    *server = (struct connection_server){.version_num = 0};
}

void connection_close(struct connection *connection)
{
    if (connection == NULL) {
        return;
    }
    free_server(&connection->server);
    PQfinish(connection->pg);
    free(connection);
}

/* A number from the server's answer: 0 for NULL, as no value asked for here can be 0. */
static uint64_t get_number(const PGresult *row, int line, int column)
{
    return strtoull(PQgetvalue(row, line, column), NULL, 10);
}

static bool get_flag(const PGresult *row, int column)
{
    return strcmp(PQgetvalue(row, 0, column), "t") == 0;
}

/* The timeline that is written, or in recovery the newest one replayed. */
static bool ask_identity(struct connection *connection, struct error *err)
{
    static const struct connection_query query = {
        .purpose = "ask the server what it is",
        .sql = "SELECT s.system_identifier, pg_is_in_recovery(),"
               " CASE WHEN pg_is_in_recovery()"
               "  THEN (SELECT greatest(c.timeline_id, r.min_recovery_end_timeline)"
               "        FROM pg_control_checkpoint() c, pg_control_recovery() r)::text"
               "  ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END,"
               " i.bytes_per_wal_segment, i.data_page_checksum_version <> 0"
               " FROM pg_control_system() s, pg_control_init() i",
    };
    struct connection_server *server = &connection->server;
    PGresult *row;

    if (!connection_query_row(connection->pg, &query, 5, &row, err)) {
        return false;
    }
    server->version_num = PQserverVersion(connection->pg);
    server->system_identifier = get_number(row, 0, 0);
    server->in_recovery = get_flag(row, 1);
    server->timeline =
        (uint32_t)strtoul(PQgetvalue(row, 0, 2), NULL, server->in_recovery ? 10 : 16);
    server->wal_segment_size = (uint32_t)get_number(row, 0, 3);
    server->data_checksums = get_flag(row, 4);
    PQclear(row);
    if (server->system_identifier == 0 || server->timeline == 0 ||
        !wal_segment_size_valid(server->wal_segment_size)) {
        return error_set(err, ERROR_DATABASE, "the server gave no usable answer to what it is");
    }
    return true;
}

static char **setting_slot(struct connection_server *server, const char *name)
{
    const struct {
        const char *name;
        char **slot;
    } slots[] = {
        {"data_directory", &server->data_directory},
        {"config_file", &server->config_file},
        {"hba_file", &server->hba_file},
        {"ident_file", &server->ident_file},
        {"archive_mode", &server->archive_mode},
        {"archive_command", &server->archive_command},
        {"archive_library", &server->archive_library},
        {"wal_level", &server->wal_level},
        {"full_page_writes", &server->full_page_writes},
        {"shared_preload_libraries", &server->shared_preload_libraries},
    };

    for (size_t i = 0; i < sizeof slots / sizeof slots[0]; i++) {
        if (strcmp(slots[i].name, name) == 0) {
            return slots[i].slot;
        }
    }
    return NULL;
}

/* pg_settings leaves out what the role may not see, where current_setting would be an error. */
static bool ask_settings(struct connection *connection, struct error *err)
{
    static const struct connection_query query = {
        .purpose = "ask the server for its settings",
        .sql = "SELECT name, setting FROM pg_settings WHERE name IN ('data_directory',"
               " 'config_file', 'hba_file', 'ident_file', 'archive_mode', 'archive_command',"
               " 'archive_library', 'wal_level', 'full_page_writes', 'shared_preload_libraries')",
    };
    PGresult *rows;

    if (!connection_query_run(connection->pg, &query, &rows, err)) {
        return false;
    }
    for (int i = 0; i < PQntuples(rows); i++) {
        char **slot = setting_slot(&connection->server, PQgetvalue(rows, i, 0));
        if (slot && *slot == NULL && !PQgetisnull(rows, i, 1)) {
            *slot = mem_strdup(PQgetvalue(rows, i, 1));
        }
    }
    PQclear(rows);
    return true;
}

bool connection_server(struct connection *connection, const struct connection_server **server,
                       struct error *err)
{
    free_server(&connection->server);
    if (!ask_identity(connection, err) || !ask_settings(connection, err)) {
        return false;
    }
    *server = &connection->server;
    return true;
}

static bool get_lsn(PGresult *row, int column, const char *purpose, uint64_t *lsn,
                    struct error *err)
{
    return wal_parse_lsn(PQgetvalue(row, 0, column), lsn) ||
           error_set(err, ERROR_DATABASE, "could not %s: the server gave no WAL position", purpose);
}

static bool ask_lsn(struct connection *connection, const struct connection_query *query,
                    uint64_t *lsn, struct error *err)
{
    PGresult *row;

    if (!connection_query_row(connection->pg, query, 1, &row, err)) {
        return false;
    }
    bool ok = get_lsn(row, 0, query->purpose, lsn, err);
    PQclear(row);
    return ok;
}

bool connection_backup_start(struct connection *connection, const char *label, bool fast,
                             int64_t timeout, uint64_t *start_lsn, struct error *err)
{
    const char *const parameters[] = {label, fast ? "true" : "false"};
    const struct connection_query query = {
        .purpose = "start the backup on the server",
        .sql = "SELECT pg_backup_start($1::text, fast => $2::boolean)",
        .parameter_count = 2,
        .parameters = parameters,
        .timeout = timeout,
    };

    if (ask_lsn(connection, &query, start_lsn, err)) {
        return true;
    }
    if (err->code == ERROR_TIMEOUT && !fast) {
        error_hint(err, "a checkpoint spread over time can take as long as checkpoint_timeout");
    }
    return false;
}

bool connection_backup_stop(struct connection *connection, struct connection_backup_stop *stop,
                            struct error *err)
{
    static const struct connection_query query = {
        .purpose = "stop the backup on the server",
        .sql = "SELECT lsn, labelfile, spcmapfile,"
               " (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
               " FROM pg_backup_stop(wait_for_archive => false)",
    };
    PGresult *row;

    *stop = (struct connection_backup_stop){.stop_lsn = 0};
    if (!connection_query_row(connection->pg, &query, 4, &row, err)) {
        return false;
    }
    bool ok = get_lsn(row, 0, query.purpose, &stop->stop_lsn, err);
    if (ok) {
        stop->label = mem_strdup(PQgetvalue(row, 0, 1));
        stop->tablespace_map = mem_strdup(PQgetvalue(row, 0, 2));
        stop->stop_time = (int64_t)get_number(row, 0, 3);
    }
    PQclear(row);
    return ok;
}

bool connection_row(struct connection *connection, const char *sql, size_t columns, char ***values,
                    struct error *err)
{
    const struct connection_query query = {.purpose = "ask the server", .sql = sql};
    PGresult *row;

    if (!connection_query_row(connection->pg, &query, (int)columns, &row, err)) {
        return false;
    }
    *values = mem_calloc(columns, sizeof **values);
    for (size_t i = 0; i < columns; i++) {
        if (!PQgetisnull(row, 0, (int)i)) {
            (*values)[i] = mem_strdup(PQgetvalue(row, 0, (int)i));
        }
    }
    PQclear(row);
    return true;
}

void connection_free_row(char **values, size_t columns)
{
    if (values == NULL) {
        return;
    }
    for (size_t i = 0; i < columns; i++) {
        free(values[i]);
    }
    free(values);
}

bool connection_switch_wal(struct connection *connection, const char *restore_point,
                           uint64_t *end_lsn, struct error *err)
{
    const char *const parameters[] = {restore_point};
    const struct connection_query create = {
        .purpose = "create a restore point",
        .sql = "SELECT pg_create_restore_point($1::text)",
        .parameter_count = 1,
        .parameters = parameters,
    };
    static const struct connection_query change = {
        .purpose = "switch to a new WAL segment",
        .sql = "SELECT pg_switch_wal()",
    };

    return ask_lsn(connection, &create, end_lsn, err) && ask_lsn(connection, &change, end_lsn, err);
}

bool connection_alter_system(struct connection *connection, const char *name, const char *value,
                             struct error *err)
{
    PGconn *pg = connection->pg;
    char *identifier = PQescapeIdentifier(pg, name, strlen(name));
    char *literal = PQescapeLiteral(pg, value, strlen(value));
    struct connection_query query = {.purpose = "change the server's configuration"};
    bool ok = false;

    if (identifier && literal) {
        char *sql = mem_printf("ALTER SYSTEM SET %s = %s", identifier, literal);
        query.sql = sql;
        ok = connection_query_command(connection->pg, &query, err);
        free(sql);
    } else {
        connection_error_lost(pg, query.purpose, err);
    }
    PQfreemem(identifier);
    PQfreemem(literal);
    return ok;
}
