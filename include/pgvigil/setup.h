/*
 * setup.h - init: what is missing is made, what is there stays
 */
#ifndef PGVIGIL_SETUP_H
#define PGVIGIL_SETUP_H

#include "pgvigil/config.h"
#include "pgvigil/connection.h"
#include "pgvigil/error.h"

/* What a new configuration says; unset ones are NULL. */
struct setup_answers {
    const char *cluster_name;
    const char *pgdata;
    const char *conninfo;
    const char *url; /* of the repository; required */
    const char *state_dir;
};

/* Writes a new configuration (0640, as root with the group of pgdata's owner), unless the answers
 * are wrong. What is at `path` already is never touched: ERROR_EXISTS. */
bool setup_configuration(const char *path, const struct setup_answers *answers, struct error *err);

/*
 * Makes the state directory. As root also the repositories' directories, where only root can; what
 * it made it gives to the owner of pgdata, and becomes that owner.
 */
bool setup_places(const struct config *config, struct error *err);

/* A server setting that archiving needs. */
enum setup_need { SETUP_FINE, SETUP_RELOAD, SETUP_RESTART };

struct setup_setting {
    const char *name;
    char *wanted;
    enum setup_need need; /* SETUP_FINE: the server has it already */
};

#define SETUP_SETTINGS 3 /* wal_level, archive_mode, archive_command */

/* `server` may be NULL when it could not be asked: all are wanted then. */
bool setup_settings(const struct config *config, const struct connection_server *server,
                    struct setup_setting settings[SETUP_SETTINGS], struct error *err);
void setup_free_settings(struct setup_setting settings[SETUP_SETTINGS]);

/* ALTER SYSTEM for those that are not fine, and a reload. */
bool setup_apply(struct connection *connection, const struct setup_setting settings[SETUP_SETTINGS],
                 struct error *err);

#endif
