/* seam.c - does a WAL segment go on from the one that recovery was given before it? */
#include "job/seam.h"

#include <stdlib.h>
#include <string.h>

#include "pgvigil/mem.h"
#include "pgvigil/wal_agreement.h"

static bool refuse(const struct repository *repository, const char *segment, const char *before,
                   struct error *err)
{
    error_set(
        err, ERROR_INTEGRITY,
        "WAL segment \"%s\" in repository \"%s\" does not go on from what was recovered so far",
        segment, repository->name);
    error_detail(err,
                 "the \"%s\" before it has another content in this repository than in pg_wal: two "
                 "servers have archived under the same names",
                 before);
    return error_hint(err,
                      "restore again, with --without for the repository that has the WAL of the "
                      "wrong server");
}

bool seam_check(struct repository *repository, const struct wal_name *segment,
                uint32_t segment_size, const char *path, struct error *err)
{
    const uint64_t number = wal_segment_number(segment, segment_size);
    const char *slash = strrchr(path, '/');
    char file[WAL_NAME_SIZE], before[WAL_NAME_SIZE];

    if (number == 0)
        return true;
    wal_segment_name(segment->timeline, number, segment_size, file);
    wal_segment_name(segment->timeline, number - 1, segment_size, before);
    char *there = mem_printf("%.*s%s", slash ? (int)(slash + 1 - path) : 0, path, before);
    bool ok =
        !wal_agreement_is_other(repository, before, there) || refuse(repository, file, before, err);
    free(there);
    return ok;
}
