/* libpq.c - loading libpq */
#define LIBPQ_NAMES_PLAIN
#include "pg/libpq.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#define LIBRARY "libpq.so.5" /* of every PostgreSQL since 8.3 */

struct libpq libpq_loaded;

/* Where each function's pointer goes. */
static const struct {
    const char *name;
    size_t offset;
} functions[] = {
#define LIBPQ_ENTRY(function) {#function, offsetof(struct libpq, function)},
    LIBPQ_FUNCTIONS(LIBPQ_ENTRY)};

static bool find_functions(void *library)
{
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        void *const found = dlsym(library, functions[i].name);

        if (found == NULL)
            return false;
        memcpy((char *)&libpq_loaded + functions[i].offset, &found, sizeof found);
    }
    return true;
}

bool libpq_load(struct error *err)
{
    static bool done;
    void *library = done ? NULL : dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL); /* stays */

    done = done || (library != NULL && find_functions(library));
    if (done)
        return true;
    error_set(err, ERROR_SYSTEM, "could not load libpq, which talks to the server: %s", dlerror());
    if (library != NULL)
        dlclose(library);
    return error_hint(err, "install PostgreSQL's client library (Debian: apt-get install libpq5)");
}
