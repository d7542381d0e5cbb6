/*
 * absence.h - is it certain that a WAL file does not exist?
 *
 * "No such key" is not enough for PostgreSQL to end recovery: the file may have been lost. It is
 * absent for sure only if nothing that exists needs it.
 */
/* layer: job */
#ifndef PGVIGIL_JOB_ABSENCE_H
#define PGVIGIL_JOB_ABSENCE_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/repository.h"
#include "pgvigil/wal.h"

struct absence {
    const char *file; /* of this name */
    struct wal_name name;
    uint32_t segment_size;
    struct repository *
        *repositories; /* all that were asked and answered that there is no such file */
    size_t count;
};

/*
 * True: certain. False, with what speaks against it or could not be found out: none of them has
 * any WAL of this cluster; a later segment of the timeline is there, or a timeline that left it
 * behind the end of that segment; of a history file, segments of its timeline are there.
 */
bool absence_prove(const struct absence *absence, struct error *err);

#endif
