/*
 * restore_target.h - which backup serves a target, along which timeline
 */
#ifndef PGVIGIL_RESTORE_TARGET_H
#define PGVIGIL_RESTORE_TARGET_H

#include "job/restore_seams.h"
#include "pgvigil/backup_info.h"
#include "pgvigil/repository.h"
#include "pgvigil/restore.h"
#include "pgvigil/wal.h"

/* How recovery is told its timeline: a number needs a history file in the archive. */
enum restore_target_follow { RESTORE_TARGET_NUMBER, RESTORE_TARGET_CURRENT };

struct restore_target_choice {
    struct backup_info *backup;
    struct repository *repository; /* the first that has it: the one asked, or a sibling */
    uint32_t timeline;
    enum restore_target_follow follow;
    bool gap; /* behind what recovery needs a segment may be missing, and later ones be there */
    char missing[WAL_NAME_SIZE]; /* the first segment that the archive does not have */
    struct restore_seams seams;
};

/*
 * Selects the system identifier in the repository and its siblings (the one that has the backup asked for,
 * else the one whose newest fitting backup is the newest of all), chooses timeline and backup among those
 * of all of them, and proves
 * with the archived WAL that recovery will get to the target. Without --target-timeline it is the
 * highest timeline on whose ancestry a backup lies: timelines get ever higher numbers, and each
 * promotion makes one, so that is where the cluster has been last. A target that cannot be reached is
 * ERROR_NEGATIVE, saying what can. Writes nothing.
 */
bool restore_target_choose(struct repository *repository, const struct restore_request *request,
                           int jobs, struct restore_target_choice *choice, struct error *err);
/* Also of a choice that failed. */
void restore_target_free(struct restore_target_choice *choice);

#define RESTORE_TARGET_TEXT_SIZE 160
/* "time 2026-11-20 03:00:00+01", "LSN 0/3000028", "transaction 741"... */
char *restore_target_text(const struct restore_request *request,
                          char text[RESTORE_TARGET_TEXT_SIZE]);

/* The earliest time of a transaction's end before which recovery stops. */
int64_t restore_target_beyond(const struct restore_request *request);

#endif
