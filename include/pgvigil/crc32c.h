/*
 * crc32c.h - CRC-32C (Castagnoli), as PostgreSQL uses it
 *
 * crc32c(0, data, n) is the finished CRC of n bytes; crc32c(crc, more, m) continues it. Uses the
 * processor's own instruction where there is one.
 */
#ifndef PGVIGIL_CRC32C_H
#define PGVIGIL_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(uint32_t crc, const void *data, size_t length);

/* The CRC of A followed by B, from both CRCs and B's length, so that parts can be read in parallel.
 * */
uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t length_b);

#endif
