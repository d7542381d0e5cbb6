/*
 * gather.h - puts that gather an object before it is stored in one request
 *
 * For drivers with put_whole. What is written stays in memory up to GATHER_MEMORY, more than a pack;
 * the rest of a longer object (a WAL segment of 1 GB, the manifest of millions of files) goes to an
 * unlinked file in TMPDIR, or else /var/tmp, with the form it would have in the store.
 */
#ifndef PGVIGIL_STORE_GATHER_H
#define PGVIGIL_STORE_GATHER_H

#include "pgvigil/store.h"

#define GATHER_MEMORY ((uint64_t)40 * 1024 * 1024)

struct store_put *gather_begin(struct store *store, const char *name, enum store_use use);
bool gather_write(struct store_put *put, const void *data, size_t length, struct error *err);
void gather_sha256(struct store_put *put, const unsigned char sha256[STORE_SHA256_SIZE]);
/* Both end the put. */
bool gather_commit(struct store_put *put, enum store_outcome *outcome, struct error *err);
void gather_abort(struct store_put *put);

#endif
