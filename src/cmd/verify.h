/*
 * verify.h - the two forms of what verify found
 */
#ifndef PGVIGIL_CMD_VERIFY_H
#define PGVIGIL_CMD_VERIFY_H

#include "pgvigil/buffer.h"
#include "pgvigil/verify.h"

/* Append everything. Times are local in the one, UTC in the other. */
void cmd_verify_text(const struct config *config, const struct verify_result *result,
                     struct buffer *out);
void cmd_verify_json(const struct config *config, const struct verify_request *request,
                     const struct verify_result *result, struct buffer *out);

/* May another repository have what is wrong in this one, or a part of it, for a repair? */
bool cmd_verify_may_have(const struct config *config, const struct verify_result *result,
                         const struct verify_repository *repository, uint64_t system_identifier,
                         const struct verify_finding *finding);

#endif
