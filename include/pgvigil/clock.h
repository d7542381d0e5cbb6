/*
 * clock.h - moments and their texts
 *
 * A moment is an int64_t of microseconds since 1970-01-01 00:00 UTC (PostgreSQL's own resolution).
 * Text is ISO 8601 with zone. PostgreSQL counts from 2000-01-01 (src/include/datatype/timestamp.h).
 */
#ifndef PGVIGIL_CLOCK_H
#define PGVIGIL_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/error.h"

#define CLOCK_SECOND INT64_C(1000000)
#define CLOCK_POSTGRES_EPOCH (INT64_C(946684800) * CLOCK_SECOND)
#define CLOCK_TEXT_SIZE 40

int64_t clock_now(void);                /* microseconds since 1970 */
int64_t clock_monotonic(void);          /* microseconds; only differences mean something */
void clock_sleep(int64_t microseconds); /* a signal ends it early: look at process_interrupted */

/* "2026-11-20T02:00:00.123456Z"; the fraction is left out when it is zero. */
char *clock_format(int64_t moment, char text[CLOCK_TEXT_SIZE]);

/* The same in local time with offset, for people: "2026-11-20 03:00:00+01". */
char *clock_format_local(int64_t moment, char text[CLOCK_TEXT_SIZE]);

/* The same in whole seconds, upwards: a moment from which on something can be restored. */
char *clock_format_local_up(int64_t moment, char text[CLOCK_TEXT_SIZE]);

/*
 * Reads what a person or PostgreSQL writes: date and time separated by 'T' or blank, optional
 * seconds and up to 6 digits of fraction, zone as Z, +HH, +HHMM or +HH:MM, or an optional blank and
 * "UTC"; without zone it is local time. ERROR_USAGE with what was expected otherwise.
 */
bool clock_parse(const char *text, int64_t *moment, struct error *err);

/* Whole seconds to "20261120T020000Z" (16 characters and NUL), and back (strict; false if not). */
#define CLOCK_COMPACT_SIZE 17
char *clock_format_compact(int64_t moment, char text[CLOCK_COMPACT_SIZE]);
bool clock_parse_compact(const char *text, int64_t *moment);

#endif
