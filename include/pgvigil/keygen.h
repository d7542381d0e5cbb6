/*
 * keygen.h - new keys as files
 *
 * The private key is for whoever restores, the certificate for whoever writes backups. Nothing that is
 * there is ever replaced: a private key that is lost takes all with it that was encrypted for it.
 */
#ifndef PGVIGIL_KEYGEN_H
#define PGVIGIL_KEYGEN_H

#include "pgvigil/error.h"
#include "pgvigil/keypair.h"

#define KEYGEN_PASSPHRASE_MAXIMUM 1000 /* bytes */

struct keygen_request {
    const char *path;       /* both files, without ".key" and ".crt" */
    const char *name;       /* common name of the certificate; NULL: the last component of path */
    const char *passphrase; /* that is to protect the private key, or NULL */
    enum keypair_kind kind;
};

struct keygen_result {
    char *private_key; /* absolute paths; keygen_free frees them */
    char *certificate;
};

/*
 * Writes <path>.key (0600) and <path>.crt (0644), durably, the private key first: one without its
 * certificate does no harm, a certificate without its private key would. ERROR_EXISTS if either is there
 * already, and then nothing is written.
 */
bool keygen_run(const struct keygen_request *request, struct keygen_result *result,
                struct error *err);
void keygen_free(struct keygen_result *result);

#endif
