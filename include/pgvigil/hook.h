/*
 * hook.h - the commands that PostgreSQL is given to call pgvigil by
 *
 * archive_command and restore_command run through a shell, with %p, %f and %% replaced by the
 * server (src/common/percentrepl.c); paths are quoted for both.
 */
#ifndef PGVIGIL_HOOK_H
#define PGVIGIL_HOOK_H

#include "pgvigil/config.h"
#include "pgvigil/error.h"

/* `/usr/bin/pgvigil -c /etc/pgvigil/main.conf archive-push "%p"`. The caller frees it. */
bool hook_archive_command(const struct config *config, char **command, struct error *err);

/* A value in quotes, as postgresql.conf wants it (src/backend/utils/misc/guc-file.l). The caller frees
 * it. */
char *hook_setting_value(const char *value);

/* Which configuration an archive_command names that plainly is a call of pgvigil's archive-push: what it
 * has behind -c. NULL where this cannot be told: without that, as the server's environment may have a
 * PGVIGIL_CONFIG; of scripts, and whatever the shell would do more with than take off quotes. The caller
 * frees it. */
char *hook_configuration(const char *archive_command);

/* The same for archive-get, called by `program`; repository and without (NULL-terminated) may be NULL.
 * The caller frees it. */
char *hook_restore_command(const char *program, const struct config *config, const char *repository,
                           const char *const *without);

#endif
