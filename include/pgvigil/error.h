/*
 * error.h - errors are values
 *
 * A function that can fail returns bool and fills the caller's struct error: false means that
 * nothing but the error is to be used. Every setter returns false, so that
 * `return error_set(err, ...)` reads well. A message says what could not be done, to what, and why,
 * in PostgreSQL's style (lower case, no full stop); the hint says what to do about it. Whoever
 * receives an error returns it or logs it, never both. A struct error owns no memory.
 */
#ifndef PGVIGIL_ERROR_H
#define PGVIGIL_ERROR_H

#include <stdbool.h>
#include <stdint.h>

enum error_code {
    ERROR_NONE = 0,
    ERROR_NEGATIVE,  /* a clear "no": a check failed, a question was answered in the negative */
    ERROR_NOT_FOUND, /* the thing asked for is certainly absent */
    ERROR_EXISTS,    /* the name is taken, and names are never re-used */
    ERROR_USAGE,     /* wrong command line, or a request that cannot be fulfilled as it is put */
    ERROR_CONFIG,    /* wrong configuration */
    ERROR_SYSTEM,    /* the operating system refused */
    ERROR_STORE,     /* a repository cannot be reached or refuses */
    ERROR_DATABASE,  /* the PostgreSQL server cannot be reached or refuses */
    ERROR_TIMEOUT,   /* a deadline passed */
    ERROR_BUSY,      /* somebody else holds the lock */
    ERROR_CANCELLED, /* SIGTERM, SIGINT, or another worker's failure */
    ERROR_INTEGRITY  /* bytes are not what they should be */
};

struct error {
    enum error_code code;
    char message[1024];
    char detail[1024];
    char hint[512];
    bool transient;      /* the same may succeed when it is tried again */
    int64_t retry_after; /* microseconds the other side asked to wait until then; 0: it did not */
};

#define ERROR_INIT                                                                                 \
    {                                                                                              \
        .code = ERROR_NONE                                                                         \
    }

/* Fills err (clearing detail and hint) and returns false. */
bool error_set(struct error *err, enum error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same with ": " and the text of errno appended; the code is ERROR_SYSTEM. */
bool error_set_errno(struct error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Adds to an error that is already set; both return false. */
bool error_detail(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool error_hint(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Adds to the hint, if there is one: behind "; ", but to a question as a sentence of its own. */
bool error_hint_also(struct error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Puts "<text>: " before the message, for a caller that knows what was being attempted. */
bool error_context(struct error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Says that trying again may help; returns false. */
bool error_transient(struct error *err, int64_t retry_after);

void error_clear(struct error *err);

/* The process's exit code: 0, 1 clear no, 2 usage or configuration, 3 environment, 4 integrity. */
int error_exit_code(enum error_code code);

#endif
