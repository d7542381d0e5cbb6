/*
 * restore.h - from a repository to a data directory at any moment
 */
#ifndef PGVIGIL_RESTORE_H
#define PGVIGIL_RESTORE_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/config.h"
#include "pgvigil/error.h"
#include "pgvigil/wal.h"

enum restore_target {
    RESTORE_LATEST, /* the end of the archived WAL */
    RESTORE_IMMEDIATE,
    RESTORE_TIME,
    RESTORE_LSN,
    RESTORE_XID,
    RESTORE_NAME
};

enum restore_action { RESTORE_PROMOTE, RESTORE_PAUSE, RESTORE_SHUTDOWN };
enum restore_bound { RESTORE_INCLUSIVE, RESTORE_EXCLUSIVE };
/* RESTORE_DELTA takes an existing directory of this cluster and fetches only what differs. */
enum restore_mode { RESTORE_ANEW, RESTORE_DELTA };
enum restore_archiving { RESTORE_ARCHIVING_BY_PLACE, RESTORE_TAKE_OVER };

struct restore_mapping {
    const char *from; /* a tablespace's location or OID in the backup */
    const char *to;   /* absolute */
};

struct restore_request {
    const char *to; /* the directory */
    enum restore_mode mode;
    int64_t backup; /* run, or 0: the right one is chosen */
    enum restore_target target;
    int64_t time;     /* RESTORE_TIME */
    uint64_t lsn;     /* RESTORE_LSN */
    uint32_t xid;     /* RESTORE_XID */
    const char *name; /* RESTORE_NAME */
    enum restore_bound bound;
    enum restore_action action;
    uint32_t timeline; /* 0: the latest */
    const struct restore_mapping *mappings;
    size_t mapping_count;
    enum restore_archiving archiving;
    const char *repository;     /* --repository, or NULL */
    const char *const *without; /* --without, NULL-terminated, or NULL */
    int jobs;                   /* 0: as configured for backup */
};

struct restore_result {
    int64_t backup;      /* run */
    int major;           /* of the server */
    uint32_t timeline;   /* recovery's target timeline */
    uint64_t bytes;      /* restored and verified, kept ones among them */
    uint64_t kept;       /* of these: they were in the directory already */
    char *wal_aside;     /* what was in pg_wal, or NULL */
    char *unarchived;    /* the file put aside with which WAL goes on behind the archive, or NULL */
    char *configuration; /* where configuration files from outside were put, or NULL */
    char missing[WAL_NAME_SIZE]; /* the first segment that the archive did not have */
    bool archiving_off;          /* the restored cluster starts with archiving off */
    bool passphrase; /* private keys were opened by that of the environment, as recovery has to */
};

/*
 * Chooses the backup, proves that the target can be reached (before anything is written), restores,
 * verifies every block, and leaves a directory that starts into recovery. On failure nothing
 * startable is left: global/pg_control comes last.
 */
bool restore_run(const struct config *config, const struct restore_request *request,
                 struct restore_result *result, struct error *err);
void restore_free_result(struct restore_result *result);

#endif
