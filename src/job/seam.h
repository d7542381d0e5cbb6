/*
 * seam.h - does a WAL segment go on from the one that recovery was given before it?
 *
 * Where two servers have archived under the same names, each into another repository, recovery must not
 * go on from the WAL of one to that of the other: PostgreSQL might not even notice.
 */
/* layer: job */
#ifndef PGVIGIL_JOB_SEAM_H
#define PGVIGIL_JOB_SEAM_H

#include "pgvigil/repository.h"
#include "pgvigil/wal.h"

/*
 * PostgreSQL keeps each segment that it was given in pg_wal, where `path` lies, under the segment's own
 * name. ERROR_INTEGRITY when the repository, which has delivered `segment`, has another content under the
 * name of the one before. Where either of them is not there to be compared, nothing speaks against it.
 */
bool seam_check(struct repository *repository, const struct wal_name *segment,
                uint32_t segment_size, const char *path, struct error *err);

#endif
