/* cms.c - encryption: CMS AuthEnvelopedData */
#include "pgvigil/cms.h"

#include <openssl/cms.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <string.h>

#include "codec/cms_der.h"
#include "codec/keys_private.h"

#define CONTENT_MAXIMUM ((size_t)1024 * 1024 * 1024)
#define NONCE_LENGTH 12
#define TAG_LENGTH 16

static bool cms_failed(struct error *err)
{
    return keys_error(err, ERROR_SYSTEM, "could not encrypt");
}

/* OpenSSL's defaults would be PKCS #1 v1.5 and SHA-1. */
static bool cms_set_parameters(CMS_RecipientInfo *info)
{
    EVP_PKEY_CTX *context = CMS_RecipientInfo_get0_pkey_ctx(info);

    if (CMS_RecipientInfo_type(info) == CMS_RECIPINFO_AGREE)
        return EVP_PKEY_CTX_set_ecdh_kdf_md(context, EVP_sha256()) > 0;
    return EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_OAEP_PADDING) > 0 &&
           EVP_PKEY_CTX_set_rsa_oaep_md(context, EVP_sha256()) > 0 &&
           EVP_PKEY_CTX_set_rsa_mgf1_md(context, EVP_sha256()) > 0;
}

static bool cms_add_recipients(CMS_ContentInfo *cms, const struct keys_recipients *recipients)
{
    for (size_t i = 0; i < recipients->count; i++) {
        CMS_RecipientInfo *info =
            CMS_add1_recipient_cert(cms, recipients->certificates[i], CMS_KEY_PARAM);

        if (!info || !cms_set_parameters(info))
            return false;
    }
    return true;
}

/* The structure without its content, for cms_der.h. */
static bool cms_encode(CMS_ContentInfo *cms, unsigned char **encoded, size_t *length)
{
    int size = i2d_CMS_ContentInfo(cms, encoded);

    *length = size > 0 ? (size_t)size : 0;
    return size > 0;
}

/*
 * OpenSSL makes the content's key and keeps it to itself, but shows the cipher that it has set up: so
 * the bytes go through that one directly, not through chains of BIOs.
 */
static bool cms_encrypt_content(CMS_ContentInfo *cms, unsigned char *data, size_t length)
{
    BIO *nowhere = BIO_new(BIO_s_null());
    BIO *chain = nowhere ? CMS_dataInit(cms, nowhere) : NULL;
    EVP_CIPHER_CTX *cipher = NULL;
    unsigned char none[TAG_LENGTH]; /* GCM has nothing left to give at the end */
    int done = 0, rest = 0;
    bool ok = chain && BIO_get_cipher_ctx(chain, &cipher) > 0 && cipher &&
              (length == 0 || EVP_EncryptUpdate(cipher, data, &done, data, (int)length) > 0) &&
              (size_t)done == length && EVP_EncryptFinal_ex(cipher, none, &rest) > 0 && rest == 0 &&
              CMS_dataFinal(cms, chain) > 0;

    BIO_free_all(chain ? chain : nowhere);
    return ok;
}

bool cms_encrypt(const struct keys_recipients *recipients, void *data, size_t length,
                 struct buffer *head, struct buffer *tail, struct error *err)
{
    CMS_ContentInfo *cms = CMS_AuthEnvelopedData_create(EVP_aes_256_gcm());
    unsigned char *encoded = NULL;
    size_t encoded_length;
    struct cms_der der;
    bool ok = length <= CONTENT_MAXIMUM && recipients->count > 0 && cms &&
              cms_add_recipients(cms, recipients) && cms_encrypt_content(cms, data, length) &&
              cms_encode(cms, &encoded, &encoded_length);

    if (!ok)
        cms_failed(err);
    else if (!cms_der_parse(encoded, encoded_length, &der) || der.content.data)
        ok = error_set(err, ERROR_SYSTEM,
                       "could not encrypt: OpenSSL made a structure of another form");
    else if (encoded_length > CMS_OVERHEAD - 2 * CMS_DER_HEADER)
        ok = error_set(err, ERROR_CONFIG,
                       "could not encrypt: the recipients' names and keys take more than %zu kB",
                       CMS_OVERHEAD / 1024);
    else
        cms_der_build(&der, CMS_DER_CONTENT_THERE, length, head, tail);
    OPENSSL_free(encoded);
    CMS_ContentInfo_free(cms);
    return ok;
}

