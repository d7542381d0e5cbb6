/*
 * apart.h - what pgvigil writes to, and data directories, lie apart
 *
 * A repository in the data directory is lost with it, grows by itself with every backup, and is taken for
 * files of the cluster by a restore onto that directory.
 */
#ifndef PGVIGIL_JOB_APART_H
#define PGVIGIL_JOB_APART_H

#include <stdbool.h>

#include "pgvigil/config.h"
#include "pgvigil/error.h"

/* Both canonical. */
bool apart_lies_in(const char *inner, const char *outer);
/* Neither a repository nor the state directory is, or would be made, in it: else ERROR_CONFIG. */
bool apart_from_data(const struct config *config, const char *data_directory, struct error *err);
/* Neither a new data directory nor a tablespace, `path`, lies in what others write to: else ERROR_USAGE. */
bool apart_from_restore(const struct config *config, const char *path, struct error *err);

#endif
