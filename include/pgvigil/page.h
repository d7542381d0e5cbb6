/*
 * page.h - pages of relations
 *
 * src/include/storage/bufpage.h and checksum_impl.h. Only 8 KiB pages are supported.
 */
#ifndef PGVIGIL_PAGE_H
#define PGVIGIL_PAGE_H

#include <stdbool.h>
#include <stdint.h>

#define PAGE_SIZE_BYTES 8192

/* The checksum PostgreSQL computes for this page at this block number of its relation. */
uint16_t page_checksum(const void *page, uint32_t block_number);

uint64_t page_lsn(const void *page);

/* True when the page is new (all zeros as far as PostgreSQL looks) or its checksum is right. */
bool page_verify(const void *page, uint32_t block_number);

/* True when `length` bytes are all zero. */
bool page_is_zero(const void *data, uint64_t length);

#endif
