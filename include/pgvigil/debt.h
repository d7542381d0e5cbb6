/*
 * debt.h - WAL files that a repository is owed
 *
 * A push that could not reach a sync repository, but as many others as archive.require asks for, notes
 * durably what that one lacks: <state_dir>/debt/<repository>/<number of the cluster>-<object's name
 * with '+' for '/'>, an empty file. Whoever comes next (push, backup, copy, check) pays: the object is
 * copied from a repository that has it. If the notes are lost, copy finds out by comparing.
 */
#ifndef PGVIGIL_DEBT_H
#define PGVIGIL_DEBT_H

#include <stddef.h>

#include "pgvigil/repository_set.h"
#include "pgvigil/wal_archive.h"

/* Durably. `object` is relative to the cluster. */
bool debt_note(const struct config *config, const char *repository, uint64_t system_identifier,
               const char *object, struct error *err);

/* How much this repository is owed. */
bool debt_count(const struct config *config, const char *repository, size_t *count,
                struct error *err);

/* Shows `fn` each object that a repository is owed of a cluster; with *forget it no longer is. */
typedef bool (*debt_review_fn)(const char *object, bool *forget, void *context, struct error *err);
bool debt_review(const struct config *config, const char *repository, uint64_t system_identifier,
                 debt_review_fn fn, void *context, struct error *err);

/* Pays what the open members of the set are owed, from each other, the oldest first, and tries up to `most`. What
 * cannot be paid stays, and keeps nothing else from being paid, unless another server has archived there under
 * that name (wal_agreement.h): then this member gets nothing behind it. err is that of the first one. */
bool debt_pay(struct repository_set *set, size_t most, size_t *paid, struct error *err);

/* Before a segment is stored in this member: ERROR_INTEGRITY if another server has archived there under the name
 * of the oldest that it is owed of the timeline, of the one before this, or of the timeline's history, by what the
 * other members have or lies beside this file. What cannot be told is not so. */
bool debt_check_parted(struct repository_set *set, size_t member, const struct wal_source *segment,
                       struct error *err);

#endif
