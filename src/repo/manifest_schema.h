/*
 * manifest_schema.h - what the writer and the reader of manifests share
 *
 * docs/FORMAT.md, chapter "Manifest", is normative.
 */
#ifndef PGVIGIL_MANIFEST_SCHEMA_H
#define PGVIGIL_MANIFEST_SCHEMA_H

#include "pgvigil/manifest.h"

#define MANIFEST_APPLICATION_ID 0x70677667 /* "pgvg" */
#define MANIFEST_FORMAT 1                  /* user_version, and "format" in meta */

/* Compared character by character: SQLite keeps the text of these statements. */
#define MANIFEST_CREATE_META                                                                       \
    "CREATE TABLE meta(key TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID"
#define MANIFEST_CREATE_FILE                                                                       \
    "CREATE TABLE file(path TEXT NOT NULL PRIMARY KEY, kind TEXT NOT NULL, size INTEGER NOT NULL," \
    " modified INTEGER NOT NULL, mode INTEGER NOT NULL, crc32c INTEGER, link TEXT, map_run TEXT,"  \
    " map_pack INTEGER, map_frame_offset INTEGER, map_frame_length INTEGER,"                       \
    " map_item_offset INTEGER, map_item_length INTEGER) STRICT, WITHOUT ROWID"

/* The columns of file, in the order in which they are bound and read. */
enum manifest_column {
    MANIFEST_PATH,
    MANIFEST_KIND,
    MANIFEST_SIZE,
    MANIFEST_MODIFIED,
    MANIFEST_MODE,
    MANIFEST_CRC32C,
    MANIFEST_LINK,
    MANIFEST_MAP_RUN,
    MANIFEST_MAP_PACK,
    MANIFEST_MAP_FRAME_OFFSET,
    MANIFEST_MAP_FRAME_LENGTH,
    MANIFEST_MAP_ITEM_OFFSET,
    MANIFEST_MAP_ITEM_LENGTH,
    MANIFEST_COLUMNS
};

#define MANIFEST_TEXT_MAXIMUM (1024 * 1024) /* bytes of any text, and of any row */
#define MANIFEST_PATH_MAXIMUM 4095          /* bytes of a path or link: PATH_MAX without its NUL */

/* Can this stand in a manifest? ERROR_INTEGRITY naming the file and what is wrong. The writer asks
 * too, so that no backup is made that no reader takes. */
bool manifest_check_file(const struct manifest_file *file, struct error *err);

/* Makes <directory>/tmp/manifest-XXXXXX, which is to be unlinked as soon as SQLite has it open, and
 * removes what killed processes left of such. The caller closes *fd and frees *path. */
bool manifest_temporary(const char *directory, char **path, int *fd, struct error *err);

#endif
