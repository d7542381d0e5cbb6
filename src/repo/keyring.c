/* keyring.c - the keys that the configuration names */
#include "pgvigil/keyring.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/buffer.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"

#define PASSPHRASE_MAXIMUM ((size_t)1024)

struct keyring {
    const struct config *config;
    pthread_mutex_t mutex; /* guards what follows */
    struct keys_recipients *recipients;
    struct keys_identity *identity;
};

struct keyring *keyring_new(const struct config *config)
{
    struct keyring *keyring = mem_calloc(1, sizeof(*keyring));

    keyring->config = config;
    pthread_mutex_init(&keyring->mutex, NULL);
    return keyring;
}

void keyring_free(struct keyring *keyring)
{
    if (!keyring)
        return;
    keys_free_recipients(keyring->recipients);
    keys_free_identity(keyring->identity);
    pthread_mutex_destroy(&keyring->mutex);
    free(keyring);
}

bool keyring_recipients(struct keyring *keyring, const struct keys_recipients **recipients,
                        struct error *err)
{
    const struct config_paths *paths = &keyring->config->encryption.recipients;
    bool ok = true;

    if (paths->count == 0) {
        error_set(err, ERROR_CONFIG,
                  "the repository is encrypted, but there are no recipients to "
                  "encrypt for");
        return error_hint(err, "name their certificates by \"recipients\" in section [encryption] "
                               "of the configuration");
    }
    pthread_mutex_lock(&keyring->mutex);
    if (!keyring->recipients)
        ok = keys_load_recipients(paths->paths, paths->count, &keyring->recipients, err);
    *recipients = keyring->recipients;
    pthread_mutex_unlock(&keyring->mutex);
    return ok;
}

bool keyring_read_passphrase(const char *path, struct buffer *text, struct error *err)
{
    const char *given = getenv(KEYRING_PASSPHRASE);

    if (!path) {
        buffer_append_string(text, given ? given : "");
        return true;
    }
    if (!files_check_private(path, "passphrase file", err) ||
        !files_read_stream(path, PASSPHRASE_MAXIMUM, text, err)) {
        err->code = ERROR_CONFIG;
        process_tell_owner(path, err);
        return error_context(err, "could not read the passphrase");
    }
    text->length = strcspn(buffer_text(text), "\r\n");
    if (text->data)
        text->data[text->length] = '\0';
    return true;
}

static bool keyring_load_identity(struct keyring *keyring, struct error *err)
{
    const struct config_paths *paths = &keyring->config->encryption.identity;
    struct buffer passphrase = BUFFER_INIT;
    const char *file = keyring->config->encryption.identity_passphrase_file;
    bool ok = keyring_read_passphrase(file, &passphrase, err) &&
              keys_load_identity(paths->paths, paths->count,
                                 passphrase.length > 0 ? buffer_text(&passphrase) : NULL,
                                 &keyring->identity, err);

    OPENSSL_cleanse(passphrase.data, passphrase.capacity);
    buffer_free(&passphrase);
    return ok;
}

bool keyring_identity(struct keyring *keyring, const struct keys_identity **identity,
                      struct error *err)
{
    bool ok = true;

    if (keyring->config->encryption.identity.count == 0) {
        error_set(err, ERROR_CONFIG,
                  "the repository is encrypted, and reading it needs a private "
                  "key");
        return error_hint(err, "name its file by \"identity\" in section [encryption] of the "
                               "configuration; it belongs to one of the recipients' certificates");
    }
    pthread_mutex_lock(&keyring->mutex);
    if (!keyring->identity)
        ok = keyring_load_identity(keyring, err);
    *identity = keyring->identity;
    pthread_mutex_unlock(&keyring->mutex);
    return ok;
}

bool keyring_took_environment(struct keyring *keyring)
{
    bool took;

    pthread_mutex_lock(&keyring->mutex);
    took = keyring->config->encryption.identity_passphrase_file == NULL &&
           keyring->identity != NULL && keys_took_passphrase(keyring->identity);
    pthread_mutex_unlock(&keyring->mutex);
    return took;
}
