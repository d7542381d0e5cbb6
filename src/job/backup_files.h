/*
 * backup_files.h - the files of one backup while they are read
 *
 * A file is read in chunks by whichever worker is free, so that one big file keeps all of them
 * busy. Each leaf of its map is placed when its frame of the map pack is written, which may be much
 * later and by another thread; the file's root is encoded by whoever accounts for the last
 * outstanding part. So memory holds leaves' places only of files that are being worked on.
 *
 * A file may shrink or vanish meanwhile. It then ends at the first chunk that came out short: what
 * lay behind will be redone by replay.
 */
#ifndef PGVIGIL_JOB_BACKUP_FILES_H
#define PGVIGIL_JOB_BACKUP_FILES_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "job/backup_base.h"
#include "pgvigil/manifest.h"
#include "pgvigil/map.h"
#include "pgvigil/scan.h"

#define BACKUP_LEAF_BYTES ((uint64_t)MAP_LEAF_BLOCKS * PACK_BLOCK)
#define BACKUP_CHUNK_LEAVES 8
#define BACKUP_CHUNK_BYTES (BACKUP_CHUNK_LEAVES * BACKUP_LEAF_BYTES)

enum backup_chunk_state { BACKUP_CHUNK_READ, BACKUP_CHUNK_VANISHED };

struct backup_chunk {
    uint64_t length;
    uint32_t crc32c;
    enum backup_chunk_state state;
};

/* The same file in the base. */
struct backup_file_base {
    atomic_bool known; /* it had this file, not empty, and its map can be read */
    bool unchanged;    /* by the strict rule: it need not be read */
    uint64_t size;
    uint32_t crc32c;
    struct map_place root;
};

struct backup_file {
    struct backup_files *files;
    const char *path; /* as in the manifest */
    enum manifest_kind kind;
    const char *link;
    mode_t mode;
    int64_t modified;
    uint32_t first_block;
    bool relation;
    bool pages;              /* its pages carry checksums to be verified */
    bool gone;               /* vanished: not in the backup */
    atomic_bool suspect;     /* pages were wrong: it is to be read again next time */
    struct scan_facts facts; /* before it was read */
    struct backup_file_base base;

    uint64_t planned; /* bytes when the directory was scanned */
    uint64_t size;    /* bytes in the backup */
    uint32_t crc32c;
    struct map_place root;

    /* while it is being read */
    struct backup_chunk *chunks;
    struct map_place *leaves;
    atomic_uint chunks_left;
    atomic_uint parts_left;  /* leaves not yet placed, and one for the reading itself */
    atomic_uint leaves_kept; /* so many lie where they lie in the base */
};

/* A piece of work for one worker. */
struct backup_piece {
    struct backup_file *file;
    uint32_t chunk;
};

struct backup_files {
    struct scan *scan;
    char **outside; /* absolute paths of configuration files */
    size_t outside_count;
    struct backup_file *files;
    size_t count;
    struct backup_file *control; /* global/pg_control, which no piece ever names */
    unsigned char secret[DIGEST_SECRET_SIZE];
    struct map_writer *maps;  /* borrowed */
    struct backup_base *base; /* borrowed */

    pthread_mutex_t mutex; /* guards the two below */
    size_t next_file;
    uint32_t next_chunk;
};

/* Takes scan over; base is borrowed and gives the secret. `outside` is text, one absolute path a line;
 * paths below data_directory and such that are no readable files are passed over, the latter with a
 * warning. */
bool backup_files_new(const char *data_directory, struct scan *scan, bool checksums,
                      const char *outside, struct backup_base *base, struct backup_files **files,
                      struct error *err);
void backup_files_free(struct backup_files *files);

/* The next piece; false when there is none left. */
bool backup_files_next(struct backup_files *files, struct backup_piece *piece);

/* The piece of global/pg_control, to be read when all others have been. */
struct backup_piece backup_files_control(struct backup_files *files);

/* A leaf that is as it was in the base, where it lies. */
bool backup_files_leaf_kept(struct backup_file *file, uint32_t number,
                            const struct map_place *place, struct error *err);

/* A file that is as it was in the base: each leaf is kept, or given to the map writer, in between. */
void backup_files_begin_kept(struct backup_file *file);
bool backup_files_end_kept(struct backup_file *file, struct error *err);

/* After the commit: for the next backup, in the local cache. The clock is that of before the files were
 * looked at, at info->start_time: a step since then counts. */
bool backup_files_remember(const struct backup_files *files, const struct backup_info *info,
                           const struct known_files_clock *clock, const char *state_dir,
                           struct error *err);

/* When all has been read: an unlogged relation whose init fork came to be meanwhile (an index is built
 * before it has one) is left out, or the end of recovery could not make it anew. */
void backup_files_drop_unlogged(struct backup_files *files, int directory);

/* A chunk has been read. */
bool backup_files_chunk_done(const struct backup_piece *piece, const struct backup_chunk *chunk,
                             struct error *err);

/* Where a leaf or root lies now; the map writer's callback. owner is the struct backup_file, slot
 * the leaf's number or BACKUP_ROOT_SLOT. */
#define BACKUP_ROOT_SLOT UINT32_MAX
bool backup_files_placed(void *owner, uint32_t slot, const struct map_place *place,
                         struct error *err);

#endif