static bool cms_is_our_agreement(CMS_RecipientInfo *info)
{
    X509_ALGOR *agreement = NULL;
    ASN1_OCTET_STRING *material;

    if (CMS_RecipientInfo_kari_get0_alg(info, &agreement, &material) <= 0 ||
        OBJ_obj2nid(agreement->algorithm) != NID_dhSinglePass_stdDH_sha256kdf_scheme)
        return false;

    X509_ALGOR *wrap = ASN1_TYPE_unpack_sequence(ASN1_ITEM_rptr(X509_ALGOR), agreement->parameter);
    const bool ours = wrap && OBJ_obj2nid(wrap->algorithm) == NID_id_aes256_wrap;

    X509_ALGOR_free(wrap);
    return ours;
}

static bool cms_is_our_transport(CMS_RecipientInfo *info)
{
    X509_ALGOR *transport = NULL;

    return CMS_RecipientInfo_ktri_get0_algs(info, NULL, NULL, &transport) > 0 &&
           OBJ_obj2nid(transport->algorithm) == NID_rsaesOaep;
}

/*
 * Only keys handed over as cms_encrypt does it: whoever forges an object does not get to choose which of
 * OpenSSL's readers take it. CRYPTO_128_unwrap_pad, for one, clears 8 bytes behind its output (3.0.19).
 */
static bool cms_recipients_are_ours(CMS_ContentInfo *cms)
{
    STACK_OF(CMS_RecipientInfo) *infos = CMS_get0_RecipientInfos(cms);

    for (int i = 0; i < sk_CMS_RecipientInfo_num(infos); i++) {
        CMS_RecipientInfo *info = sk_CMS_RecipientInfo_value(infos, i);
        const int type = CMS_RecipientInfo_type(info);

        if (!(type == CMS_RECIPINFO_AGREE && cms_is_our_agreement(info)) &&
            !(type == CMS_RECIPINFO_TRANS && cms_is_our_transport(info)))
            return false;
    }
    return true;
}

static bool cms_damaged(struct error *err, const char *why)
{
    ERR_clear_error();
    return error_set(err, ERROR_INTEGRITY, "it cannot be decrypted: %s", why);
}

/* Tries one key on one recipient. Those of the other kind do not matter. */
static bool cms_try_key(CMS_ContentInfo *cms, CMS_RecipientInfo *info, EVP_PKEY *key)
{
    const int type = CMS_RecipientInfo_type(info);
    bool opened = false;

    if (type == CMS_RECIPINFO_TRANS && EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA) {
        EVP_PKEY_up_ref(key);
        opened =
            CMS_RecipientInfo_set0_pkey(info, key) > 0 && CMS_RecipientInfo_decrypt(cms, info) > 0;
        CMS_RecipientInfo_set0_pkey(info, NULL);
    } else if (type == CMS_RECIPINFO_AGREE && EVP_PKEY_get_base_id(key) == EVP_PKEY_EC) {
        STACK_OF(CMS_RecipientEncryptedKey) *keys = CMS_RecipientInfo_kari_get0_reks(info);

        for (int i = 0; !opened && i < sk_CMS_RecipientEncryptedKey_num(keys); i++)
            opened = CMS_RecipientInfo_kari_set0_pkey(info, key) > 0 &&
                     CMS_RecipientInfo_kari_decrypt(
                         cms, info, sk_CMS_RecipientEncryptedKey_value(keys, i)) > 0;
        CMS_RecipientInfo_kari_set0_pkey(info, NULL);
    }
    return opened;
}

static bool cms_try_keys(CMS_ContentInfo *cms, const struct keys_identity *identity)
{
    STACK_OF(CMS_RecipientInfo) *infos = CMS_get0_RecipientInfos(cms);
    bool opened = false;

    for (size_t k = 0; !opened && k < identity->count; k++)
        for (int i = 0; !opened && i < sk_CMS_RecipientInfo_num(infos); i++)
            opened = cms_try_key(cms, sk_CMS_RecipientInfo_value(infos, i), identity->keys[k]);
    ERR_clear_error();
    return opened;
}

/* Whose certificate a recipient is, as issuer and serial number, which is how CMS names it. */
static void cms_describe(CMS_RecipientInfo *info, struct buffer *text)
{
    X509_NAME *issuer = NULL;
    ASN1_INTEGER *serial = NULL;

    if (CMS_RecipientInfo_type(info) == CMS_RECIPINFO_TRANS) {
        CMS_RecipientInfo_ktri_get0_signer_id(info, NULL, &issuer, &serial);
    } else if (CMS_RecipientInfo_type(info) == CMS_RECIPINFO_AGREE) {
        STACK_OF(CMS_RecipientEncryptedKey) *keys = CMS_RecipientInfo_kari_get0_reks(info);

        if (sk_CMS_RecipientEncryptedKey_num(keys) > 0)
            CMS_RecipientEncryptedKey_get0_id(sk_CMS_RecipientEncryptedKey_value(keys, 0), NULL,
                                              NULL, NULL, &issuer, &serial);
    }
    BIGNUM *number = serial ? ASN1_INTEGER_to_BN(serial, NULL) : NULL;
    char *digits = number ? BN_bn2hex(number) : NULL;
    char name[256] = "";

    if (issuer)
        X509_NAME_oneline(issuer, name, sizeof(name));
    buffer_append_format(text, "%s\"%s\" %s", text->length > 0 ? ", " : "", name,
                         digits ? digits : "");
    OPENSSL_free(digits);
    BN_free(number);
}

