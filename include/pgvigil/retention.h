/*
 * retention.h - what is to be kept: a reckoning without any I/O
 *
 * Given the backups of a cluster in one repository, its timelines and the settings, judges each backup
 * and tells which WAL is needed. Rules, in words:
 *
 * - Of each timeline that lived within the window the newest sound backup that ended before the window,
 *   on it or on an ancestor before they parted, is kept, and all that came after it: so any moment of
 *   the window can be reached, on every timeline that went through it. All WAL from their starts on is
 *   kept, along every timeline that recovery from them may follow.
 * - The newest `minimum` backups are kept, and the newest one of each of the last days, weeks, months
 *   and years (UTC) that have one; and those with a keep note. They need the WAL from their start to
 *   their stop.
 * - A backup that a living run builds on or reads is kept as if it were in the window.
 * - A backup with damaged pages, without all its WAL, or known to be damaged is not sound: it takes nobody's place.
 * - One that may go, but is to be there for a while yet, needs the WAL from its start to its stop.
 *
 * Backups are in the order of timeline and stop LSN; a stop time that lies before that of an earlier
 * backup of the same descent counts as that one's, so a clock that went wrong does not expire anything.
 */
#ifndef PGVIGIL_RETENTION_H
#define PGVIGIL_RETENTION_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/backup_info.h"
#include "pgvigil/config.h"
#include "pgvigil/history.h"

enum retention_reason {
    RETENTION_BASE = 1 << 0,   /* the window begins with it */
    RETENTION_WINDOW = 1 << 1, /* it is in the window */
    RETENTION_MINIMUM = 1 << 2,
    RETENTION_DAILY = 1 << 3,
    RETENTION_WEEKLY = 1 << 4,
    RETENTION_MONTHLY = 1 << 5,
    RETENTION_YEARLY = 1 << 6,
    RETENTION_KEPT = 1 << 7, /* a keep note */
    RETENTION_HELD = 1 << 8  /* by a living run */
};
/* With one of these all WAL from its start on is needed. */
#define RETENTION_ONWARD (RETENTION_BASE | RETENTION_WINDOW | RETENTION_HELD)

struct retention_backup {
    const struct backup_info *info; /* borrowed */
    bool complete;                  /* all WAL from its start to its stop is there */
    bool damaged;                   /* as known_damage.h says */
    bool kept, held;
    unsigned reasons; /* result: of enum retention_reason; 0: it may go */
    bool lingers;     /* set by the caller after judging: it may go, but does not go now */
};

struct retention_timeline {
    uint32_t timeline;
    const struct history *history; /* borrowed; NULL: not known */
    int64_t newest_wal;            /* when its newest WAL was stored; 0: it has none */
    bool lived;                    /* result: within the window */
};

struct retention {
    const struct config_retention *settings; /* with a window */
    int64_t now;
    struct retention_backup *backups; /* by timeline, then stop LSN */
    size_t count;
    struct retention_timeline *timelines; /* ascending; all that have WAL or a backup */
    size_t timeline_count;
};

void retention_judge(struct retention *retention);

/* After it: is the WAL of a timeline from `from` up to `to`, one segment, needed by a backup that is
 * kept, or lingers? */
bool retention_needs_wal(const struct retention *retention, uint32_t timeline, uint64_t from,
                         uint64_t to);

#endif
