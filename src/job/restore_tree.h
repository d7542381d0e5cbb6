/*
 * restore_tree.h - writing beneath the target and nowhere else
 *
 * Paths come from a manifest, which is foreign bytes. Each is opened beneath the target's descriptor,
 * or that of its tablespace, by openat2(2), which follows no symbolic link and does not leave it. No
 * file system is made durable before restore_tree_finish.
 */
#ifndef PGVIGIL_RESTORE_TREE_H
#define PGVIGIL_RESTORE_TREE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "job/restore_place.h"
#include "pgvigil/buffer.h"
#include "pgvigil/error.h"

/* The name of global/pg_control until everything else is durable: no server starts without it. */
#define RESTORE_TREE_CONTROL "global/pg_control.pgvigil-tmp"

struct restore_tree;

/* Takes away what a failed restore left, makes the directories and marks them. `text` says in the
 * marker, for people, what is going on. The place must outlive the tree. */
bool restore_tree_new(const struct restore_place *place, const char *text,
                      struct restore_tree **tree, struct error *err);
void restore_tree_free(struct restore_tree *tree);

/* Made private; a directory that is there already is fine. */
bool restore_tree_make_directory(struct restore_tree *tree, const char *path, struct error *err);
/* A new file of this size with nothing in it but a hole. Where the place's mode is RESTORE_DELTA, one
 * that is there is brought to this size; *kept is how many bytes of it were there. */
bool restore_tree_make_file(struct restore_tree *tree, const char *path, uint64_t size,
                            uint64_t *kept, struct error *err);
/* pg_tblspc/<oid>. ERROR_INTEGRITY if that is none of the place's tablespaces or `from` differs. */
bool restore_tree_make_link(struct restore_tree *tree, const char *path, const char *from,
                            struct error *err);
bool restore_tree_set_mode(struct restore_tree *tree, const char *path, mode_t mode,
                           struct error *err);

/* A file that is there, for reading and writing; the caller closes it. Thread-safe. */
bool restore_tree_open(struct restore_tree *tree, const char *path, int *fd, struct error *err);

/* A small file, written anew or over an old one, and read. ERROR_NOT_FOUND when it is absent. */
bool restore_tree_write(struct restore_tree *tree, const char *path, const void *data,
                        size_t length, struct error *err);
bool restore_tree_read(struct restore_tree *tree, const char *path, size_t maximum,
                       struct buffer *buffer, struct error *err);

/* A file without a name, on the target's file system; the caller closes it. */
bool restore_tree_temporary(struct restore_tree *tree, int *fd, struct error *err);

/* ERROR_SYSTEM when `bytes` (those of the target, then of each tablespace) do not fit. */
bool restore_tree_check_space(struct restore_tree *tree, const uint64_t *bytes, struct error *err);
/* The descriptor of root i (0: the target, then the tablespaces); borrowed. */
int restore_tree_descriptor(const struct restore_tree *tree, size_t root);
/* Which of these a path belongs to. */
size_t restore_tree_root(const struct restore_tree *tree, const char *path);

/* Makes all durable, then gives pg_control its name, durably, and takes the marks away. */
bool restore_tree_finish(struct restore_tree *tree, struct error *err);

#endif
