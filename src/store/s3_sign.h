/*
 * s3_sign.h - AWS Signature Version 4 (AWS General Reference, "Create a signed AWS API request")
 */
#ifndef PGVIGIL_STORE_S3_SIGN_H
#define PGVIGIL_STORE_S3_SIGN_H

#include <stddef.h>
#include <stdint.h>

#define S3_HEX_SHA256_SIZE 65 /* with NUL */
#define S3_DATE_SIZE 17       /* "20261124T144500Z" and NUL */

/* The SHA-256 of no bytes at all. */
#define S3_SHA256_OF_NOTHING "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

struct s3_header {
    const char *name; /* lower case */
    const char *value;
};

/* All that is signed. */
struct s3_signing {
    const char *method;
    const char *path;                /* as sent, encoded */
    const char *query;               /* as sent: encoded, sorted, or "" */
    const struct s3_header *headers; /* ascending by name; "host" must be among them */
    size_t header_count;
    const char *payload_sha256; /* hexadecimal */
    const char *date;           /* as in x-amz-date */
    const char *region;
    const char *service; /* "s3" */
    const char *access_key_id;
    const char *secret_access_key;
};

/* The value of the Authorization header. The caller frees it. */
char *s3_sign(const struct s3_signing *signing);

/* Appends text as it stands in URLs and in what is signed: all but letters, digits and "-._~" as
 * %XX; '/' as it is if it separates. The caller frees it. */
enum s3_slash { S3_SLASH_SEPARATES, S3_SLASH_IS_TEXT };
char *s3_sign_encode(const char *text, enum s3_slash slash);

char *s3_sign_hex(const unsigned char *bytes, size_t length, char *text);
char *s3_sign_date(int64_t now, char date[S3_DATE_SIZE]); /* microseconds since 1970 */

#endif
