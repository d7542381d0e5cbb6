#include "scratch.h"

#include <stdio.h>
#include <stdlib.h>

#include "pgvigil/files.h"
#include "pgvigil/mem.h"

char *scratch_make(void)
{
    const char *parent = getenv("TMPDIR");
    char *path = mem_printf("%s/pgvigil-unit-XXXXXX", parent && parent[0] == '/' ? parent : "/tmp");

    if (!mkdtemp(path)) {
        perror(path);
        abort();
    }
    return path;
}

void scratch_remove(char *path)
{
    struct error err = ERROR_INIT;

    if (!files_remove_tree(path, &err)) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    free(path);
}
