/*
 * check.h - the whole way, end to end
 *
 * Every step that can be tried is tried, also after an earlier one failed, so that a person sees
 * all that is wrong at once. Repositories that answer are no longer taken for down, and get what they
 * are owed while WAL is waited for.
 */
#ifndef PGVIGIL_CHECK_H
#define PGVIGIL_CHECK_H

#include "pgvigil/config.h"
#include "pgvigil/error.h"

enum check_outcome { CHECK_PASSED, CHECK_WARNING, CHECK_FAILED, CHECK_SKIPPED };

struct check_step {
    const char *title; /* "WAL reaches repository \"local\"" */
    enum check_outcome outcome;
    const char *detail;        /* what was found, or why it was skipped; "" */
    const struct error *error; /* of a failed step, and of a warning: cause and cure */
};

typedef void (*check_report_fn)(const struct check_step *step, void *context);

/* Returns the number of failed steps. */
int check_run(const struct config *config, check_report_fn report, void *context);

#endif
