/*
 * backup_worker.h - reading, checking, compressing and storing, by several threads
 */
#ifndef PGVIGIL_JOB_BACKUP_WORKER_H
#define PGVIGIL_JOB_BACKUP_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "job/backup_files.h"
#include "job/backup_takeover.h"
#include "pgvigil/pack.h"

/* A page whose checksum did not hold however often it was read. Whether it counts is known only
 * when the backup stops: a page changed between start and stop will be rewritten by replay. */
struct backup_suspect {
    struct backup_file *file;
    uint32_t block;
    uint64_t lsn;
};

struct backup_reading {
    const char *data_directory;
    int directory; /* descriptor of it */
    int level;
    struct backup_files *files;
    struct pack_set *packs;
    struct map_writer *maps;
    struct map_cache *cache; /* or NULL, where there is no base */
    struct backup_takeover *takeover;
    atomic_ullong changed;   /* bytes of blocks that were stored */
    atomic_size_t next_kept; /* files that may be kept, of which so many have been looked at */
    atomic_int at_work;      /* workers that may still read */

    pthread_mutex_t mutex; /* guards the suspects */
    struct backup_suspect *suspects;
    size_t suspect_count;
    size_t suspect_capacity;
};

/* Sorts out the files that have not changed, then reads all others with `jobs` threads; pg_control comes last. All packs but the maps' are stored
 * then. */
bool backup_worker_run(struct backup_reading *reading, int jobs, struct error *err);

#endif
