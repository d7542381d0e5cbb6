/*
 * unfinished.h - what a backup that is not finished has stored
 *
 * <state_dir>/cache/unfinished: each data pack that the backup under way has stored, and the leaves of
 * maps whose blocks lie in these packs. If it is killed the next one finds here what need not be stored
 * again, and goes on with the same file, until one of them has been committed. The maps that the dead run
 * may have stored are not asked: most of them were still in its memory.
 *
 * Appended to without waiting for the disk: each record ends in a keyed digest, and the file ends where
 * one is not as it was written. All of it can be lost, which costs time, never data. Memory is 16 bytes
 * for each leaf (2 MiB of a file) of the run that was interrupted, at most 64 MB: of what is beyond that
 * nothing is found again.
 */
#ifndef PGVIGIL_UNFINISHED_H
#define PGVIGIL_UNFINISHED_H

#include <stdint.h>

#include "pgvigil/buffer.h"
#include "pgvigil/map.h"
#include "pgvigil/refs.h"

struct unfinished_meta {
    uint64_t system_identifier;
    bool alone;                                   /* it builds on no backup */
    unsigned char recipients[DIGEST_SHA256_SIZE]; /* whom it encrypts for */
    unsigned char secret[DIGEST_SECRET_SIZE];
};

struct unfinished;

/* What is there, to be looked up and added to. ERROR_NOT_FOUND when there is nothing, ERROR_INTEGRITY when
 * it is damaged. Nobody else has it open: who takes a backup holds a lock. */
bool unfinished_open(const char *state_dir, struct unfinished **unfinished, struct error *err);
/* A new one in place of what is there. */
bool unfinished_new(const char *state_dir, const struct unfinished_meta *meta,
                    struct unfinished **unfinished, struct error *err);
void unfinished_close(struct unfinished *unfinished);
/* When the backup is committed. Absence is fine. */
bool unfinished_forget(const char *state_dir, struct error *err);

const struct unfinished_meta *unfinished_meta(const struct unfinished *unfinished);
/* The packs that were there when it was opened, ascending; `live` means nothing. */
const struct refs *unfinished_packs(const struct unfinished *unfinished);

/* Adds to `record` one leaf, encoded, to be given to unfinished_add. */
void unfinished_put_leaf(const struct unfinished *unfinished, const struct buffer *leaf,
                         struct buffer *record);
/* A pack was stored, and with it all blocks of these leaves. Any thread. What cannot be written is not
 * remembered. */
void unfinished_add(struct unfinished *unfinished, const struct refs_pack *pack,
                    const struct buffer *leaves);

/* The leaf that was the last to be added before it was opened; false if there is none. Any thread. */
bool unfinished_find(const struct unfinished *unfinished, uint64_t key, uint32_t number,
                     struct map_leaf *leaf);

#endif
