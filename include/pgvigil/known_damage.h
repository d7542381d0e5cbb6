/*
 * known_damage.h - what this host's last verify found damaged or missing, for whoever comes later
 *
 * <state_dir>/damage/<repository id>-<system identifier>, JSON: when verify looked, and each finding that
 * was open at its end, with the backups that it costs. Written anew at the end of each verification of
 * that cluster there. It is no more than a hint: what it says may have been mended since by others, and all
 * of it can be lost. So nobody may do worse for want of it, or for believing it.
 */
#ifndef PGVIGIL_KNOWN_DAMAGE_H
#define PGVIGIL_KNOWN_DAMAGE_H

#include "pgvigil/verify.h"

struct known_damage {
    int64_t
        looked; /* when that verify began, microseconds since 1970; 0: none has come to its end */
    struct verify_finding *findings; /* fault, object, count and backups are set */
    size_t count;
};

#define KNOWN_DAMAGE_INIT                                                                          \
    {                                                                                              \
        .looked = 0                                                                                \
    }

/* Of the system identifier that is selected. Where nothing is known, nothing is damaged; so it is where the
 * file cannot be read, with a warning. */
void known_damage_read(const struct repository *repository, struct known_damage *damage);
void known_damage_free(struct known_damage *damage);

/* Durable. */
bool known_damage_write(const struct repository *repository, int64_t looked,
                        const struct verify_cluster *found, struct error *err);

/* So many objects are damaged or missing that this backup needs. */
uint64_t known_damage_of(const struct known_damage *damage, int64_t run);

#endif
