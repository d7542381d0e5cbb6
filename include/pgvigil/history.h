/*
 * history.h - timeline history files
 *
 * src/backend/access/transam/timeline.c. A history lists the ancestors of a timeline, oldest first,
 * each with the LSN at which the next one left it.
 *
 * In the file these may go back: whoever recovers along timeline 2 to a moment before it began gets a timeline 3 whose
 * file says "1 <where 2 began>, 2 <that moment>". Of timeline 1 only what lies before that moment counts then, and
 * of timeline 2 nothing: here each LSN is the least of those from its line on, so that they never go back.
 */
#ifndef PGVIGIL_HISTORY_H
#define PGVIGIL_HISTORY_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/error.h"

struct history_entry {
    uint32_t timeline;
    uint64_t
        switch_lsn; /* its WAL counts up to here; UINT64_MAX for the last, the timeline itself */
};

struct history {
    uint32_t timeline;
    struct history_entry *entries; /* oldest first; the last is the timeline itself */
    size_t count;
};

/* `text` of <timeline>.history; NULL/0 for timeline 1, which has none. ERROR_INTEGRITY if malformed
 * (numbers not ascending, itself among its ancestors, more than 10,000 lines). */
bool history_parse(uint32_t timeline, const char *text, size_t length, struct history *history,
                   struct error *err);
void history_free(struct history *history);

/* The timeline that it left, and where; NULL if none is known. Borrowed. */
const struct history_entry *history_parent(const struct history *history);

/* Switch LSN of `timeline` in this history, or 0 when it is no part of it. */
uint64_t history_switch_lsn(const struct history *history, uint32_t timeline);

/* The timeline whose WAL holds `lsn` when following this history (the newer at a switch point's
 * segment: give the LSN itself). */
uint32_t history_timeline_at(const struct history *history, uint64_t lsn);

#endif
