/*
 * restore_config.h - what makes a restored directory recover to its target
 *
 * backup_label and tablespace_map, recovery.signal, settings in postgresql.auto.conf, and, where the
 * configuration lay outside the data directory, a postgresql.conf that makes it start.
 */
#ifndef PGVIGIL_RESTORE_CONFIG_H
#define PGVIGIL_RESTORE_CONFIG_H

#include "job/restore_manifest.h"
#include "job/restore_target.h"
#include "pgvigil/config.h"

struct restore_config {
    const struct config *config;
    const struct restore_request *request;
    const struct restore_target_choice *choice;
    const struct restore_place *place;
    const struct restore_plan *plan;
    const struct manifest_meta *meta;
    struct restore_tree *tree;
};

/* Writes all that, when the blocks are in place. `written` tells what belongs in backup_manifest. */
bool restore_config_write(const struct restore_config *restore,
                          struct restore_manifest_files *written, struct error *err);

/* Does the restored cluster start with archiving off? */
bool restore_config_archiving_off(const struct restore_config *restore);

/* The text of postgresql.auto.conf: `old` with what would disturb made comments, and the settings. */
void restore_config_settings(const struct restore_config *restore, const char *program,
                             const char *old, struct buffer *text);

/* tablespace_map with the places of this restore. ERROR_INTEGRITY when it is malformed or names a
 * tablespace that the backup does not have. */
bool restore_config_map(const struct restore_place *place, const char *old, struct buffer *text,
                        struct error *err);

#endif
