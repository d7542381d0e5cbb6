/*
 * keyring.h - the keys that [encryption] of the configuration names, loaded when they are needed
 *
 * Who only writes never touches a private key; who only reads needs no recipient. May be used by
 * several threads at once.
 */
#ifndef PGVIGIL_KEYRING_H
#define PGVIGIL_KEYRING_H

#include "pgvigil/buffer.h"
#include "pgvigil/config.h"
#include "pgvigil/error.h"
#include "pgvigil/keys.h"

#define KEYRING_PASSPHRASE "PGVIGIL_PASSPHRASE" /* in the environment */

/* The first line of that file, which nobody else may read, or where path is NULL what the environment
 * says; empty: there is none. It is the caller's to wipe. */
bool keyring_read_passphrase(const char *path, struct buffer *text, struct error *err);

struct keyring;

struct keyring *keyring_new(const struct config *config);
void keyring_free(struct keyring *keyring);

/* What is given belongs to the keyring. ERROR_CONFIG, with a hint, where none are configured or they
 * cannot be used. */
bool keyring_recipients(struct keyring *keyring, const struct keys_recipients **recipients,
                        struct error *err);
bool keyring_identity(struct keyring *keyring, const struct keys_identity **identity,
                      struct error *err);
/* Have private keys been loaded that the environment's passphrase opened? */
bool keyring_took_environment(struct keyring *keyring);

#endif
