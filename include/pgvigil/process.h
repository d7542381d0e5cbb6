/*
 * process.h - what concerns the process as a whole
 */
#ifndef PGVIGIL_PROCESS_H
#define PGVIGIL_PROCESS_H

#include <sys/types.h>

#include "pgvigil/error.h"

/* SIGINT and SIGTERM set a flag instead of killing; a second one kills. SIGPIPE is ignored. */
void process_catch_signals(void);
bool process_interrupted(void);
bool process_check(struct error *err); /* ERROR_CANCELLED naming the signal once interrupted */

/*
 * As root: become the owner of `path` for good (groups, gid, uid), so that nothing made from here
 * on belongs to root. Not root, or path owned by root: no change. ERROR_NOT_FOUND if path is
 * absent.
 */
bool process_become_owner(const char *path, struct error *err);

/* Of a file that we may not read: adds to the error whose it is and who we are, and the hint that mends
 * it, which takes it from nobody but root. Anything else stays as it is. Returns false. */
bool process_tell_owner(const char *path, struct error *err);
/* The hint that makes a file or directory that is there ours; returns false. */
bool process_hint_owner(const char *path, struct error *err);
/* The hint that lets us read a file that others own, as `init` leaves a configuration; returns false. */
bool process_hint_group(const char *path, struct error *err);
/* The same for whoever may be the wrong user: where a group may read it already, it says so. */
bool process_hint_reader(const char *path, struct error *err);
/* The hint for a directory that only root can make, or make ours, or that is another user's; returns false. */
bool process_hint_directory(const char *path, struct error *err);

/* One word for the shell, in quotes, as hints have it. The caller frees it. */
char *process_quote(const char *word);
/* The same without quotes where it can do without, so that commands read well in the usual case. */
char *process_word(const char *word);

/* How the user calls this program, for hints that name a command of it ("`%s list` shows ..."): with -c if
 * a configuration was named that way. main sets it, once and before there are threads; a path is made
 * absolute, so that the command may be run anywhere. */
const char *process_command(void);
void process_set_configuration(const char *name);

/* Absolute path of the running program. Caller frees. */
bool process_executable(char **path, struct error *err);

const char *process_user_name(void); /* of the effective user; static */
const char *process_host_name(void); /* static, never NULL */
int process_processors(void);        /* processors this process may use, at least 1 */

#endif
