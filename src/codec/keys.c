/* keys.c - certificates to encrypt for, and private keys to decrypt with */
#include "pgvigil/keys.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "codec/keys_private.h"
#include "pgvigil/buffer.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"

#define KEYS_FILE_MAXIMUM ((size_t)256 * 1024)

bool keys_error(struct error *err, enum error_code code, const char *what)
{
    const unsigned long reason = ERR_peek_last_error();
    const char *text = reason != 0 ? ERR_reason_error_string(reason) : NULL;

    ERR_clear_error();
    return error_set(err, code, "%s: %s", what, text ? text : "OpenSSL gives no reason");
}

static bool keys_usable(const EVP_PKEY *key)
{
    const int type = key ? EVP_PKEY_get_base_id(key) : EVP_PKEY_NONE;

    return type == EVP_PKEY_RSA || type == EVP_PKEY_EC;
}

static bool keys_too_many(const char *what, struct error *err)
{
    return error_set(err, ERROR_CONFIG, "there are more than %d %s", KEYS_MAXIMUM, what);
}

/* New keys read nothing that is encrypted for others. */
static bool keys_hint_missing(const char *path, struct error *err)
{
    const size_t length = strlen(path), suffix = strlen(".crt");
    const bool usual = length > suffix && (strcmp(path + length - suffix, ".crt") == 0 ||
                                           strcmp(path + length - suffix, ".key") == 0);

    if (access(path, F_OK) == 0 || errno != ENOENT)
        return false;
    char *pair = usual ? mem_strndup(path, length - suffix) : mem_strdup("PATH");
    char *word = process_word(pair);

    error_hint(err,
               "put the file there or mend its name in section [encryption]; new keys, for a new "
               "repository, are made by `pgvigil keygen %s`",
               word);
    free(word);
    free(pair);
    return false;
}

/* Whatever the reason: without the file that the configuration names nothing can be done. */
static bool keys_read_file(const char *path, struct buffer *text, struct error *err)
{
    if (files_read_stream(path, KEYS_FILE_MAXIMUM, text, err))
        return true;
    err->code = ERROR_CONFIG;
    return keys_hint_missing(path, err) || process_tell_owner(path, err);
}

/* Whoever named a private key by mistake must not be told to give that one away. */
static void keys_hint_certificate(const char *path, struct error *err)
{
    const struct error why = *err;

    if (access(path, F_OK) != 0 && errno == ENOENT)
        return;
    error_hint(err, "\"recipients\" names certificates (.crt), never private keys%s%s",
               why.hint[0] != '\0' ? ". Only if this is a certificate: " : "", why.hint);
}

static bool keys_add_certificate(struct keys_recipients *recipients, X509 *certificate,
                                 const char *path, struct error *err)
{
    if (recipients->count == KEYS_MAXIMUM) {
        X509_free(certificate);
        return keys_too_many("recipients", err);
    }
    recipients->certificates[recipients->count++] = certificate;
    if (keys_usable(X509_get0_pubkey(certificate)))
        return true;
    error_set(err, ERROR_CONFIG, "nothing can be encrypted for the certificate in \"%s\"", path);
    return error_hint(err, "its key must be RSA or EC: \"pgvigil keygen\" makes one");
}

static bool keys_add_certificates(struct keys_recipients *recipients, const char *path,
                                  struct error *err)
{
    struct buffer text = BUFFER_INIT;
    size_t before = recipients->count;
    bool ok = keys_read_file(path, &text, err);
    BIO *bio = ok ? BIO_new_mem_buf(buffer_text(&text), (int)text.length) : NULL;
    X509 *certificate;

