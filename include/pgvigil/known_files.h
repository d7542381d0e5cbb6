/*
 * known_files.h - what this host remembers of the files of its last backup
 *
 * <state_dir>/cache/known: for each file size, CRC and the place of its map, as in the backup's manifest,
 * and the status that the file had before it was read. The file is written after the commit, whole or not
 * at all, and ends in a keyed digest: what is damaged, or of another backup, is not used.
 *
 * A file is passed over unread only if its status is the same as then, by the strict rule of
 * known_files_trust: anything that writes to a file changes its ctime, which nobody can set, unless the
 * clock was set back, the machine crashed before the inode was on disk, or it was written to in the same
 * tick of the clock as it was read.
 */
#ifndef PGVIGIL_KNOWN_FILES_H
#define PGVIGIL_KNOWN_FILES_H

#include <stdint.h>

#include "pgvigil/buffer.h"
#include "pgvigil/map.h"
#include "pgvigil/scan.h"

#define KNOWN_FILES_BOOT_SIZE 37

/* Time as this machine counts it. */
struct known_files_clock {
    char boot[KNOWN_FILES_BOOT_SIZE]; /* the kernel's boot_id; "" if there is none */
    int64_t offset;                   /* of the clock against the time since boot, microseconds */
};
void known_files_clock_read(struct known_files_clock *clock);

struct known_files_meta {
    int64_t run; /* the backup */
    uint64_t system_identifier;
    unsigned char manifest_sha256[DIGEST_SHA256_SIZE];
    unsigned char secret[DIGEST_SECRET_SIZE];
    int64_t started; /* clock_now() before the data directory was looked at */
    struct known_files_clock clock;
};

struct known_file {
    const char *path;
    uint64_t size;
    uint32_t crc32c;
    struct map_place map;
    bool remembered; /* facts are those of what the backup holds */
    struct scan_facts facts;
};

/* Writing: begin, add each file, write. The buffer is the caller's. */
void known_files_begin(const struct known_files_meta *meta, struct buffer *out);
void known_files_add(const struct known_file *file, struct buffer *out);
bool known_files_write(const char *state_dir, struct buffer *out, struct error *err);

struct known_files;
/* ERROR_NOT_FOUND when there is nothing remembered, ERROR_INTEGRITY when it is damaged. */
bool known_files_read(const char *state_dir, struct known_files **known, struct error *err);
void known_files_free(struct known_files *known);
const struct known_files_meta *known_files_meta(const struct known_files *known);

/* The file given is valid during the call only. */
typedef bool (*known_files_fn)(const struct known_file *file, void *context, struct error *err);
bool known_files_each(const struct known_files *known, known_files_fn fn, void *context,
                      struct error *err);

/* Is a file with this status now, by this clock, the one that the backup holds? */
bool known_files_trust(const struct known_files_meta *meta, const struct known_file *file,
                       const struct scan_facts *facts, const struct known_files_clock *clock);

#endif
