/*
 * object_copy.h - the same object in another repository
 */
#ifndef PGVIGIL_OBJECT_COPY_H
#define PGVIGIL_OBJECT_COPY_H

#include "pgvigil/repository.h"
#include "pgvigil/trailer.h"

/*
 * Copies an object of the selected cluster byte for byte, checking it against its trailer on the way:
 * what is damaged is not stored (ERROR_INTEGRITY). Where the name is taken by the same content (by the
 * trailers' digests) that is made durable and is success; another content is ERROR_INTEGRITY too.
 */
bool object_copy(struct repository *from, struct repository *to, const char *name,
                 struct error *err);

/* Reads an object of the selected cluster whole and checks its stored bytes, kind and name against its
 * trailer, which needs no key: ERROR_INTEGRITY if it is damaged. */
bool object_copy_check(struct repository *from, const char *name, enum trailer_kind kind,
                       struct trailer *trailer, struct error *err);

#endif
