/* listing.h - what a store lists, counted */
#ifndef PGVIGIL_SUPPORT_LISTING_H
#define PGVIGIL_SUPPORT_LISTING_H

#include "pgvigil/store.h"

/* A store_list_fn; the context is an int. */
static inline bool listing_count(const char *name, const struct store_info *info, void *context,
                                 struct error *err)
{
    (void)name;
    (void)info;
    (void)err;
    ++*(int *)context;
    return true;
}

#endif
