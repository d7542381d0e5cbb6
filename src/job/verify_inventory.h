/*
 * verify_inventory.h - what is there, what of it is known, and what is to be read
 */
#ifndef PGVIGIL_VERIFY_INVENTORY_H
#define PGVIGIL_VERIFY_INVENTORY_H

#include "job/verify_walk.h"

/* Lists everything of the cluster, with what is remembered of it; strays become findings. What is
 * remembered of objects that are gone is forgotten. */
bool verify_inventory_read(struct verify_walk *walk, struct error *err);
void verify_inventory_free(struct verify_walk *walk);

/* Chooses what is to be read as the request says. */
void verify_inventory_choose(struct verify_walk *walk);

/* What an object of this name must be; 0 if it is none of ours. */
enum trailer_kind verify_inventory_kind(const char *name);

#endif
