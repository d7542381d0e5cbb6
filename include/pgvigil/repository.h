/*
 * repository.h - an opened repository
 *
 * A repository is what its id says: nothing is created in, nor called absent from, a place whose
 * pgvigil.json has not been read and does not carry the id pinned in the state directory. Opening
 * does that check, so whoever holds a struct repository may trust its ERROR_NOT_FOUND.
 * Without a pin (the state directory is new or was lost) the id found is pinned.
 *
 * Inside a repository the objects of one cluster lie under "<cluster>/<system identifier>/".
 * repository_select chooses the system identifier; object names are relative to it from then on.
 */
#ifndef PGVIGIL_REPOSITORY_H
#define PGVIGIL_REPOSITORY_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "pgvigil/config.h"
#include "pgvigil/error.h"
#include "pgvigil/store.h"

#define REPOSITORY_FORMAT 1
#define REPOSITORY_ID_SIZE 33 /* 32 hexadecimal digits and NUL */

/* What this host remembers of a repository in its state directory; see repo/identity.h. */
struct repository_pin {
    bool known;
    char id[REPOSITORY_ID_SIZE];
    bool encrypted;
    enum store_exclusive exclusive; /* what was found out of its store */
};

struct repository {
    const struct config *all;
    const struct config_repository *config;
    const char *name; /* the configuration's, for messages */
    struct store *store;
    char id[REPOSITORY_ID_SIZE];
    bool encrypted; /* as pgvigil.json says, which is as the configuration wants it */
    struct keyring *keyring;
    struct repository_pin pin;
    char *cluster;
    uint64_t system_identifier; /* 0: not selected yet */
    char *prefix;               /* "<cluster>/<system identifier>/" or NULL */
    /* Asked for what is missing or damaged here; or NULL. Owned, but for those of a repository_set. */
    struct repository *sibling;
    atomic_bool was_silent; /* out of reach when something was asked of it */
};

/* ERROR_STORE when the place or its pgvigil.json is missing (hint: mounted? `pgvigil init`?) or has
 * another id than the pinned one; ERROR_CONFIG for a newer format, and where one of repository and
 * configuration is encrypted and the other is not. */
bool repository_open(const struct config *config, const struct config_repository *which,
                     struct repository **repository, struct error *err);
/* With a deadline by clock_monotonic for this and all that is asked later; 0: none. */
bool repository_open_until(const struct config *config, const struct config_repository *which,
                           int64_t deadline, struct repository **repository, struct error *err);
void repository_close(struct repository *repository);

/* One that writes into all of these (borrowed, open, of the same cluster selected) at once, and reads
 * nothing: see store/fanout.h. repository_joined_failure and _outcome tell of each one's part. */
struct repository *repository_join(struct repository *const *members, size_t count);
bool repository_joined_failure(const struct repository *joint, size_t member, struct error *err);
enum store_outcome repository_joined_outcome(const struct repository *joint, size_t member);

/* Whoever asked a repository for an object or a list, and failed, says so: false. */
bool repository_failed(struct repository *repository, const struct error *err);

/* For init: makes the place and its pgvigil.json where they are missing, encrypted if there are
 * recipients, and pins the id. Refuses a
 * place that was pinned before and has no pgvigil.json now, and a directory that has other things
 * in it. *created tells whether it made one. */
enum repository_creation { REPOSITORY_FOUND, REPOSITORY_CREATED };
bool repository_create(const struct config *config, const struct config_repository *which,
                       enum repository_creation *creation, struct error *err);

void repository_select(struct repository *repository, uint64_t system_identifier);

/* The folders beneath a prefix of the whole store ("" or "<folder>/"), whose names are not NUL-terminated;
 * false ends the walk. A request for each. */
typedef bool (*repository_folder_fn)(const char *folder, size_t length, void *context);
bool repository_walk_folders(struct repository *repository, const char *prefix,
                             repository_folder_fn fn, void *context, struct error *err);

/*
 * Names of objects are the same whether a repository is encrypted or not. Where it is, what is secret
 * (layout_is_secret) lies under the name with LAYOUT_ENCRYPTED appended, and under no other: an object
 * of the name itself isn't part of it, and is not listed.
 */
bool repository_encrypts(const struct repository *repository, const char *name);
/* As stored, in the cluster; and in the store, of the selected cluster. The caller frees them. */
char *repository_stored_name(const struct repository *repository, const char *name);
char *repository_object_name(const struct repository *repository, const char *name);

/* Before anything is written: ERROR_CONFIG where it is encrypted and there is nobody to encrypt for. */
bool repository_check_recipients(struct repository *repository, struct error *err);

/* store_list for names relative to the selected cluster. */
bool repository_list(struct repository *repository, const char *prefix, const char *after,
                     store_list_fn fn, void *context, struct error *err);

/* The first object with this prefix behind `after`; *found is false when there is none. */
bool repository_first(struct repository *repository, const char *prefix, const char *after,
                      char name[STORE_NAME_MAXIMUM + 1], bool *found, struct error *err);

#endif
