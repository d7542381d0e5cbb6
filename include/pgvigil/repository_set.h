/*
 * repository_set.h - the repositories of one cluster as a whole
 *
 * Those with copy = sync are written by everything that stores; those with copy = async follow by
 * `pgvigil copy`. What stands in the way of one repository does not hold up the others: it is left
 * out, and owed what it missed.
 *
 * Who was found down is remembered, see outage.h; what is owed to whom, see debt.h.
 */
#ifndef PGVIGIL_REPOSITORY_SET_H
#define PGVIGIL_REPOSITORY_SET_H

#include "pgvigil/repository.h"

struct repository_set_member {
    const struct config_repository *config;
    struct repository *repository; /* NULL: could not be opened */
    bool out;                      /* it failed later, and is left out */
    struct error error;            /* why it is not to be used */
    int place;                     /* among those joined; -1: not joined */
};

struct repository_set {
    const struct config *config;
    struct repository_set_member *members; /* the sync ones, in the configuration's order */
    size_t count;
    struct repository *joint; /* writes into all that are joined; NULL before repository_set_join */
};

enum repository_set_patience {
    REPOSITORY_SET_ASK_ALL,  /* also those that were down a moment ago */
    REPOSITORY_SET_SKIP_DOWN /* for a minute: pushes stay quick */
};

/*
 * Opens the sync repositories side by side, with a deadline (0: none; a quarter of the time is for
 * opening where there are several), and selects the cluster. Those that cannot be written to, for
 * whatever reason, are left out and hold their error; those out of reach are noted as down besides.
 * None at all is an error, as is one place under two names. Where fewer than `enough` are open, those
 * that were down a moment ago are asked in any case.
 */
bool repository_set_open(const struct config *config, enum repository_set_patience patience,
                         uint64_t system_identifier, int64_t deadline, int enough,
                         struct repository_set *set, struct error *err);
void repository_set_close(struct repository_set *set);

/* Is this one open and not left out? */
bool repository_set_has(const struct repository_set *set, size_t member);

/* One of the open members, to read what all of them should have: it asks the others where it cannot. */
struct repository *repository_set_reader(struct repository_set *set);

/* Joins the open members that are chosen (NULL: all of them) to be written to at once. At least one
 * must be open and chosen. What was joined before no longer is. */
void repository_set_join(struct repository_set *set, const bool *chosen);

/* Leaves out those that failed while the joint one was written to. Returns how many are open. */
size_t repository_set_drop_failed(struct repository_set *set);

/* Fills err with why one is left out, its name in it once; returns false. */
bool repository_set_why(const struct repository_set *set, size_t member, struct error *err);

/* Fills err with why all those are left out, the first one's hint in it; returns false. */
bool repository_set_why_few(const struct repository_set *set, struct error *err);

/* Leaves out one, for this error. */
void repository_set_drop(struct repository_set *set, size_t member, const struct error *why);

/* What the last put into the joint one, which said `joint`, came to in a member that is joined and
 * open. */
enum store_outcome repository_set_outcome(const struct repository_set *set, size_t member,
                                          enum store_outcome joint);

#endif
