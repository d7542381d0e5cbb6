/*
 * bytes.h - little-endian integers at any address, and a bounded reader
 *
 * Stored and foreign bytes are read only through these: no unaligned access, no reading past the
 * end. A reader that would read past its end sets `failed` and gives zeros from then on, so that a
 * parser may check once, at its end.
 */
/* layer: base */
#ifndef PGVIGIL_BYTES_H
#define PGVIGIL_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t bytes_get_u16(const void *at)
{
    const unsigned char *b = at;
    return (uint16_t)(b[0] | (unsigned)b[1] << 8);
}

static inline uint32_t bytes_get_u32(const void *at)
{
    const unsigned char *b = at;
    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static inline uint64_t bytes_get_u64(const void *at)
{
    return bytes_get_u32(at) | (uint64_t)bytes_get_u32((const unsigned char *)at + 4) << 32;
}

static inline void bytes_put_u16(void *at, uint16_t value)
{
    unsigned char *b = at;
    b[0] = (unsigned char)value;
    b[1] = (unsigned char)(value >> 8);
}

static inline void bytes_put_u32(void *at, uint32_t value)
{
    unsigned char *b = at;
    bytes_put_u16(b, (uint16_t)value);
    bytes_put_u16(b + 2, (uint16_t)(value >> 16));
}

static inline void bytes_put_u64(void *at, uint64_t value)
{
    unsigned char *b = at;
    bytes_put_u32(b, (uint32_t)value);
    bytes_put_u32(b + 4, (uint32_t)(value >> 32));
}

struct bytes_reader {
    const unsigned char *at;
    size_t left;
    bool failed;
};

static inline const unsigned char *bytes_take(struct bytes_reader *reader, size_t length)
{
    if (reader->failed || length > reader->left) {
        reader->failed = true;
        return NULL;
    }
    const unsigned char *taken = reader->at;
    reader->at += length;
    reader->left -= length;
    return taken;
}

static inline uint16_t bytes_take_u16(struct bytes_reader *reader)
{
    const unsigned char *taken = bytes_take(reader, 2);
    return taken ? bytes_get_u16(taken) : 0;
}

static inline uint32_t bytes_take_u32(struct bytes_reader *reader)
{
    const unsigned char *taken = bytes_take(reader, 4);
    return taken ? bytes_get_u32(taken) : 0;
}

static inline uint64_t bytes_take_u64(struct bytes_reader *reader)
{
    const unsigned char *taken = bytes_take(reader, 8);
    return taken ? bytes_get_u64(taken) : 0;
}

#endif
