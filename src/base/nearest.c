/* nearest.c - the word somebody probably meant */
#include "nearest.h"

#include <string.h>

#define NEAREST_LENGTH 40

static unsigned nearest_lesser(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/*
 * Letters to insert, to delete, to change, or to swap with their neighbour (optimal string
 * alignment), row by row of the usual table; of its rows three are needed at a time.
 */
static unsigned nearest_distance(const char *from, size_t from_length, const char *to,
                                 size_t to_length)
{
    unsigned rows[3][NEAREST_LENGTH + 1];

    for (size_t j = 0; j <= to_length; j++)
        rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= from_length; i++) {
        unsigned *row = rows[i % 3];
        const unsigned *above = rows[(i + 2) % 3];
        const unsigned *before = rows[(i + 1) % 3]; /* two above */
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= to_length; j++) {
            unsigned change = from[i - 1] != to[j - 1] ? 1 : 0;
            row[j] = nearest_lesser(above[j], row[j - 1]) + 1;
            row[j] = nearest_lesser(row[j], above[j - 1] + change);
            if (i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1])
                row[j] = nearest_lesser(row[j], before[j - 2] + 1);
        }
    }
    return rows[from_length % 3][to_length];
}

void nearest_offer(struct nearest *nearest, const char *candidate)
{
    size_t word_length = strlen(nearest->word);
    size_t length = strlen(candidate);

    if (word_length > NEAREST_LENGTH || length > NEAREST_LENGTH)
        return;
    unsigned distance = nearest_distance(nearest->word, word_length, candidate, length);
    /* A third of the letters wrong is as much as can pass for a typing error. */
    if (distance > 1 && distance * 3 > length)
        return;
    if (!nearest->best || distance < nearest->distance) {
        nearest->best = candidate;
        nearest->distance = distance;
    }
}
