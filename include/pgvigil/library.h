/*
 * library.h - shared libraries that are loaded when they are first needed
 *
 * Starting a program maps and relocates all it is linked with, and what that is linked with in turn:
 * for libpq and libcurl some 10 ms, which every archive-push would pay whether it talks to a server
 * or not. Such a library's header is included as usual; its functions are called through a table:
 *
 *     #define FUNCTIONS(F) F(curl_easy_init) F(curl_easy_cleanup)
 *     static struct { FUNCTIONS(LIBRARY_MEMBER) } curl;
 *     #define ENTRY(function) LIBRARY_ENTRY(curl, function)
 *     static const struct library_function functions[] = {FUNCTIONS(ENTRY)};
 *
 * Packagers must name these libraries as dependencies themselves.
 */
#ifndef PGVIGIL_LIBRARY_H
#define PGVIGIL_LIBRARY_H

#include <stddef.h>

#include "pgvigil/error.h"

#define LIBRARY_MEMBER(function) __typeof__(&function) function;
#define LIBRARY_ENTRY(table, function) {#function, &(table).function},

struct library_function {
    const char *name;
    void *pointer; /* the address of the table's pointer */
};

struct library {
    const char *file;    /* "libpq.so.5" */
    const char *name;    /* "libpq, which talks to the server" */
    const char *package; /* Debian's */
    const struct library_function *functions;
    size_t count;
    void *loaded; /* NULL at first */
};

/* Fills the table; a second call does nothing. Safe among threads. ERROR_SYSTEM when there is no
 * such library, or not all of it. It stays loaded. */
bool library_load(struct library *library, struct error *err);

#endif
