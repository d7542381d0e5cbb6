/*
 * manifest.h - the list of files of one backup, a SQLite database
 *
 * Schema in docs/FORMAT.md. A manifest read from a repository is foreign bytes: it is opened
 * read-only, in defensive mode, with trusted_schema off and limits set; its schema must be exactly
 * ours, and every row is checked (paths that stay inside, known kinds, sane sizes) before it is
 * given out. The database lives in a temporary file without a name while it is used.
 */
#ifndef PGVIGIL_MANIFEST_H
#define PGVIGIL_MANIFEST_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "pgvigil/map.h"
#include "pgvigil/repository.h"

enum manifest_kind {
    MANIFEST_DIRECTORY = 'd',
    MANIFEST_FILE = 'f',
    MANIFEST_TABLESPACE = 'l', /* pg_tblspc/<oid>, a symbolic link; `link` is its target */
    MANIFEST_CONFIG = 'c'      /* a configuration file outside the data directory: absolute path */
};

struct manifest_file {
    const char *path; /* relative to the data directory (absolute for MANIFEST_CONFIG) */
    enum manifest_kind kind;
    uint64_t size;
    int64_t modified;     /* microseconds since 1970 */
    mode_t mode;          /* permission bits */
    uint32_t crc32c;      /* of the whole file as stored */
    const char *link;     /* of a tablespace */
    struct map_place map; /* where its root lies; frame.pack.number 0 for an empty file */
};

struct manifest_meta {
    char *backup_label;
    char *tablespace_map; /* "" when there is none */
    unsigned char secret[DIGEST_SECRET_SIZE];
    int64_t run; /* both are set on the way back only, and by then those that were asked for */
    uint64_t system_identifier;
};

struct manifest_writer;
/* `directory` is where the temporary file goes (the state directory). */
bool manifest_writer_new(const char *directory, struct manifest_writer **writer, struct error *err);
bool manifest_writer_add(struct manifest_writer *writer, const struct manifest_file *file,
                         struct error *err);
/* Finishes and stores it as backup/<run>/manifest.sqlite.zst; sha256 of the stored bytes. */
bool manifest_writer_store(struct manifest_writer *writer, const struct manifest_meta *meta,
                           struct repository *repository, int64_t run,
                           unsigned char sha256[DIGEST_SHA256_SIZE], struct error *err);
void manifest_writer_free(struct manifest_writer *writer);

struct manifest;
bool manifest_fetch(struct repository *repository, int64_t run,
                    const unsigned char sha256[DIGEST_SHA256_SIZE], const char *directory,
                    struct manifest **manifest, struct error *err);
void manifest_free(struct manifest *manifest);
const struct manifest_meta *manifest_meta(const struct manifest *manifest);

enum manifest_order { MANIFEST_BY_PATH, MANIFEST_BY_MAP };
/* The file given is valid during the call only. */
typedef bool (*manifest_fn)(const struct manifest_file *file, void *context, struct error *err);
bool manifest_each(struct manifest *manifest, enum manifest_order order, manifest_fn fn,
                   void *context, struct error *err);

/* Is this a path that stays inside a data directory (relative, clean, no "..")? */
bool manifest_path_valid(const char *path);

/* From a file already there: tests and the fuzzer. */
bool manifest_open_file(const char *path, struct manifest **manifest, struct error *err);

#endif
