/*
 * file.h - the store that keeps objects as files in a directory
 *
 * file:///srv/backup keeps object "a/b" in /srv/backup/a/b, so names whose one is a directory of
 * the other ("a" and "a/b") exclude each other, which a bucket would not mind; pgvigil's never do
 * that.
 *
 * The root is opened anew for every operation and must be the directory it was at the first: when
 * something is mounted over it, or unmounted, while a long process runs, the next operation
 * refuses, as nobody has proven the identity of what is there now. Symbolic links on the way to the
 * root are the administrator's business; below it none is followed, and one in the place of an
 * object or directory is an error, never absence.
 *
 * How an object comes to be. It is written to <root>/.tmp/<random>, fsynced, and given its name by
 * a rename that replaces nothing. Before that, the directories that lead to it have been made and
 * each one's entry has been made durable by an fsync of its parent, also where the directory was
 * there already: the process that made it may have been killed before its own fsync. After the
 * rename the object's own directory is fsynced. So at any power cut the name leads to the whole
 * object or to nothing, and once put_commit has answered, to the whole object. If that last fsync
 * fails, the object stays: another process may have found and acknowledged it in the meantime.
 *
 * A store remembers some of the directories it made durable, so that the packs of a run do not pay
 * for the whole way each. That is right because nothing of pgvigil ever removes a directory below
 * the root, empty ones included; remove must not start to.
 *
 * Nothing stays in the operating system's cache: pages written are dropped after the fsync, pages
 * read are dropped when read.
 *
 * file.c has the driver's table and the objects, file_tree.c the directories, file_list.c list.
 */
/* layer: store */
#ifndef PGVIGIL_STORE_FILE_H
#define PGVIGIL_STORE_FILE_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "pgvigil/store.h"

#define FILE_KNOWN_MAXIMUM 64

/* A directory whose entry in its parent is durable. */
struct file_known {
    char *path; /* relative to the root; NULL: unused */
    dev_t device;
    ino_t inode;
};

struct file_store {
    struct store base;
    char *root;           /* absolute */
    atomic_flag swept;    /* leftovers of killed processes have been looked for */
    pthread_mutex_t lock; /* guards all that follows */
    bool root_seen;
    dev_t root_device; /* of the root when it was first opened */
    ino_t root_inode;
    struct file_known known[FILE_KNOWN_MAXIMUM];
    unsigned known_next;
};

/* ERROR_CONFIG unless the URL is file:// and an absolute path other than "/". */
bool file_open(const char *url, struct store **store, struct error *err);

/* file_tree.c */

/* "could not <doing> object "name" in "url": <errno's text>", ERROR_STORE, with a hint for errors
 * that have a usual cause. Returns false. */
bool file_tree_failed(const struct file_store *store, const char *doing, const char *name,
                      struct error *err);
/* ERROR_NOT_FOUND. Returns false. */
bool file_tree_absent(const struct file_store *store, const char *name, struct error *err);

void file_tree_info(const struct stat *status, struct store_info *info);

/* A root that is absent or cannot be opened is ERROR_STORE. The caller closes *root. */
bool file_tree_open_root(struct file_store *store, int *root, struct error *err);

enum file_way {
    FILE_WAY_FOLLOW, /* goes along the directories that are there */
    FILE_WAY_SYNC,   /* and makes each one's entry in its parent durable */
    FILE_WAY_MAKE    /* and makes those that are not there */
};

/* Opens the directory that holds `name` (all up to its last '/'; the caller closes it) and finds
 * the last component (within name). A directory that is not there is ERROR_NOT_FOUND. */
bool file_tree_walk(struct file_store *store, int root, const char *name, enum file_way way,
                    const char *doing, int *directory, const char **last, struct error *err);

/* Makes the root, durably, with the directories above it. */
bool file_tree_create_root(struct file_store *store, struct error *err);

void file_tree_forget(struct file_store *store); /* frees what known holds */

/* file_list.c: the driver's list */
bool file_list(struct store *store, const char *prefix, const char *after, store_list_fn fn,
               void *context, struct error *err);

#endif
