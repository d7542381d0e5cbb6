/*
 * verify_object.h - objects read whole
 */
#ifndef PGVIGIL_VERIFY_OBJECT_H
#define PGVIGIL_VERIFY_OBJECT_H

#include "job/verify_walk.h"

/* Reads all that is chosen, with several threads; what is damaged becomes findings. The digests of blocks
 * are noted where they are wanted. Memory is one pack a thread. */
bool verify_object_read_chosen(struct verify_walk *walk, struct error *err);

/* One object: ERROR_INTEGRITY if it is damaged or another one than before, ERROR_NOT_FOUND if it has gone.
 * On success the entry has what was found. */
struct verify_reader;
struct verify_reader *verify_object_reader(void);
void verify_object_free_reader(struct verify_reader *reader);
bool verify_object_read(struct repository *repository, struct verify_entry *entry,
                        struct verify_reader *reader, struct error *err);

#endif
