/*
 * keys.h - certificates to encrypt for, and private keys to decrypt with (cms.h does that)
 *
 * A recipient is the public half, an X.509 certificate: it lies on the database host. Its private key
 * belongs to whoever restores. Keys are RSA or EC. A certificate is a public key with a name: neither
 * its signature nor its dates count, as backups must not stop on the day that one expires.
 * What is loaded is constant, and may be used by several threads at once.
 */
#ifndef PGVIGIL_KEYS_H
#define PGVIGIL_KEYS_H

#include <stddef.h>

#include "pgvigil/buffer.h"
#include "pgvigil/error.h"

#define KEYS_MAXIMUM 16 /* certificates, and private keys */

struct keys_recipients; /* certificates */
struct keys_identity;   /* private keys */

/* All certificates of these PEM files, in their order. ERROR_CONFIG for a file that has none, or has
 * one that nothing can be encrypted for. */
bool keys_load_recipients(char *const *paths, size_t count, struct keys_recipients **recipients,
                          struct error *err);
void keys_free_recipients(struct keys_recipients *recipients);
/* Appends for people whose certificates they are: "main" (EC), "old" (RSA, expired) */
void keys_describe(const struct keys_recipients *recipients, struct buffer *text);

/*
 * The private key of each of these PEM files; passphrase (NULL: there is none) opens those that are
 * protected. ERROR_CONFIG for a file that is none, that the passphrase does not open, or that others
 * may read: a file of ours must be 0600 or less, one of root's may be readable for its group.
 */
bool keys_load_identity(char *const *paths, size_t count, const char *passphrase,
                        struct keys_identity **identity, struct error *err);
void keys_free_identity(struct keys_identity *identity);
/* Is any of them protected? */
bool keys_took_passphrase(const struct keys_identity *identity);

/* Is the private key to one of these certificates among them? */
bool keys_fit(const struct keys_recipients *recipients, const struct keys_identity *identity);

#endif