static bool cms_no_key(CMS_ContentInfo *cms, const struct keys_identity *identity,
                       struct error *err)
{
    STACK_OF(CMS_RecipientInfo) *infos = CMS_get0_RecipientInfos(cms);
    struct buffer text = BUFFER_INIT;

    for (int i = 0; i < sk_CMS_RecipientInfo_num(infos) && i < KEYS_MAXIMUM; i++)
        cms_describe(sk_CMS_RecipientInfo_value(infos, i), &text);
    ERR_clear_error();
    error_set(err, ERROR_CONFIG, "it is encrypted, and %s",
              identity->count == 1 ? "the private key given does not open it"
                                   : "none of the private keys given opens it");
    error_detail(err, "the certificates that it was encrypted for, by issuer and serial number: %s",
                 buffer_text(&text));
    buffer_free(&text);
    return error_hint(err, "add the private key of one of them to \"identity\" in [encryption]");
}

/* Only what cms_encrypt would have set up: nothing weaker is taken for it. */
static bool cms_is_ours(EVP_CIPHER_CTX *cipher)
{
    return EVP_CIPHER_CTX_get_nid(cipher) == NID_aes_256_gcm &&
           EVP_CIPHER_CTX_get_iv_length(cipher) == NONCE_LENGTH &&
           EVP_CIPHER_CTX_get_tag_length(cipher) == TAG_LENGTH;
}

static bool cms_decrypt_content(CMS_ContentInfo *cms, unsigned char *data, size_t length,
                                struct error *err)
{
    BIO *nothing = BIO_new_mem_buf("", 0);
    BIO *chain = nothing ? CMS_dataInit(cms, nothing) : NULL;
    EVP_CIPHER_CTX *cipher = NULL;
    unsigned char none[TAG_LENGTH];
    int done = 0, rest = 0;
    bool ok = chain && BIO_get_cipher_ctx(chain, &cipher) > 0 && cipher && cms_is_ours(cipher);

    if (!ok)
        cms_damaged(err, "its content is not encrypted with AES-256-GCM and a tag of 16 bytes");
    else if (!(ok =
                   (length == 0 || EVP_DecryptUpdate(cipher, data, &done, data, (int)length) > 0) &&
                   (size_t)done == length && EVP_DecryptFinal_ex(cipher, none, &rest) > 0 &&
                   rest == 0))
        cms_damaged(err, "its authentication tag does not hold");
    BIO_free_all(chain ? chain : nothing);
    return ok;
}

/* Exactly these bytes, and of this type. */
static CMS_ContentInfo *cms_decode(const struct buffer *bytes)
{
    const unsigned char *at = bytes->data;
    CMS_ContentInfo *cms = d2i_CMS_ContentInfo(NULL, &at, (long)bytes->length);

    if (cms && (at != bytes->data + bytes->length ||
                OBJ_obj2nid(CMS_get0_type(cms)) != NID_id_smime_ct_authEnvelopedData)) {
        CMS_ContentInfo_free(cms);
        cms = NULL;
    }
    return cms;
}

bool cms_decrypt(const struct keys_identity *identity, void *bytes, size_t length,
                 unsigned char **content, size_t *content_length, struct error *err)
{
    struct buffer rest = BUFFER_INIT;
    CMS_ContentInfo *cms = NULL;
    struct cms_der der;
    bool ok = false;

    if (length <= CONTENT_MAXIMUM + CMS_OVERHEAD && cms_der_parse(bytes, length, &der) &&
        der.content.data && length - der.content.length <= CMS_OVERHEAD) {
        cms_der_build(&der, CMS_DER_CONTENT_LEFT_OUT, 0, &rest, &rest);
        cms = cms_decode(&rest);
    }
    if (!cms) {
        cms_damaged(err, "it is no CMS AuthEnvelopedData in DER");
    } else if (!cms_recipients_are_ours(cms)) {
        cms_damaged(err, "its key is not handed over as the repository format has it");
    } else if (!cms_try_keys(cms, identity)) {
        cms_no_key(cms, identity, err);
    } else {
        *content = (unsigned char *)bytes + (der.content.data - (const unsigned char *)bytes);
        *content_length = der.content.length;
        ok = cms_decrypt_content(cms, *content, *content_length, err);
    }
    CMS_ContentInfo_free(cms);
    buffer_free(&rest);
    return ok;
}
