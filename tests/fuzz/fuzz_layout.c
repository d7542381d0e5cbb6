/* fuzz_layout.c - any text as an object's name: what is taken for one of ours is built the same */
#include <stdlib.h>
#include <string.h>

#include "pgvigil/layout.h"
#include "pgvigil/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_wal(const char *name)
{
    char file[WAL_NAME_SIZE];
    struct wal_name parsed, again;

    if (!layout_parse_wal(name, file, &parsed))
        return;
    if (!store_name_valid(name) || wal_parse_name(file, &again) != parsed.kind ||
        again.timeline != parsed.timeline)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char again[LAYOUT_NAME_SIZE];
    struct layout_pack pack;
    struct layout_mark mark;
    struct layout_note note;
    int64_t run;
    char *name = malloc(size + 1);

    if (!name)
        return 0;
    memcpy(name, data, size);
    name[size] = '\0';
    check_wal(name);
    if (layout_parse_pack(name, &pack) && strcmp(layout_pack(&pack, again), name) != 0)
        abort();
    if (layout_parse_backup(name, &run) && strcmp(layout_backup(run, again), name) != 0)
        abort();
    if (layout_parse_note(name, &note) && !store_name_valid(name))
        abort();
    if (layout_parse_mark(name, &mark) && strcmp(layout_mark(&mark, again), name) != 0)
        abort();
    free(name);
    return 0;
}
