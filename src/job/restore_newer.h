/*
 * restore_newer.h - does another timeline go on for longer than the one that is restored to its end?
 *
 * Timelines get ever higher numbers, so the highest is where the cluster has been last. But a trial that was
 * taken over, or a clone, may have left one behind that nobody has written to since, while the server goes on
 * on a lower one.
 */
#ifndef PGVIGIL_RESTORE_NEWER_H
#define PGVIGIL_RESTORE_NEWER_H

#include "job/restore_target.h"

/* Warns where that is so, of the one that goes on for longest, and where it cannot be told; only where the end
 * of the WAL is restored and no timeline was asked for. */
void restore_newer_warn(struct repository *repository, const struct restore_request *request,
                        const struct restore_target_choice *choice, int jobs);

#endif
