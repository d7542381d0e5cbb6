/* library.c - shared libraries that are loaded when they are first needed */
#include "pgvigil/library.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

static bool library_find(const struct library *library, void *handle)
{
    for (size_t i = 0; i < library->count; i++) {
        void *const found = dlsym(handle, library->functions[i].name);

        if (found == NULL)
            return false;
        memcpy(library->functions[i].pointer, &found, sizeof(found));
    }
    return true;
}

static bool library_load_once(struct library *library, struct error *err)
{
    void *handle = dlopen(library->file, RTLD_NOW | RTLD_LOCAL);

    if (handle != NULL && library_find(library, handle)) {
        library->loaded = handle;
        return true;
    }
    error_set(err, ERROR_SYSTEM, "could not load %s: %s", library->name, dlerror());
    if (handle != NULL)
        dlclose(handle);
    return error_hint(err, "install the library (Debian: apt-get install %s)", library->package);
}

bool library_load(struct library *library, struct error *err)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

    pthread_mutex_lock(&lock);
    bool ok = library->loaded != NULL || library_load_once(library, err);
    pthread_mutex_unlock(&lock);
    return ok;
}
