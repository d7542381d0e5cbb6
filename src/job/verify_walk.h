/*
 * verify_walk.h - what the parts of a verification share: one cluster in one repository
 */
#ifndef PGVIGIL_VERIFY_WALK_H
#define PGVIGIL_VERIFY_WALK_H

#include <pthread.h>

#include "job/verify_memory.h"
#include "job/verify_owed.h"
#include "pgvigil/digest.h"
#include "pgvigil/survey.h"
#include "pgvigil/verify.h"

/* An object that the listing gave. */
struct verify_entry {
    char *name; /* within the cluster */
    uint64_t size;
    enum trailer_kind kind; /* 0: a name that is none of ours */
    bool chosen;            /* to be read in this run */
    bool suspect;           /* was damaged when this host last looked */
    bool read;              /* has been, and is sound */
    bool sealed;            /* but encrypted for keys that are not here */
    bool blamed;            /* has a finding */
    bool mapped;            /* a manifest: the maps of its backup are to be read, too */
    bool listed;            /* its stored bytes are known to have this digest: */
    unsigned char listed_sha256[DIGEST_SHA256_SIZE];
    int64_t checked; /* when this host last found it sound, microseconds since 1970; 0: it has
                               never, or something was wrong since */
    bool remembered; /* what it was when it was sound: */
    unsigned char sha256[DIGEST_SHA256_SIZE]; /* see verify_memory.h */
    /* Of a data pack, see verify_blocks.h: */
    const unsigned char *secret; /* its digests are to be noted; or NULL */
    uint64_t digests;
    uint32_t frames; /* 0: they are not */
};

/* A copy in another repository that turned out to be damaged when it was to be used for a repair. */
struct verify_doubt {
    const struct config_repository *config;
    char *object;
    char *why;
};

struct verify_walk {
    const struct config *config;
    const struct verify_request *request;
    int jobs;
    int64_t now;
    struct repository *repository;
    struct verify_memory *memory; /* borrowed; NULL once it failed */
    struct verify_cluster *result;
    struct verify_entry *entries; /* ascending by name */
    size_t count, capacity;
    struct survey *survey;
    struct verify_owed owed; /* when the survey was made */
    struct verify_blocks *blocks;
    struct verify_doubt *doubts;
    size_t doubt_count, doubt_capacity;
    pthread_mutex_t mutex; /* guards result and memory while objects are read */
};

/* NULL if there is no such object. */
struct verify_entry *verify_walk_find(const struct verify_walk *walk, const char *name);

/* Adds a finding, whose `why` is the error's message. The caller holds the mutex where others might add,
 * too. */
struct verify_finding *verify_walk_blame(struct verify_walk *walk, enum verify_fault fault,
                                         enum trailer_kind kind, const char *object,
                                         const struct error *why);

/* Adds to the backups that are lost by a finding, once. */
void verify_walk_cost(struct verify_finding *finding, int64_t run);

/* Keeps in mind that an object was found sound. That this cannot be kept costs no more than time: it is
 * warned about, once. The caller holds the mutex. */
void verify_walk_remember(struct verify_walk *walk, const struct verify_entry *entry);

/* The same of one that is not: it is due until it is sound again. */
void verify_walk_suspect(struct verify_walk *walk, struct verify_entry *entry);

void verify_walk_free_finding(struct verify_finding *finding);

#endif
