/*
 * backup_commit.h - the end of a backup: WAL, manifest, refs, check, backup.json
 */
#ifndef PGVIGIL_JOB_BACKUP_COMMIT_H
#define PGVIGIL_JOB_BACKUP_COMMIT_H

#include "job/backup_files.h"
#include "pgvigil/backup_info.h"
#include "pgvigil/connection.h"
#include "pgvigil/repository_set.h"
#include "pgvigil/run.h"

/*
 * Stores manifest and refs into all at once. Then, in each repository by itself: gets from the others
 * what it lacks, proves that all the backup needs is there, and commits. Where that fails the backup
 * is not listed; it is an error when it is listed nowhere.
 */
struct backup_commit {
    struct repository_set *set;
    struct run *run;
    const char *state_dir;
    const struct backup_files *files;
    const struct connection_backup_stop *stop;
    const struct refs *refs;
    const char *data_directory; /* of a server that writes its own WAL, or NULL: arrival.h */
    struct backup_info *info;   /* digests and sizes of what is stored here are filled in */
};
/* Waits until every WAL segment from start to stop is in one of the repositories, at most `timeout`
 * each; one that cannot be asked meanwhile is left out. */
bool backup_commit_wait(const struct backup_commit *commit, struct connection *connection,
                        int64_t timeout, struct error *err);

bool backup_commit(const struct backup_commit *commit, struct error *err);

#endif
