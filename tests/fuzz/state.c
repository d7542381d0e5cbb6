/* state.c - a state directory for fuzz targets of what is stored in one */
#include "fuzz/state.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgvigil/files.h"
#include "pgvigil/map_cache.h"

static char directory[] = "/dev/shm/pgvigil-fuzz.XXXXXX";

static void remove_it(void)
{
    struct error ignored = ERROR_INIT;

    files_remove_tree(directory, &ignored);
}

const char *fuzz_state(void)
{
    static bool made;
    char *cache;

    if (made)
        return directory;
    if (mkdtemp(directory) == NULL)
        abort();
    made = true;
    atexit(remove_it);
    cache = files_join(directory, MAP_CACHE_DIRECTORY);
    if (mkdir(cache, 0700) != 0)
        abort();
    free(cache);
    return directory;
}
