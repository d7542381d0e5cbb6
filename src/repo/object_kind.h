/* object_kind.h - what objects of each kind have in common, for object.c and object_writer.c */
/* layer: repo */
#ifndef PGVIGIL_REPO_OBJECT_KIND_H
#define PGVIGIL_REPO_OBJECT_KIND_H

#include "pgvigil/repository.h"
#include "pgvigil/trailer.h"

/* Raw bytes in one zstd frame of OBJECT_ZSTD; where it is encrypted, each frame is a structure. */
#define OBJECT_KIND_FRAME_RAW ((size_t)32 * 1024 * 1024)

/* Does the trailer have a digest of the raw bytes? */
bool object_kind_is_wal(enum trailer_kind kind);

enum store_use object_kind_use(enum trailer_kind kind);

/* The name in the store; what belongs to no cluster lies at the root. The caller frees it. */
char *object_kind_full_name(const struct repository *repository, const char *name,
                            enum trailer_kind kind);

/* What ties the object to its name and its cluster. */
void object_kind_name_digest(const struct repository *repository, const char *name,
                             enum trailer_kind kind, unsigned char digest[TRAILER_NAME_SIZE]);

#endif
