/* s3_sign.c - AWS Signature Version 4 */
#include "store/s3_sign.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pgvigil/buffer.h"
#include "pgvigil/mem.h"

#define SHA256_SIZE 32

char *s3_sign_hex(const unsigned char *bytes, size_t length, char *text)
{
    for (size_t i = 0; i < length; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    return text;
}

char *s3_sign_date(int64_t now, char date[S3_DATE_SIZE])
{
    time_t seconds = (time_t)(now / 1000000);
    struct tm utc;

    gmtime_r(&seconds, &utc);
    strftime(date, S3_DATE_SIZE, "%Y%m%dT%H%M%SZ", &utc);
    return date;
}

char *s3_sign_encode(const char *text, enum s3_slash slash)
{
    struct buffer encoded = BUFFER_INIT;

    for (; *text != '\0'; text++) {
        const unsigned char c = (unsigned char)*text;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     strchr("-._~", c) || (c == '/' && slash == S3_SLASH_SEPARATES);

        if (plain)
            buffer_append(&encoded, text, 1);
        else
            buffer_append_format(&encoded, "%%%02X", c);
    }
    buffer_append(&encoded, "", 0);
    return buffer_take_text(&encoded);
}

static void sign_hmac(const unsigned char key[SHA256_SIZE], const char *text,
                      unsigned char result[SHA256_SIZE])
{
    unsigned length = SHA256_SIZE;

    if (!HMAC(EVP_sha256(), key, SHA256_SIZE, (const unsigned char *)text, strlen(text), result,
              &length))
        mem_give_up("could not compute an HMAC-SHA256");
}

static char *sign_sha256(const char *text, char hex[S3_HEX_SHA256_SIZE])
{
    unsigned char digest[SHA256_SIZE];

    if (!EVP_Digest(text, strlen(text), digest, NULL, EVP_sha256(), NULL))
        mem_give_up("could not compute a SHA-256");
    return s3_sign_hex(digest, sizeof(digest), hex);
}

/* "host;x-amz-date" */
static void sign_names(const struct s3_signing *signing, struct buffer *to)
{
    for (size_t i = 0; i < signing->header_count; i++)
        buffer_append_format(to, "%s%s", i > 0 ? ";" : "", signing->headers[i].name);
}

static void sign_canonical_request(const struct s3_signing *signing, char hex[S3_HEX_SHA256_SIZE])
{
    struct buffer text = BUFFER_INIT;

    buffer_append_format(&text, "%s\n%s\n%s\n", signing->method, signing->path, signing->query);
    for (size_t i = 0; i < signing->header_count; i++)
        buffer_append_format(&text, "%s:%s\n", signing->headers[i].name, signing->headers[i].value);
    buffer_append_string(&text, "\n");
    sign_names(signing, &text);
    buffer_append_format(&text, "\n%s", signing->payload_sha256);
    sign_sha256(buffer_text(&text), hex);
    buffer_free(&text);
}

/* A key that is good for one day, region and service. */
static void sign_key(const struct s3_signing *signing, const char *day,
                     unsigned char key[SHA256_SIZE])
{
    char *first = mem_printf("AWS4%s", signing->secret_access_key);
    unsigned length = SHA256_SIZE;

    if (!HMAC(EVP_sha256(), first, (int)strlen(first), (const unsigned char *)day, strlen(day), key,
              &length))
        mem_give_up("could not compute an HMAC-SHA256");
    explicit_bzero(first, strlen(first));
    free(first);
    sign_hmac(key, signing->region, key);
    sign_hmac(key, signing->service, key);
    sign_hmac(key, "aws4_request", key);
}

char *s3_sign(const struct s3_signing *signing)
{
    char request[S3_HEX_SHA256_SIZE], signature[S3_HEX_SHA256_SIZE], day[9];
    unsigned char key[SHA256_SIZE], result[SHA256_SIZE];
    struct buffer authorization = BUFFER_INIT;

    snprintf(day, sizeof(day), "%.8s", signing->date);
    sign_canonical_request(signing, request);
    char *scope = mem_printf("%s/%s/%s/aws4_request", day, signing->region, signing->service);
    char *text = mem_printf("AWS4-HMAC-SHA256\n%s\n%s\n%s", signing->date, scope, request);

    sign_key(signing, day, key);
    sign_hmac(key, text, result);
    explicit_bzero(key, sizeof(key));
    buffer_append_format(&authorization, "AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=",
                         signing->access_key_id, scope);
    sign_names(signing, &authorization);
    buffer_append_format(&authorization, ", Signature=%s",
                         s3_sign_hex(result, sizeof(result), signature));
    free(text);
    free(scope);
    return buffer_take_text(&authorization);
}
