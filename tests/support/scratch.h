/*
 * scratch.h - a directory of a test's own
 */
#ifndef PGVIGIL_TESTS_SCRATCH_H
#define PGVIGIL_TESTS_SCRATCH_H

/* Makes one under $TMPDIR or /tmp; its absolute path, freed by scratch_remove with all that is in
 * the directory. */
char *scratch_make(void);
void scratch_remove(char *path);

#endif
