/*
 * syscalls.h - sees, and makes fail, what decides over durability
 *
 * syscalls.c defines fsync and renameat2 for the test program, in place of the C library's; they
 * pass everything on unless told otherwise here. One test at a time, single-threaded.
 */
#ifndef PGVIGIL_TESTS_SYSCALLS_H
#define PGVIGIL_TESTS_SYSCALLS_H

#include <stddef.h>

enum syscalls_call { SYSCALLS_FSYNC, SYSCALLS_RENAME };

/* From now on the given call fails with that errno after `after` more successes; 0: works again. */
void syscalls_fail(enum syscalls_call call, int error_number, int after);

/* From now on successful calls are noted, as text: "fsync <path>\n", "rename <path>\n" (the new
 * one), paths relative to root. */
void syscalls_record(const char *root);
/* What was noted since; ends the recording. Freed by the caller. */
char *syscalls_take(void);

#endif
