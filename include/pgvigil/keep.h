/*
 * keep.h - exempting a backup from expiry, in every repository that has it
 *
 * An expire that is under way may have looked before the note was there: it is waited for, and then
 * the backup is looked for again.
 */
#ifndef PGVIGIL_KEEP_H
#define PGVIGIL_KEEP_H

#include <stdint.h>

#include "pgvigil/config.h"
#include "pgvigil/error.h"
#include "pgvigil/marks.h"

enum keep_outcome { KEEP_ABSENT, KEEP_TURNED, KEEP_AS_IT_WAS, KEEP_FAILED };

struct keep_result {
    const struct config_repository *repository;
    enum keep_outcome outcome;
    struct error error; /* with KEEP_FAILED */
};
typedef void (*keep_report_fn)(const struct keep_result *result, void *context);

/* The backup that ended last, of all repositories: one that cannot be read might have a later one, and
 * is an error. ERROR_NOT_FOUND if there is none. */
bool keep_find_latest(const struct config *config, int64_t *backup, struct error *err);

/* note: MARKS_KEEP or MARKS_UNKEEP. ERROR_NOT_FOUND if no repository has the backup; otherwise the
 * first error of a repository, after all were tried. */
bool keep_run(const struct config *config, int64_t backup, enum marks_note note,
              keep_report_fn report, void *context, struct error *err);

#endif
