/*
 * files.h - files and directories of the local system
 *
 * Durable means: after true is returned the bytes and the name survive a power cut. Everything made
 * here is private (0600, 0700) unless a mode is given.
 */
#ifndef PGVIGIL_FILES_H
#define PGVIGIL_FILES_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "pgvigil/buffer.h"
#include "pgvigil/error.h"

/* Appends the whole file; ERROR_NOT_FOUND if absent, an error if larger than `maximum` bytes. It never waits:
 * what is not a regular file, as a FIFO that somebody has put there, is an error. */
bool files_read(const char *path, size_t maximum, struct buffer *buffer, struct error *err);
/* The same, but a pipe is read to its end, as the shell's <(...): for what a person names. */
bool files_read_stream(const char *path, size_t maximum, struct buffer *buffer, struct error *err);
/* Is what was opened, with O_NONBLOCK lest that wait, a regular file? */
bool files_check_regular(int fd, const char *path, struct error *err);

/* Can nobody but its owner use this file? ERROR_CONFIG, with a hint, if not; `what` it is. As PostgreSQL
 * does with its server's key, a file that root owns may be readable for its group. */
bool files_check_private(const char *path, const char *what, struct error *err);

/* Writes a file anew, durably, by a temporary name, which starts so, and rename. */
#define FILES_TEMPORARY ".pgvigil-"
bool files_write(const char *path, const void *data, size_t length, mode_t mode, struct error *err);
/* The same where nothing has that name; ERROR_EXISTS where something does. */
bool files_create(const char *path, const void *data, size_t length, mode_t mode,
                  struct error *err);

/* Where what this process alone needs may lie: the environment's TMPDIR, or else /var/tmp. */
const char *files_temporary_place(void);
/* A new directory there, locked. The caller removes it, frees *path and closes *lock; where it is killed
 * before, the next who makes one removes it. */
bool files_temporary_directory(char **path, int *lock, struct error *err);
/* Removes from a directory what killed processes have left: files and directories of ours whose names begin
 * so, a minute old (as they are there for an instant before they are locked) and locked by nobody. Whatever
 * cannot be removed is in nobody's way. */
void files_temporary_sweep(const char *directory, const char *prefix);
/* A file without a name in a directory, for reading and writing. The caller closes it. */
bool files_temporary(const char *directory, int *fd, struct error *err);
/* All of it, whoever made the file; to read behind its end is ERROR_SYSTEM. Any thread. */
bool files_temporary_write(int fd, const void *data, size_t length, uint64_t offset,
                           struct error *err);
bool files_temporary_read(int fd, void *data, size_t length, uint64_t offset, struct error *err);

/* write(2) and read(2) until all is done; read stops early only at end of file. */
bool files_write_fd(int fd, const char *path, const void *data, size_t length, struct error *err);
bool files_read_fd(int fd, const char *path, void *data, size_t length, size_t *got,
                   struct error *err);

/* fsync of a directory (or file) by name. */
bool files_sync(const char *path, struct error *err);

/* mkdir -p with mode 0700, each new directory's parent fsynced. */
bool files_make_directories(const char *path, struct error *err);

/*
 * rm -r, not following symbolic links (one at `path` itself is removed as such); absence is fine. A
 * directory on another file system is an error, with what lies elsewhere perhaps removed already.
 */
bool files_remove_tree(const char *path, struct error *err);

enum files_emptiness { FILES_ABSENT, FILES_EMPTY, FILES_NOT_EMPTY, FILES_NOT_DIRECTORY };
bool files_emptiness(const char *path, enum files_emptiness *result, struct error *err);

/* Absolute form without resolving symbolic links: cwd put before a relative path. Caller frees. */
bool files_absolute(const char *path, char **absolute, struct error *err);

/* "a" + "b/c" = "a/b/c", no doubled slashes. Caller frees. */
char *files_join(const char *directory, const char *name);

/*
 * pread of `length` bytes at `offset` that leaves no pages in the operating system's cache that
 * were not there before (RWF_DONTCACHE where the kernel has it, else by residence and fadvise, with
 * reading ahead switched off for the descriptor). *got < length only at end of file.
 */
bool files_pread_uncached(int fd, const char *path, void *data, size_t length, uint64_t offset,
                          size_t *got, struct error *err);

#endif
