/*
 * restore_text.h - what a restore did: for people, to the log; and as JSON, to stdout
 */
#ifndef PGVIGIL_CMD_RESTORE_TEXT_H
#define PGVIGIL_CMD_RESTORE_TEXT_H

#include "pgvigil/restore.h"

#define CMD_RESTORE_ACTIONS 3

extern const char *const cmd_restore_actions[CMD_RESTORE_ACTIONS]; /* as options name them */

/* Where it stops, how to start it, and what else there is to do. `took` in microseconds. */
void cmd_restore_text(const struct config *config, const struct restore_request *request,
                      const char *directory, const struct restore_result *result, int64_t took);
void cmd_restore_json(const struct restore_request *request, const char *directory,
                      const struct restore_result *result, int64_t took);

#endif
