/*
 * verify.h - is what a repository holds what was stored there, and is it all there?
 *
 * Every run lists everything and holds it against what must be there: packs with the sizes that the
 * lists of packs say, manifests, lists, WAL without a gap. Objects are read whole and checked against
 * their trailers, against each other and, where they can be decoded, for what they hold: all of them,
 * a random sample, or what is due. Due is what this host has not read yet, and of the rest the oldest
 * share that has everything read again within VERIFY_PERIOD; what was read when is remembered in the
 * state directory (verify_memory.h).
 *
 * Nothing is changed, unless a repair is asked for: then what is missing or damaged is brought back
 * from another repository, whose copy is proven first.
 */
#ifndef PGVIGIL_VERIFY_H
#define PGVIGIL_VERIFY_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/clock.h"
#include "pgvigil/config.h"
#include "pgvigil/repository.h"
#include "pgvigil/trailer.h"

#define VERIFY_PERIOD (INT64_C(30) * 24 * 60 * 60 * CLOCK_SECOND)

enum verify_extent { VERIFY_DUE, VERIFY_ALL, VERIFY_SAMPLE };
enum verify_mode { VERIFY_ONLY, VERIFY_REPAIR };

struct verify_request {
    const char *repository; /* NULL: each one */
    enum verify_extent extent;
    double sample; /* VERIFY_SAMPLE: the share of the objects, above 0, at most 1 */
    uint64_t seed; /* of the sample */
    enum verify_mode mode;
    int jobs; /* objects read at once; 0: backup.jobs */
};

enum verify_fault {
    VERIFY_DAMAGED,
    VERIFY_MISSING,
    VERIFY_OWED, /* missing, but noted as a debt that the next push pays, see debt.h: no damage */
    VERIFY_STRAY /* no name that this version knows: left alone, and no damage */
};

/* A stretch of time in which no moment can be restored any more. */
struct verify_lost_time {
    int64_t from; /* the last moment before it that can be, microseconds since 1970 */
    int64_t to;   /* the first one behind it; INT64_MAX: none so far */
};

/* One object, or several WAL segments in a row that are missing. */
struct verify_finding {
    enum verify_fault fault;
    enum trailer_kind kind; /* what it is, or should be; 0 for strays */
    char *object;           /* name within the cluster; of several the first */
    char *last;             /* of several the last, or NULL */
    uint64_t count;         /* of them, 1 or more */
    char *why;
    bool inherent; /* it is what was stored: no other repository has it otherwise */
    bool harmless; /* missing WAL that no backup which is to stay leads to, as one lies behind it */
    bool known;    /* what digest its stored bytes must have: */
    unsigned char sha256[DIGEST_SHA256_SIZE];
    uint64_t repaired;    /* so many of them are back */
    char *source;         /* the repository they came from, or NULL */
    char *repair_failure; /* why not, or NULL */
    int64_t *backups;     /* runs that cannot be restored without it */
    size_t backup_count, backup_capacity;
    struct verify_lost_time *lost;
    size_t lost_count, lost_capacity;
};

/* What was found in one cluster's part of a repository. */
struct verify_cluster {
    uint64_t system_identifier;
    uint64_t objects, bytes; /* that are there */
    uint64_t read_objects, read_bytes;
    uint64_t unread_objects; /* that this host has never read */
    uint64_t sealed_objects; /* read, but encrypted for keys that this host does not have */
    int64_t oldest;   /* when the object was read whose last reading is longest ago; 0: none was */
    uint64_t backups; /* that are committed */
    uint64_t backups_mapped; /* whose manifests, and maps, were held against the packs */
    struct verify_finding *findings;
    size_t finding_count, finding_capacity;
};

struct verify_repository {
    const struct config_repository *config;
    char id[REPOSITORY_ID_SIZE]; /* "" if it could not be opened */
    struct error error;          /* why it was not read to its end; ERROR_NONE if it was */
    struct verify_cluster *clusters;
    size_t cluster_count;
    bool doubted; /* nothing of this cluster is in it, but of others, as was warned of */
};

struct verify_result {
    struct verify_repository *repositories;
    size_t repository_count;
};

/*
 * ERROR_USAGE for a repository that is not in the configuration, ERROR_BUSY while another verify runs
 * on this host. What is found, and a repository that cannot be read, is part of the result.
 */
bool verify_run(const struct config *config, const struct verify_request *request,
                struct verify_result *result, struct error *err);
void verify_free_result(struct verify_result *result);

/* Is it damaged, missing or owed, and not all of it repaired? */
bool verify_is_open(const struct verify_finding *finding);

/* Is it that, and neither harmless nor only owed? */
bool verify_is_wrong(const struct verify_finding *finding);

const char *verify_fault_name(enum verify_fault fault); /* "damaged" */

#endif
