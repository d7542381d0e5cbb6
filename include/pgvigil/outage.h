/*
 * outage.h - which repository was found out of reach a moment ago
 *
 * <state_dir>/down/<repository>, whose time of modification is when; in it two lines, why and what to
 * do. It only saves time: for a minute those who are in a hurry (pushes, gets) ask others first, and until
 * it has answered nobody waits long for it where there are others. Nothing hangs on it, and nothing fails
 * where it cannot be kept.
 */
#ifndef PGVIGIL_OUTAGE_H
#define PGVIGIL_OUTAGE_H

#include <stdbool.h>

#include "pgvigil/config.h"
#include "pgvigil/error.h"
#include "pgvigil/repository.h"

void outage_note(const struct config *config, const char *repository, const struct error *why);
void outage_end(const struct config *config, const char *repository);
bool outage_is_recent(const struct config *config, const char *repository);

/* By when a repository must have answered for the first time: as said (0: as it is configured), but sooner where
 * others are there and nobody has seen this one answer since it was noted. */
int64_t outage_deadline(const struct config *config, const char *repository, int64_t deadline);

/* Opens a repository with this deadline; afterwards it may take the time that is configured. */
bool outage_open(const struct config *config, const struct config_repository *which,
                 struct repository **repository, struct error *err);

/* Sets err to why a repository is not asked, as it was noted; returns false. */
bool outage_error(const struct config *config, const char *repository, struct error *err);

#endif
