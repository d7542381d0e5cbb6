/*
 * map_cache.h - the maps of backups on the local disk, and reading them
 *
 * A backup compares what it reads with the maps of the one it builds on. Those lie in map packs, of
 * which <state_dir>/cache holds local copies, decrypted, so that a host without the private key has
 * them too. A copy that is missing, damaged or of other origin is fetched from the repository anew: a
 * lost cache costs time, never data. Each copy ends in the digest by which the list of packs knows the
 * stored pack, and in a keyed digest over all of it; it is checked once before it is used.
 *
 * Memory is bounded: one pack while it is checked, and a few decompressed frames for each reader.
 */
#ifndef PGVIGIL_MAP_CACHE_H
#define PGVIGIL_MAP_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/map.h"
#include "pgvigil/refs.h"
#include "pgvigil/repository.h"

#define MAP_CACHE_DIRECTORY "cache" /* in the state directory */

struct map_cache;

/* `secret` is that of the digests of the backups concerned; makes the directory. */
bool map_cache_open(const char *state_dir, const unsigned char secret[DIGEST_SECRET_SIZE],
                    struct map_cache **cache, struct error *err);
void map_cache_close(struct map_cache *cache);

/* The map packs among these (borrowed, sorted) may be asked for from now on; those that are not here
 * come from `repository`. Before any reader is at work. */
void map_cache_build_on(struct map_cache *cache, const struct refs *refs,
                        struct repository *repository);

/* Keeps a copy of a pack that was just stored. Any thread may call it. */
bool map_cache_keep(struct map_cache *cache, const struct refs_pack *pack, const void *bytes,
                    size_t length, struct error *err);

/* Removes the copies of all packs but those in `refs`, and what a killed process has left. */
bool map_cache_prune(struct map_cache *cache, const struct refs *refs, struct error *err);

/* A reader belongs to one thread. What does not belong to the file asked for is ERROR_INTEGRITY. */
struct map_cache_reader;
bool map_cache_reader_new(struct map_cache *cache, struct map_cache_reader **reader,
                          struct error *err);
void map_cache_reader_free(struct map_cache_reader *reader);

bool map_cache_reader_root(struct map_cache_reader *reader, const struct map_place *place,
                           uint64_t key, uint64_t file_size, struct map_root *root,
                           struct error *err);
/* Leaf `number` of a file of this size. */
bool map_cache_reader_leaf(struct map_cache_reader *reader, const struct map_place *place,
                           uint64_t key, uint32_t number, uint64_t file_size, struct map_leaf *leaf,
                           struct error *err);

#endif
