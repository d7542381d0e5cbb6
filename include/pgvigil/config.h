/*
 * config.h - one cluster's configuration
 *
 * A file holds one cluster (see conf/pgvigil.conf.sample). Unknown sections and keys, bad values,
 * keys given twice and missing required ones are ERROR_CONFIG with file and line. What is read is
 * kept as typed, bounded values; a struct config is constant once loaded and owns its strings.
 */
#ifndef PGVIGIL_CONFIG_H
#define PGVIGIL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgvigil/error.h"

#define CONFIG_DIRECTORY "/etc/pgvigil"

enum config_choice { CONFIG_UNSET, CONFIG_NO, CONFIG_YES };
enum config_copy { CONFIG_COPY_SYNC, CONFIG_COPY_ASYNC };

/* What expire leaves in a repository. */
struct config_retention {
    int64_t
        window;  /* microseconds: any moment of this time past can be reached; 0: nothing expires */
    int minimum; /* backups, 1 or more */
    int daily, weekly, monthly, yearly; /* periods of which the last backup is kept */
};

/* S3's object lock: nobody may remove an object before its time. */
enum config_lock_mode { CONFIG_LOCK_NONE, CONFIG_LOCK_GOVERNANCE, CONFIG_LOCK_COMPLIANCE };

struct config_lock {
    enum config_lock_mode mode;
    int64_t duration; /* microseconds */
};

struct config_repository {
    char *name;            /* letters, digits, '_' and '-'; at most 63 */
    char *url;             /* file:///absolute/path or s3://bucket/prefix */
    int line;              /* where its section starts */
    enum config_copy copy; /* sync: written by every push and backup; async: by copy */
    int64_t timeout;       /* microseconds for one request with all its attempts, default 5 min */
    uint64_t rate_limit;   /* bytes a second, both ways together; 0: none */
    struct config_retention retention; /* its own, completed from that of all */

    /* Of s3:// only; NULL: not given. */
    char *endpoint; /* https://host:port; without one, Amazon's */
    char *region;
    char *ca_file;
    char *profile; /* of the shared credentials file */
    char *access_key_id;
    char *access_key_id_file;
    char *secret_access_key;
    char *secret_access_key_file;
    char *storage_class; /* of packs and manifests */
    char *storage_class_wal;
    char *sse; /* AES256 or aws:kms */
    char *kms_key_id;
    struct config_lock object_lock;
    enum config_choice path_style;
};

struct config_paths {
    char **paths; /* absolute */
    size_t count;
};

struct config {
    char *path; /* absolute path of the file */

    char *cluster_name; /* letters, digits, '_', '-' and '.', not starting with '.'; at most 63 */
    char *pgdata;       /* absolute, or NULL: asked from the server, or the current directory */
    char *conninfo;     /* libpq syntax; default "" */
    char *state_dir;    /* absolute; default /var/lib/pgvigil/<cluster> */
    bool stateless;     /* not of the file: a command that only reads does without state_dir */

    struct config_repository *repositories; /* in the file's order */
    size_t repository_count;

    struct {
        int compress_level; /* zstd, 1..19, default 3 */
        int64_t timeout;    /* microseconds for one push, default 1 min; > 0 */
        int require;        /* sync repositories that must have a WAL file, default 1 */
    } archive;

    struct {
        int jobs;           /* threads, 1..128, default: processors available, at most 8 */
        int compress_level; /* default 1 */
        int64_t timeout;    /* for the WAL of a backup to arrive, default 1 h */
    } backup;

    struct {
        struct config_paths recipients; /* files of certificates: those who may read */
        struct config_paths identity;   /* files of private keys */
        char *identity_passphrase_file; /* or NULL */
    } encryption;

    struct config_retention retention; /* section [retention], which repositories may override */
};

/*
 * Finds the file: a name with a '/' or ending in ".conf" is a path, another one is
 * CONFIG_DIRECTORY/<name>.conf; NULL means the environment's PGVIGIL_CONFIG, and without it the
 * only *.conf file in CONFIG_DIRECTORY. The file exists, or it is ERROR_CONFIG with a hint. The
 * caller frees *path (absolute).
 */
bool config_find(const char *name, char **path, struct error *err);

/* The only *.conf file of a directory; ERROR_CONFIG if there is none or a choice. Caller frees. */
bool config_find_only(const char *directory, char **path, struct error *err);

/* The path that a name stands for, whether the file exists or not (init makes it). Caller frees. */
bool config_find_path(const char *name, char **path, struct error *err);

bool config_load(const char *path, struct config **config, struct error *err);

/* The same from memory; `path` is for messages. Used by config_load, tests and the fuzzer. */
bool config_parse(const char *path, const char *text, size_t length, struct config **config,
                  struct error *err);

void config_free(struct config *config);

#endif
