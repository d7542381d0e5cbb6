/*
 * verify_owed.h - what a repository lacks only until a debt to it is paid, as this host noted it
 *
 * See debt.h. Debts are paid and noted all the time: to be sure that what is missing in a listing is
 * owed, they are read before it, and again behind it.
 */
#ifndef PGVIGIL_VERIFY_OWED_H
#define PGVIGIL_VERIFY_OWED_H

#include "pgvigil/repository.h"

/* WAL segments and histories: names of objects, ascending; perhaps the same one twice. */
struct verify_owed {
    char **objects;
    size_t count, capacity;
};

/* Adds what the repository is owed of the cluster that is selected: nothing, where it is the only one. */
bool verify_owed_read(struct verify_owed *owed, const struct repository *repository,
                      struct error *err);
void verify_owed_free(struct verify_owed *owed);

bool verify_owed_has(const struct verify_owed *owed, const char *object);

/* The first behind this name; NULL if there is none. */
const char *verify_owed_after(const struct verify_owed *owed, const char *object);

#endif
