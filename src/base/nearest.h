/*
 * nearest.h - the word somebody probably meant
 *
 * For hints about mistyped keys and options.
 */
#ifndef PGVIGIL_BASE_NEAREST_H
#define PGVIGIL_BASE_NEAREST_H

struct nearest {
    const char *word;
    const char *best;  /* borrowed from the candidates, or NULL: nothing is near */
    unsigned distance; /* edits between word and best */
};

#define NEAREST_INIT(wanted)                                                                       \
    {                                                                                              \
        .word = (wanted)                                                                           \
    }

/* Offers a candidate; of equally near ones the first stays. */
void nearest_offer(struct nearest *nearest, const char *candidate);

#endif
