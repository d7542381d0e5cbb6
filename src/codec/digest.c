#include "pgvigil/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

#include "pgvigil/mem.h"

struct digest_sha256 {
    EVP_MD_CTX *context;
};

_Static_assert(DIGEST_SECRET_SIZE >= XXH3_SECRET_SIZE_MIN, "XXH3 needs a longer secret");

/* SHA-256 fails only where OpenSSL has no memory or cannot load its own algorithms. Going on would
 * mean storing wrong digests, so the process ends, as it does when mem_* finds no memory. */
static void insist(int openssl_result)
{
    if (openssl_result == 1)
        return;
    mem_give_up("OpenSSL cannot compute SHA-256: out of memory, or its installation is broken");
}

static void start(struct digest_sha256 *digest)
{
    insist(EVP_DigestInit_ex(digest->context, EVP_sha256(), NULL));
}

struct digest_sha256 *digest_sha256_new(void)
{
    struct digest_sha256 *digest = mem_alloc(sizeof(*digest));

    digest->context = EVP_MD_CTX_new();
    insist(digest->context != NULL);
    start(digest);
    return digest;
}

void digest_sha256_update(struct digest_sha256 *digest, const void *data, size_t length)
{
    insist(EVP_DigestUpdate(digest->context, data, length));
}

void digest_sha256_finish(struct digest_sha256 *digest, unsigned char result[DIGEST_SHA256_SIZE])
{
    insist(EVP_DigestFinal_ex(digest->context, result, NULL));
    start(digest);
}

void digest_sha256_copy(struct digest_sha256 *to, const struct digest_sha256 *from)
{
    insist(EVP_MD_CTX_copy_ex(to->context, from->context));
}

void digest_sha256_free(struct digest_sha256 *digest)
{
    if (!digest)
        return;
    EVP_MD_CTX_free(digest->context);
    free(digest);
}

void digest_sha256(const void *data, size_t length, unsigned char result[DIGEST_SHA256_SIZE])
{
    insist(EVP_Digest(data, length, result, NULL, EVP_sha256(), NULL));
}

char *digest_to_hex(const unsigned char *bytes, size_t length, char *text)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < length; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    text[2 * length] = '\0';
    return text;
}

static int hex_digit(char character)
{
    if (character >= '0' && character <= '9')
        return character - '0';
    if (character >= 'a' && character <= 'f')
        return character - 'a' + 10;
    return -1;
}

bool digest_from_hex(const char *text, unsigned char *bytes, size_t length)
{
    if (strnlen(text, 2 * length + 1) != 2 * length)
        return false;
    for (size_t i = 0; i < length; i++) {
        int high = hex_digit(text[2 * i]);
        int low = hex_digit(text[2 * i + 1]);

        if (high < 0 || low < 0)
            return false;
        bytes[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

uint64_t digest_block(const void *data, size_t length,
                      const unsigned char secret[DIGEST_SECRET_SIZE])
{
    return XXH3_64bits_withSecret(data, length, secret, DIGEST_SECRET_SIZE);
}

bool digest_random(void *bytes, size_t length, struct error *err)
{
    unsigned char *at = bytes;

    while (length > 0) {
        ssize_t got = getrandom(at, length, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set_errno(err, "could not get random bytes from the system");
        at += got;
        length -= (size_t)got;
    }
    return true;
}
