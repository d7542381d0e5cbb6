/* state.c - a state directory for fuzz targets of what is stored in one */
#include "fuzz/state.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgvigil/files.h"
#include "pgvigil/map_cache.h"
#include "support/scratch.h"

static char *directory;

static void remove_it(void)
{
    scratch_remove(directory);
}

const char *fuzz_state(void)
{
    char *cache;

    if (directory != NULL)
        return directory;
    directory = scratch_make();
    atexit(remove_it);
    cache = files_join(directory, MAP_CACHE_DIRECTORY);
    if (mkdir(cache, 0700) != 0)
        abort();
    free(cache);
    return directory;
}
