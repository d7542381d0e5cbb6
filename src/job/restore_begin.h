/*
 * restore_begin.h - is the archived WAL that of the backup's own server?
 */
#ifndef PGVIGIL_RESTORE_BEGIN_H
#define PGVIGIL_RESTORE_BEGIN_H

#include "pgvigil/backup_info.h"
#include "pgvigil/manifest.h"

/*
 * Recovery begins with the checkpoint that backup_label names. Where another server has archived under the
 * names of the WAL that the backup needs (a clone, or this one once it was set back to an earlier state),
 * there is none in that place: ERROR_INTEGRITY. What cannot be told is as it should be; a segment that is damaged is
 * warned of.
 */
bool restore_begin_check(struct repository *repository, const struct backup_info *backup,
                         const struct manifest_meta *meta, struct error *err);

#endif
