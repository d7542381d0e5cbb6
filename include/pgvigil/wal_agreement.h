/*
 * wal_agreement.h - is what lies in several places the WAL of one history?
 *
 * Two servers that believe to be the same one (both promoted, or one a clone) write different WAL under
 * the same names. A repository takes but one of them, yet each server may have reached another repository.
 * Recovery must not go on from the one's WAL to the other's.
 */
#ifndef PGVIGIL_WAL_AGREEMENT_H
#define PGVIGIL_WAL_AGREEMENT_H

#include "pgvigil/history.h"
#include "pgvigil/wal_union.h"

/* Behind what is not done, in a hint. */
#define WAL_AGREEMENT_CURE                                                                         \
    "as that would make one WAL of two: find out which of the two the database needs, and move "   \
    "the other's WAL files away, from that one on, and its later backups (backup/ID)"

/*
 * Compares, of what recovery along the history reads between two LSNs, the newest segment of each timeline
 * that two repositories have, and its history file: WAL that went different ways stays different.
 * ERROR_INTEGRITY names both repositories and the file. What cannot be read proves nothing.
 */
bool wal_agreement_check(const struct wal_union *all, const struct history *history,
                         uint64_t from_lsn, uint64_t to_lsn, struct error *err);

/* Is this segment, or history file, the same in both? Errors and doubts as above. */
bool wal_agreement_check_file(struct repository *one, struct repository *other, const char *file,
                              struct error *err);

/* `other` has this segment, `one` does not (yet): is it of the server whose WAL `one` has before it? Compares
 * the segment before. Of other files there is nothing to be said. */
bool wal_agreement_check_seam(struct repository *one, struct repository *other,
                              const struct wal_name *segment, uint32_t segment_size,
                              struct error *err);

/* Is the segment in the repository another one than the complete one at `path`? Doubts as above; a standby's may
 * end in other bytes, behind a switch of segments, and still be the same. */
bool wal_agreement_is_other(struct repository *repository, const char *segment, const char *path,
                            bool *other, struct error *err);

#endif
