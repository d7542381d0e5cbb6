/*
 * restore_manifest.h - the server's own backup_manifest, for pg_verifybackup
 *
 * Version 1 up to PostgreSQL 16, version 2 from 17 on (src/backend/backup/backup_manifest.c and
 * src/common/parse_manifest.c).
 */
#ifndef PGVIGIL_RESTORE_MANIFEST_H
#define PGVIGIL_RESTORE_MANIFEST_H

#include "job/restore_plan.h"
#include "pgvigil/backup_info.h"

/* Files that the restore wrote besides those of the plan. */
struct restore_manifest_file {
    const char *path;
    uint64_t size;
    uint32_t crc32c;
};

#define RESTORE_MANIFEST_FILES_MAXIMUM 8
struct restore_manifest_files {
    struct restore_manifest_file files[RESTORE_MANIFEST_FILES_MAXIMUM];
    size_t count;
};

bool restore_manifest_write(struct restore_tree *tree, const struct restore_plan *plan,
                            const struct restore_manifest_files *others,
                            const struct backup_info *backup, struct error *err);

#endif