    if (!ok)
        keys_hint_certificate(path, err);
    while (ok && (certificate = PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
        ok = keys_add_certificate(recipients, certificate, path, err);
    BIO_free(bio);
    OPENSSL_cleanse(text.data, text.length); /* somebody may have put a private key with it */
    buffer_free(&text);
    if (!ok || recipients->count > before) {
        ERR_clear_error();
        return ok;
    }
    error_set(err, ERROR_CONFIG, "there is no certificate in \"%s\"", path);
    error_hint(err, "\"recipients\" names files with certificates (PEM); private keys belong in "
                    "\"identity\"");
    ERR_clear_error();
    return false;
}

bool keys_load_recipients(char *const *paths, size_t count, struct keys_recipients **recipients,
                          struct error *err)
{
    struct keys_recipients *loaded = mem_calloc(1, sizeof(*loaded));

    for (size_t i = 0; i < count; i++)
        if (!keys_add_certificates(loaded, paths[i], err)) {
            error_context(err, "could not load the recipients");
            keys_free_recipients(loaded);
            return false;
        }
    *recipients = loaded;
    return true;
}

void keys_free_recipients(struct keys_recipients *recipients)
{
    if (!recipients)
        return;
    for (size_t i = 0; i < recipients->count; i++)
        X509_free(recipients->certificates[i]);
    free(recipients);
}

void keys_describe(const struct keys_recipients *recipients, struct buffer *text)
{
    for (size_t i = 0; i < recipients->count; i++) {
        X509 *certificate = recipients->certificates[i];
        const bool rsa = EVP_PKEY_get_base_id(X509_get0_pubkey(certificate)) == EVP_PKEY_RSA;
        const bool expired = X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0;
        X509_NAME *subject = X509_get_subject_name(certificate);
        char name[256] = "";

        if (X509_NAME_get_text_by_NID(subject, NID_commonName, name, sizeof(name)) < 0)
            X509_NAME_oneline(subject, name, sizeof(name));
        buffer_append_format(text, "%s\"%s\" (%s%s)", i > 0 ? ", " : "", name, rsa ? "RSA" : "EC",
                             expired ? ", expired" : "");
    }
    ERR_clear_error();
}

struct keys_passphrase {
    const char *text; /* or NULL */
    bool asked;       /* the file wants one */
};

/* pem_password_cb of OpenSSL. */
static int keys_give_passphrase(char *room, int size, int writing, void *context)
{
    struct keys_passphrase *passphrase = context;
    size_t length = passphrase->text ? strlen(passphrase->text) : 0;

    (void)writing;
    passphrase->asked = true;
    if (length == 0 || length > (size_t)size)
        return -1;
    memcpy(room, passphrase->text, length);
    return (int)length;
}

static bool keys_explain(const char *path, const struct keys_passphrase *passphrase,
                         struct error *err)
{
    ERR_clear_error();
    if (!passphrase->asked) {
        error_set(err, ERROR_CONFIG, "there is no private key in \"%s\"", path);
        return error_hint(err, "\"identity\" names files with private keys (PEM), one in each");
    }
    if (!passphrase->text) {
        error_set(err, ERROR_CONFIG, "private key \"%s\" is protected by a passphrase", path);
        return error_hint(err, "give it in a file, which identity_passphrase_file in [encryption] "
                               "names, or in the environment as PGVIGIL_PASSPHRASE");
    }
    error_set(err, ERROR_CONFIG, "the passphrase given does not open private key \"%s\"", path);
    return error_hint(err, "one passphrase serves for all private keys: is the file damaged, or is "
                           "this another one's?");
}

static bool keys_add_private(struct keys_identity *identity, const char *path,
                             const char *passphrase, struct error *err)
{
    struct keys_passphrase given = {.text = passphrase};
    struct buffer text = BUFFER_INIT;
    EVP_PKEY *key = NULL;

    if (identity->count == KEYS_MAXIMUM)
        return keys_too_many("private keys", err);
    bool read =
        (files_check_private(path, "private key file", err) || keys_hint_missing(path, err)) &&
        keys_read_file(path, &text, err);
    if (read) {
        BIO *bio = BIO_new_mem_buf(buffer_text(&text), (int)text.length);

        key = PEM_read_bio_PrivateKey(bio, NULL, keys_give_passphrase, &given);
        BIO_free(bio);
        OPENSSL_cleanse(text.data, text.length);
    }
    buffer_free(&text);
    if (!read)
        return false;
    if (!key)
        return keys_explain(path, &given, err);
    identity->keys[identity->count++] = key;
    identity->opened = identity->opened || given.asked;
    return keys_usable(key) ||
           error_set(err, ERROR_CONFIG, "private key \"%s\" is neither RSA nor EC", path);
}

bool keys_load_identity(char *const *paths, size_t count, const char *passphrase,
                        struct keys_identity **identity, struct error *err)
{
    struct keys_identity *loaded = mem_calloc(1, sizeof(*loaded));

    for (size_t i = 0; i < count; i++)
        if (!keys_add_private(loaded, paths[i], passphrase, err)) {
            error_context(err, "could not load the private keys");
            keys_free_identity(loaded);
            return false;
        }
    *identity = loaded;
    return true;
}

void keys_free_identity(struct keys_identity *identity)
{
    if (!identity)
        return;
    for (size_t i = 0; i < identity->count; i++)
        EVP_PKEY_free(identity->keys[i]);
    free(identity);
}

bool keys_took_passphrase(const struct keys_identity *identity)
{
    return identity->opened;
}

bool keys_fit(const struct keys_recipients *recipients, const struct keys_identity *identity)
{
    bool fit = false;

    for (size_t i = 0; i < recipients->count; i++)
        for (size_t k = 0; k < identity->count; k++)
            fit = fit || EVP_PKEY_eq(X509_get0_pubkey(recipients->certificates[i]),
                                     identity->keys[k]) == 1;
    ERR_clear_error();
    return fit;
}
