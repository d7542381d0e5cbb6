/*
 * survey_wal.h - the WAL's part of a survey: timelines and gaps
 */
#ifndef PGVIGIL_SURVEY_WAL_H
#define PGVIGIL_SURVEY_WAL_H

#include "pgvigil/survey.h"

/* In survey.c: adds to the survey's damage. */
void survey_note_damage(struct survey *survey, const struct error *err);

/* Fills timelines from survey->wal and the history files; needs survey->catalog. */
bool survey_wal_read(struct repository *repository, struct survey *survey, struct error *err);

#endif
