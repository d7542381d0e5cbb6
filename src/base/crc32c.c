/*
 * A CRC is a polynomial over GF(2) modulo the Castagnoli polynomial; its bits are kept reflected:
 * bit 31 is the coefficient of x^0. Putting n zero bytes behind a message multiplies its CRC by
 * x^(8n); that is what joining the CRCs of parts rests on, here those of three lanes that the
 * processor works on at once (its instruction takes three cycles, but one can begin each cycle).
 */
#include "pgvigil/crc32c.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#define HARDWARE __attribute__((target("sse4.2")))
#define HARDWARE_BYTE(crc, byte) _mm_crc32_u8(crc, byte)
#define HARDWARE_WORD(crc, word) ((uint32_t)_mm_crc32_u64(crc, word))
#elif defined(__aarch64__) && defined(__ARM_FEATURE_CRC32)
#include <arm_acle.h>
#define HARDWARE
#define HARDWARE_BYTE(crc, byte) __crc32cb(crc, byte)
#define HARDWARE_WORD(crc, word) __crc32cd(crc, word)
#endif

#include "base/crc32c_portable.h"
#include "pgvigil/bytes.h"

#define POLYNOMIAL 0x82F63B78u
#define X_TO_0 0x80000000u
#define X_TO_8 0x00800000u

/* Bytes in one lane: long ones for long data, short ones for what is left. */
#define LONG_LANE 1024
#define SHORT_LANE 256

/* tables[0][b] is the CRC register after byte b; tables[k][b] the same with k zero bytes behind. */
static uint32_t tables[8][256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

#ifdef HARDWARE
/* A CRC times x^(8 * lane), by the CRC's bytes. */
struct shift {
    uint32_t table[4][256];
};
static struct shift long_shift;
static struct shift short_shift;
static bool has_hardware;
#endif

/* a * b modulo the polynomial. */
static uint32_t multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;

    for (uint32_t bit = X_TO_0; bit != 0; bit >>= 1) {
        if (a & bit)
            product ^= b;
        b = (b & 1) ? b >> 1 ^ POLYNOMIAL : b >> 1;
    }
    return product;
}

/* x^(8 * bytes) modulo the polynomial. */
static uint32_t power(uint64_t bytes)
{
    uint32_t result = X_TO_0;

    for (uint32_t square = X_TO_8; bytes != 0; bytes >>= 1) {
        if (bytes & 1)
            result = multiply(result, square);
        square = multiply(square, square);
    }
    return result;
}

#ifdef HARDWARE
static void make_shift(struct shift *shift, size_t lane)
{
    uint32_t factor = power(lane);

    for (unsigned byte = 0; byte < 4; byte++)
        for (uint32_t value = 0; value < 256; value++)
            shift->table[byte][value] = multiply(value << (8 * byte), factor);
}

static uint32_t apply_shift(const struct shift *shift, uint32_t crc)
{
    return shift->table[0][crc & 255] ^ shift->table[1][crc >> 8 & 255] ^
           shift->table[2][crc >> 16 & 255] ^ shift->table[3][crc >> 24];
}
#endif

static void initialize(void)
{
    for (uint32_t value = 0; value < 256; value++)
        tables[0][value] = multiply(value, X_TO_8);
    for (unsigned k = 1; k < 8; k++)
        for (unsigned value = 0; value < 256; value++) {
            uint32_t before = tables[k - 1][value];

            tables[k][value] = before >> 8 ^ tables[0][before & 255];
        }
#ifdef HARDWARE
    make_shift(&long_shift, LONG_LANE);
    make_shift(&short_shift, SHORT_LANE);
#if defined(__x86_64__)
    has_hardware = __builtin_cpu_supports("sse4.2");
#else
    has_hardware = true;
#endif
#endif
}

#ifdef HARDWARE
/* The functions below, and the one above all of them, work on the bare register: crc32c() inverts
 * it before and after. */
HARDWARE static uint64_t load(const unsigned char *at)
{
    uint64_t word;

    memcpy(&word, at, sizeof(word));
    return word;
}

HARDWARE static uint32_t three_lanes(uint32_t crc, const unsigned char *at, size_t lane,
                                     const struct shift *shift)
{
    uint32_t second = 0, third = 0;

    for (size_t i = 0; i < lane; i += 8) {
        crc = HARDWARE_WORD(crc, load(at + i));
        second = HARDWARE_WORD(second, load(at + lane + i));
        third = HARDWARE_WORD(third, load(at + 2 * lane + i));
    }
    crc = apply_shift(shift, crc) ^ second;
    return apply_shift(shift, crc) ^ third;
}

HARDWARE static uint32_t by_hardware(uint32_t crc, const unsigned char *at, size_t length)
{
    for (; length >= 3 * LONG_LANE; at += 3 * LONG_LANE, length -= 3 * LONG_LANE)
        crc = three_lanes(crc, at, LONG_LANE, &long_shift);
    for (; length >= 3 * SHORT_LANE; at += 3 * SHORT_LANE, length -= 3 * SHORT_LANE)
        crc = three_lanes(crc, at, SHORT_LANE, &short_shift);
    for (; length >= 8; at += 8, length -= 8)
        crc = HARDWARE_WORD(crc, load(at));
    for (; length > 0; at++, length--)
        crc = HARDWARE_BYTE(crc, *at);
    return crc;
}
#endif

static uint32_t by_tables(uint32_t crc, const unsigned char *at, size_t length)
{
    for (; length >= 8; at += 8, length -= 8) {
        uint32_t low = bytes_get_u32(at) ^ crc;
        uint32_t high = bytes_get_u32(at + 4);

        crc = tables[7][low & 255] ^ tables[6][low >> 8 & 255] ^ tables[5][low >> 16 & 255] ^
              tables[4][low >> 24] ^ tables[3][high & 255] ^ tables[2][high >> 8 & 255] ^
              tables[1][high >> 16 & 255] ^ tables[0][high >> 24];
    }
    for (; length > 0; at++, length--)
        crc = crc >> 8 ^ tables[0][(crc ^ *at) & 255];
    return crc;
}

uint32_t crc32c(uint32_t crc, const void *data, size_t length)
{
    pthread_once(&once, initialize);
#ifdef HARDWARE
    if (has_hardware)
        return ~by_hardware(~crc, data, length);
#endif
    return ~by_tables(~crc, data, length);
}

uint32_t crc32c_portable(uint32_t crc, const void *data, size_t length)
{
    pthread_once(&once, initialize);
    return ~by_tables(~crc, data, length);
}

uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t length_b)
{
    return multiply(power(length_b), crc_a) ^ crc_b;
}
