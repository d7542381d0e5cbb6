/*
 * verify_repair.h - bringing back what is damaged or missing
 */
#ifndef PGVIGIL_VERIFY_REPAIR_H
#define PGVIGIL_VERIFY_REPAIR_H

#include "job/verify_walk.h"

/*
 * For each finding that is open: a copy in one of the siblings (a list of open repositories by ->sibling,
 * of the same cluster selected) is read whole and proven to be what is wanted; the damaged object is read
 * once more, and removed only if it still is damaged; the copy is put in its place and checked on the way.
 * Nothing sound is ever removed, be it another one than this host has read before, and a crash in between leaves
 * an object that is missing, which the next repair brings back from the same copy. What cannot be repaired has
 * the reason in its finding.
 */
bool verify_repair(struct verify_walk *walk, struct repository *siblings, struct error *err);

#endif
