/*
 * backup_leaf.h - one leaf of a file: what of it is new, and storing that
 *
 * A leaf is 256 blocks (2 MiB) of a file. Each block is digested and compared with the base's map: what
 * is the same stays where it lies, unless its pack is mostly dead; blocks of zeros lie nowhere; what is
 * new is compressed, up to 32 blocks of the leaf a frame, into the thread's own pack.
 */
#ifndef PGVIGIL_JOB_BACKUP_LEAF_H
#define PGVIGIL_JOB_BACKUP_LEAF_H

#include "job/backup_files.h"
#include "job/backup_worker.h"

/* Belongs to one thread. */
struct backup_leaf;
bool backup_leaf_new(struct backup_reading *reading, struct backup_leaf **leaf, struct error *err);
void backup_leaf_free(struct backup_leaf *leaf); /* drops what was not flushed */

/* Stores what is new of `length` bytes, and the leaf's map. */
bool backup_leaf_store(struct backup_leaf *leaf, struct backup_file *file, uint32_t number,
                       const unsigned char *bytes, size_t length, struct error *err);
bool backup_leaf_flush(struct backup_leaf *leaf, struct error *err);

/*
 * Takes a file that has not changed as it is in the base, leaves that lie in mostly dead map packs being
 * written anew. Where blocks of it lie in mostly dead packs, or its map cannot be read, it is to be read
 * after all: base.unchanged becomes false.
 */
bool backup_leaf_keep_file(struct backup_leaf *leaf, struct backup_file *file, struct error *err);

#endif
