/*
 * key_files.h - pairs of keys in files
 */
#ifndef PGVIGIL_TESTS_KEY_FILES_H
#define PGVIGIL_TESTS_KEY_FILES_H

#include "pgvigil/keypair.h"

/* Makes <directory>/<name>.key, mode 0600, and <directory>/<name>.crt. */
void key_files_make(const char *directory, const char *name, enum keypair_kind kind,
                    const char *passphrase);

/* Runs openssl(1), which must succeed; the arguments end in NULL. What it prints is appended. */
void key_files_openssl(struct buffer *output, ...) __attribute__((sentinel));

/* <directory>/<name><suffix>, to be freed. */
char *key_files_path(const char *directory, const char *name, const char *suffix);

#endif
