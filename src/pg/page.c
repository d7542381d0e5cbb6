/*
 * page.c - pages of relations
 */
#include "pgvigil/page.h"

#include <string.h>

#include "pgvigil/bytes.h"

/* Where struct PageHeaderData has its fields. */
#define AT_CHECKSUM 8
#define AT_UPPER 14

/*
 * The checksum runs LANES independent hashes side by side, one for each column of the page seen as
 * rows of LANES 32-bit words, so that a processor can compute many of them at once.
 */
#define LANES 32
#define ROW_BYTES (LANES * 4)
#define ROWS (PAGE_SIZE_BYTES / ROW_BYTES)
#define FNV_PRIME 16777619u

/* The values each lane starts with, fixed by PostgreSQL (checksum_impl.h). */
static const uint32_t seeds[LANES] = {
    0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
    0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
    0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
    0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
};

static inline __attribute__((always_inline)) void mix_row(uint32_t lanes[LANES],
                                                          const unsigned char *row)
{
    uint32_t words[LANES];

    memcpy(words, row, ROW_BYTES);
    for (int i = 0; i < LANES; i++) {
        uint32_t mixed = lanes[i] ^ words[i];
        lanes[i] = (mixed * FNV_PRIME) ^ (mixed >> 17);
    }
}

/* Inlined into a function for each instruction set, for which the compiler then vectorises it. */
static inline __attribute__((always_inline)) uint32_t hash_page(const unsigned char *page)
{
    static const unsigned char zeros[ROW_BYTES];
    unsigned char first[ROW_BYTES];
    uint32_t lanes[LANES];
    uint32_t result = 0;

    /* The checksum is of the page with a checksum of zero. */
    memcpy(first, page, ROW_BYTES);
    memset(first + AT_CHECKSUM, 0, 2);
    memcpy(lanes, seeds, sizeof lanes);
    mix_row(lanes, first);
    for (int row = 1; row < ROWS; row++) {
        mix_row(lanes, page + row * ROW_BYTES);
    }
    mix_row(lanes, zeros);
    mix_row(lanes, zeros);
    for (int i = 0; i < LANES; i++) {
        result ^= lanes[i];
    }
    return result;
}

static uint32_t hash_any(const unsigned char *page)
{
    return hash_page(page);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static uint32_t hash_avx2(const unsigned char *page)
{
    return hash_page(page);
}

static uint32_t hash(const unsigned char *page)
{
    return __builtin_cpu_supports("avx2") ? hash_avx2(page) : hash_any(page);
}
#else
static uint32_t hash(const unsigned char *page)
{
    return hash_any(page);
}
#endif

uint16_t page_checksum(const void *page, uint32_t block_number)
{
    /* Never 0, which says that no checksum was computed. */
    return (uint16_t)((hash(page) ^ block_number) % 65535 + 1);
}

uint64_t page_lsn(const void *page)
{
    const unsigned char *b = page;

    return (uint64_t)bytes_get_u32(b) << 32 | bytes_get_u32(b + 4);
}

bool page_verify(const void *page, uint32_t block_number)
{
    const unsigned char *b = page;

    if (bytes_get_u16(b + AT_UPPER) == 0) {
        return page_is_zero(page, PAGE_SIZE_BYTES);
    }
    return bytes_get_u16(b + AT_CHECKSUM) == page_checksum(page, block_number);
}

/* Each byte is compared with the one 16 before it, the first 16 being zero. */
bool page_is_zero(const void *data, uint64_t length)
{
    static const unsigned char zeros[16];
    const unsigned char *b = data;

    if (length <= sizeof zeros) {
        return memcmp(b, zeros, (size_t)length) == 0;
    }
    return memcmp(b, zeros, sizeof zeros) == 0 &&
           memcmp(b, b + sizeof zeros, (size_t)length - sizeof zeros) == 0;
}
