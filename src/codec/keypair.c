/* keypair.c - new keys: a private key and its certificate */
#include "pgvigil/keypair.h"

#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "codec/keys_private.h"

#define RSA_BITS 3072u
#define SERIAL_SIZE 16              /* random bytes: RFC 5280 allows up to 20 */
#define NO_EXPIRY "99991231235959Z" /* RFC 5280, 4.1.2.5: it has no well-defined expiration date */

static bool add_extension(X509 *certificate, int nid, const char *value)
{
    X509V3_CTX context;

    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);

    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool ok = extension && X509_add_ext(certificate, extension, -1) > 0;

    X509_EXTENSION_free(extension);
    return ok;
}

/* Random, so that two certificates of one name are told apart; positive, and never zero. */
static bool set_serial(X509 *certificate)
{
    unsigned char bytes[SERIAL_SIZE];
    BIGNUM *number;
    bool ok;

    if (RAND_bytes(bytes, sizeof(bytes)) <= 0)
        return false;
    bytes[0] = (unsigned char)((bytes[0] & 0x7F) | 0x40);
    number = BN_bin2bn(bytes, sizeof(bytes), NULL);
    ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;
    BN_free(number);
    return ok;
}

static bool set_name(X509 *certificate, const char *name)
{
    X509_NAME *subject = X509_get_subject_name(certificate);

    return X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1,
                                      -1, 0) > 0 &&
           X509_set_issuer_name(certificate, subject) > 0;
}

static bool fill_certificate(X509 *certificate, EVP_PKEY *key, enum keypair_kind kind,
                             const char *name)
{
    return X509_set_version(certificate, X509_VERSION_3) > 0 && set_serial(certificate) &&
           set_name(certificate, name) && X509_set_pubkey(certificate, key) > 0 &&
           X509_gmtime_adj(X509_getm_notBefore(certificate), 0) &&
           ASN1_TIME_set_string(X509_getm_notAfter(certificate), NO_EXPIRY) > 0 &&
           add_extension(certificate, NID_basic_constraints, "critical,CA:FALSE") &&
           add_extension(certificate, NID_key_usage,
                         kind == KEYPAIR_EC ? "critical,keyAgreement"
                                            : "critical,keyEncipherment") &&
           add_extension(certificate, NID_subject_key_identifier, "hash") &&
           X509_sign(certificate, key, EVP_sha256()) > 0;
}

static bool take_text(BIO *bio, struct buffer *text)
{
    char *data = NULL;
    long length = BIO_get_mem_data(bio, &data);

    if (length <= 0)
        return false;
    buffer_append(text, data, (size_t)length);
    return true;
}

static bool write_private(EVP_PKEY *key, const char *passphrase, struct buffer *text)
{
    BIO *bio = BIO_new(BIO_s_secmem());
    bool ok =
        bio &&
        PEM_write_bio_PKCS8PrivateKey(bio, key, passphrase ? EVP_aes_256_cbc() : NULL, passphrase,
                                      passphrase ? (int)strlen(passphrase) : 0, NULL, NULL) > 0 &&
        take_text(bio, text);

    BIO_free(bio);
    return ok;
}

static bool write_certificate(X509 *certificate, struct buffer *text)
{
    BIO *bio = BIO_new(BIO_s_mem());
    bool ok = bio && PEM_write_bio_X509(bio, certificate) > 0 && take_text(bio, text);

    BIO_free(bio);
    return ok;
}

bool keypair_make(enum keypair_kind kind, const char *name, const char *passphrase,
                  struct buffer *private_key, struct buffer *certificate, struct error *err)
{
    EVP_PKEY *key = kind == KEYPAIR_EC ? EVP_EC_gen("P-256") : EVP_RSA_gen(RSA_BITS);
    X509 *made = X509_new();
    bool ok = key && made && fill_certificate(made, key, kind, name) &&
              write_private(key, passphrase, private_key) && write_certificate(made, certificate);

    X509_free(made);
    EVP_PKEY_free(key);
    return ok || keys_error(err, ERROR_SYSTEM, "could not make a pair of keys");
}
