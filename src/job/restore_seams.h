/*
 * restore_seams.h - WAL of the timelines that recovery leaves on its way
 *
 * Of the segment in which a timeline forks recovery takes the newer timeline's file alone. But where a
 * transaction was prepared in it and is still open at the fork, PostgreSQL, when it replays the new timeline's
 * first record, reads what was prepared from the file of the old one (xlogutils.c, read_local_xlog_page_guts,
 * by the timeline replayed last), and ends for good if that is not there: "requested WAL segment ... has already
 * been removed". So a restore puts it into pg_wal.
 *
 * It is made from the new timeline's segment, which is a copy of the old one up to the fork, and is zeros from
 * there on, so that nothing the old timeline went on with can ever be replayed from it.
 */
#ifndef PGVIGIL_RESTORE_SEAMS_H
#define PGVIGIL_RESTORE_SEAMS_H

#include "job/restore_tree.h"
#include "pgvigil/repository.h"
#include "pgvigil/wal.h"
#include "pgvigil/wal_scan.h"

/* A timeline that the path leaves in the middle of a segment. */
struct restore_seam {
    char file[WAL_NAME_SIZE]; /* its segment */
    char from[WAL_NAME_SIZE]; /* the one that recovery takes there */
    uint32_t bytes;           /* that both share */
};

struct restore_seams {
    struct restore_seam *seams;
    size_t count;
    uint32_t segment_size;
    uint64_t read_to; /* recovery gets at least so far, for all that is known */
};

/* Those of the scan's timeline behind `from_lsn`, in segments before `missing`, the first one that the archive does
 * not have. */
void restore_seams_find(const struct wal_scan *scan, uint64_t from_lsn, uint64_t missing,
                        struct restore_seams *seams);
void restore_seams_free(struct restore_seams *seams);

/*
 * Puts them into pg_wal, which may be a symbolic link, durably, and with a note in archive_status that keeps the
 * server from archiving them. One that no repository can give is only warned about: few recoveries read it.
 */
bool restore_seams_put(const struct restore_seams *seams, struct repository *repository,
                       struct restore_tree *tree, struct error *err);

/* Was this segment put there by a restore? Then it is no WAL that an archive could lack. */
bool restore_seams_made(const char *wal, const char *segment);

#endif
