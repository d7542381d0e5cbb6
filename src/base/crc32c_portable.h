/*
 * crc32c_portable.h - CRC-32C by tables, for processors without an instruction for it
 *
 * Private to base; apart from crc32c.c only the test that compares both ways calls it.
 */
/* layer: base */
#ifndef PGVIGIL_CRC32C_PORTABLE_H
#define PGVIGIL_CRC32C_PORTABLE_H

#include <stddef.h>
#include <stdint.h>

/* The same as crc32c(). */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t length);

#endif
