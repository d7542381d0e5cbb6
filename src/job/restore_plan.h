/*
 * restore_plan.h - which directories and files a restore makes
 */
#ifndef PGVIGIL_RESTORE_PLAN_H
#define PGVIGIL_RESTORE_PLAN_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "job/restore_tree.h"
#include "pgvigil/manifest.h"

/* Configuration files from outside the data directory go here, under their absolute paths. */
#define RESTORE_PLAN_CONFIGURATION "pgvigil-config"

struct restore_plan_directory {
    char *path;
    char *link; /* of a tablespace: where it was; else NULL */
    mode_t mode;
};

struct restore_plan_file {
    char *path; /* in the tree */
    uint64_t size;
    uint64_t key; /* of its map */
    int64_t modified;
    uint32_t crc32c;
    mode_t mode;
    struct map_place map;
    uint64_t kept; /* bytes of it that were in the target already */
};

struct restore_plan {
    struct restore_plan_directory *directories; /* parents come first */
    size_t directory_count, directory_capacity;
    size_t aside_count; /* so many of them, the first, are of configuration files put aside */
    struct restore_plan_file *files;
    size_t file_count, file_capacity;
    bool configuration; /* there are files from outside the data directory */
    bool in_place;      /* there are tablespaces in the data directory itself */
    const unsigned char *secret;
};

#define RESTORE_PLAN_INIT                                                                          \
    {                                                                                              \
        .directories = NULL                                                                        \
    }

/* Takes from the manifest what a restored directory shall have: not the signal files and labels that
 * a restore writes itself. The manifest's secret is borrowed. ERROR_INTEGRITY when what it lists is no
 * tree: a path that does not lie in one of its directories. */
bool restore_plan_read(struct restore_plan *plan, struct manifest *manifest, struct error *err);
void restore_plan_free(struct restore_plan *plan);

/* Leaves out a directory and what lies in it. */
void restore_plan_leave_out(struct restore_plan *plan, const char *directory);

/* Makes the directories, links and files, the files of full size but without contents, unless they
 * are kept. */
bool restore_plan_make(struct restore_plan *plan, struct restore_tree *tree, struct error *err);

/* Gives directories and files the permissions they had, when nothing is to be written any more. */
bool restore_plan_set_modes(const struct restore_plan *plan, struct restore_tree *tree,
                            struct error *err);

/* NULL when it is not part of the plan. */
const struct restore_plan_file *restore_plan_find(const struct restore_plan *plan,
                                                  const char *path);

#endif
