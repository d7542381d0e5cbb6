/*
 * seed.h - random input that can be made again
 *
 * seed_start prints the seed it took; PGVIGIL_TEST_SEED=<number> takes that one.
 */
#ifndef PGVIGIL_TESTS_SEED_H
#define PGVIGIL_TESTS_SEED_H

#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* splitmix64 */
static inline uint64_t seed_next(uint64_t *state)
{
    uint64_t value = *state += UINT64_C(0x9E3779B97F4A7C15);

    value = (value ^ value >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    value = (value ^ value >> 27) * UINT64_C(0x94D049BB133111EB);
    return value ^ value >> 31;
}

static inline uint64_t seed_start(const char *test)
{
    const char *given = getenv("PGVIGIL_TEST_SEED");
    uint64_t seed;

    if (given) {
        seed = strtoull(given, NULL, 10);
    } else {
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        seed = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec + (uint64_t)getpid();
    }
    printf("%s: PGVIGIL_TEST_SEED=%" PRIu64 "\n", test, seed);
    fflush(stdout);
    return seed;
}

static inline void seed_fill(uint64_t *state, void *data, size_t length)
{
    unsigned char *bytes = data;

    for (size_t i = 0; i < length; i++)
        bytes[i] = (unsigned char)seed_next(state);
}

#endif
