/*
 * expire.h - what expire did or would do, and its forms of output
 */
#ifndef PGVIGIL_CMD_EXPIRE_H
#define PGVIGIL_CMD_EXPIRE_H

#include <jansson.h>

#include "pgvigil/buffer.h"
#include "pgvigil/expire.h"

/* "the window begins with it; last of day 2026-11-20" */
void cmd_expire_reasons(const struct expire_backup *backup, struct buffer *text);

/* All there is to say of a dry run in one repository, for people. */
void cmd_expire_text(const struct expire_result *result, struct buffer *out);
/* The same for programs; docs/FORMAT.md has the form. */
json_t *cmd_expire_json(const struct expire_result *result);

#endif
