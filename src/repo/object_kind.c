/* object_kind.c - what objects of each kind have in common */
#include "repo/object_kind.h"

#include <stdlib.h>

#include "pgvigil/mem.h"

bool object_kind_is_wal(enum trailer_kind kind)
{
    return kind == TRAILER_WAL || kind == TRAILER_PARTIAL || kind == TRAILER_HISTORY ||
           kind == TRAILER_BACKUP_HISTORY;
}

enum store_use object_kind_use(enum trailer_kind kind)
{
    switch (kind) {
    case TRAILER_WAL:
    case TRAILER_PARTIAL:
        return STORE_WAL;
    case TRAILER_PACK:
    case TRAILER_MANIFEST:
        return STORE_DATA;
    default:
        return STORE_NOTE;
    }
}

char *object_kind_full_name(const struct repository *repository, const char *name,
                            enum trailer_kind kind)
{
    return kind == TRAILER_IDENTITY ? mem_strdup(name) : repository_object_name(repository, name);
}

void object_kind_name_digest(const struct repository *repository, const char *name,
                             enum trailer_kind kind, unsigned char digest[TRAILER_NAME_SIZE])
{
    char *stored = repository_stored_name(repository, name);

    trailer_name_digest(kind == TRAILER_IDENTITY ? 0 : repository->system_identifier, stored,
                        digest);
    free(stored);
}
