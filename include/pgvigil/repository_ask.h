/*
 * repository_ask.h - asking a repository and its siblings
 *
 * The first repository of a list by ->sibling is the one that was chosen, the others help out.
 */
#ifndef PGVIGIL_REPOSITORY_ASK_H
#define PGVIGIL_REPOSITORY_ASK_H

#include "pgvigil/repository.h"

typedef bool (*repository_fn)(struct repository *repository, void *context, struct error *err);

/*
 * Asks this one by fn and, where it fails for a reason of its own (missing, damaged, out of reach), its
 * siblings one after the other; a warning tells when one of them had to help out. Who was out of reach
 * is asked last from then on. When all fail the error of the first that was asked stands, and its detail
 * has what the others said.
 */
bool repository_ask(struct repository *repository, repository_fn fn, void *context,
                    struct error *err);

/* Asks all of them, for what they have between them of `what` ("WAL"). A sibling that does not answer, or
 * whose part cannot be told, is left out with a warning; of the first one that is an error. */
bool repository_ask_each(struct repository *repository, const char *what, repository_fn fn,
                         void *context, struct error *err);

/* For whoever asks them otherwise: the next one that is within reach, or NULL. */
struct repository *repository_ask_next(const struct repository *repository);
/* That warning. False, with *why as the error, if it failed because we are told to stop. */
bool repository_ask_leave_out(struct repository *sibling, const char *what, struct error *why,
                              struct error *err);

/* `repository "a"`, or `repositories "a" and "b"`: those within reach. The caller frees it. */
char *repository_ask_names(const struct repository *repository);

#endif
