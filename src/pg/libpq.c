/* libpq.c - loading libpq */
#define LIBPQ_NAMES_PLAIN
#include "pg/libpq.h"

#include "pgvigil/library.h"

struct libpq libpq_loaded;

#define LIBPQ_ENTRY(function) LIBRARY_ENTRY(libpq_loaded, function)

static const struct library_function functions[] = {LIBPQ_FUNCTIONS(LIBPQ_ENTRY)};

static struct library library = {
    .file = "libpq.so.5", /* of every PostgreSQL since 8.3 */
    .name = "libpq, which talks to the server",
    .package = "libpq5",
    .functions = functions,
    .count = sizeof(functions) / sizeof(functions[0]),
};

bool libpq_load(struct error *err)
{
    return library_load(&library, err);
}
