/*
 * expire_debts.h - debts that nobody can pay any more
 *
 * What a repository is owed may expire in all that have it before it can be paid. Then the note of it
 * goes. What is missing everywhere without having expired stays noted: that is a loss.
 */
#ifndef PGVIGIL_JOB_EXPIRE_DEBTS_H
#define PGVIGIL_JOB_EXPIRE_DEBTS_H

#include "pgvigil/config.h"
#include "pgvigil/error.h"

/* Does nothing where a repository cannot be reached: it might have what is owed. */
bool expire_debts_forget(const struct config *config, struct error *err);

#endif
