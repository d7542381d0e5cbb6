/*
 * identity.h - pgvigil.json, which says what a repository is, and the pin, which remembers it here
 *
 * pgvigil.json is the one object at the root of a repository: JSON text, then a trailer. Every
 * later format keeps it readable for older versions, so that they can say what is the matter.
 *
 * The pin is the file <state_dir>/repository/<name> with the id that the repository of that name
 * had when this host first saw it, and behind it "exclusive yes" or "exclusive no" once it was found
 * out whether its store refuses to overwrite; and "encrypted" where it is.
 */
/* layer: repo */
#ifndef PGVIGIL_REPO_IDENTITY_H
#define PGVIGIL_REPO_IDENTITY_H

#include "pgvigil/config.h"
#include "pgvigil/repository.h"

/* Reads pgvigil.json into repository->id and ->encrypted. ERROR_NOT_FOUND when the place has none, ERROR_CONFIG for
 * a newer format, ERROR_INTEGRITY when it is damaged. */
bool identity_read(struct repository *repository, struct error *err);

/* Makes pgvigil.json with a new id, which is not repository->id yet: who came first won. */
bool identity_write(struct repository *repository, enum store_outcome *outcome, struct error *err);

/* pin->known is false when nothing was pinned under this name. */
bool identity_read_pin(const struct config *config, const char *name, struct repository_pin *pin,
                       struct error *err);

/* Durably. */
bool identity_write_pin(const struct config *config, const char *name,
                        const struct repository_pin *pin, struct error *err);

/* The pin's file, for messages. The caller frees it. */
char *identity_pin_path(const struct config *config, const char *name);

#endif
