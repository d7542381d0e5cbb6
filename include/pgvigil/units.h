/*
 * units.h - sizes and durations, as people write and read them
 *
 * Sizes accept B, kB, MB, GB, TB (powers of 1024, as in PostgreSQL) and plain bytes; durations s,
 * min, h, d, w, and no bare numbers: who means 30 days must not get 30 seconds. Negative, fractional with no
 * unit, overflow and trailing text are errors (ERROR_CONFIG, without context: the caller knows where it stood).
 */
#ifndef PGVIGIL_UNITS_H
#define PGVIGIL_UNITS_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/error.h"

#define UNITS_TEXT_SIZE 32

bool units_parse_size(const char *text, uint64_t *bytes, struct error *err);
bool units_parse_duration(const char *text, int64_t *microseconds, struct error *err);
bool units_parse_integer(const char *text, long minimum, long maximum, long *value,
                         struct error *err);

char *units_format_size(uint64_t bytes, char text[UNITS_TEXT_SIZE]);           /* "1.4 GB" */
char *units_format_duration(int64_t microseconds, char text[UNITS_TEXT_SIZE]); /* "2 min 5 s" */

#endif
