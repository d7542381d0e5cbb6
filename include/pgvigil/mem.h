/*
 * mem.h - small allocations that cannot fail
 *
 * mem_* never return NULL. When the system has no memory left they write one line to stderr and end
 * the process at once with the status set by mem_set_failure_status (archive-get needs one of its
 * own, as PostgreSQL takes most statuses for "no such segment"). Ending anywhere is safe: every
 * write of pgvigil is safe against a crash. Buffers of a megabyte and more go through
 * mem_try_alloc or buffer_try_reserve, whose failure is an ordinary error.
 */
#ifndef PGVIGIL_MEM_H
#define PGVIGIL_MEM_H

#include <stddef.h>

#include "pgvigil/error.h"

void mem_set_failure_status(int exit_status);

/* Ends the process like that, for want of something that a library could not get; `message` is what
 * is missing. */
_Noreturn void mem_give_up(const char *message);

void *mem_alloc(size_t size) __attribute__((malloc, returns_nonnull));
void *mem_calloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
void *mem_realloc(void *pointer, size_t size) __attribute__((returns_nonnull));
char *mem_strdup(const char *string) __attribute__((malloc, returns_nonnull));
char *mem_strndup(const char *string, size_t length) __attribute__((malloc, returns_nonnull));
char *mem_printf(const char *format, ...)
    __attribute__((malloc, returns_nonnull, format(printf, 1, 2)));

/* Makes room for one more element in a growing array of `count` elements of `size` bytes. */
void *mem_grow(void *array, size_t count, size_t *capacity, size_t size)
    __attribute__((returns_nonnull));

bool mem_try_alloc(void **pointer, size_t size, struct error *err);
/* The error when so many bytes were refused; returns false. */
bool mem_refused(size_t size, struct error *err);

#endif
