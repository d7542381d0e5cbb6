/*
 * s3_credentials.h - with what requests are signed
 *
 * In this order, the first that is there: the configuration (values, or files that hold them); the
 * environment (AWS_ACCESS_KEY_ID...); a web identity (AWS_WEB_IDENTITY_TOKEN_FILE, by STS); the
 * shared credentials file; the container's endpoint (AWS_CONTAINER_CREDENTIALS_*); the instance's
 * metadata (IMDSv2). Those that end are fetched anew five minutes before they do. Formats: AWS SDKs
 * and Tools Reference Guide.
 */
#ifndef PGVIGIL_STORE_S3_CREDENTIALS_H
#define PGVIGIL_STORE_S3_CREDENTIALS_H

#include "pgvigil/config.h"
#include "pgvigil/error.h"

struct s3_credentials; /* where they come from, and those in use; safe among threads */

struct s3_keys {
    char *access_key_id;
    char *secret_access_key;
    char *session_token; /* NULL: none */
};

/* settings are borrowed. */
struct s3_credentials *s3_credentials_new(const struct config_repository *settings);
void s3_credentials_free(struct s3_credentials *credentials);

/* A copy of those in use, which the caller frees. ERROR_CONFIG when there are none. */
bool s3_credentials_get(struct s3_credentials *credentials, struct s3_keys *keys,
                        struct error *err);
void s3_credentials_free_keys(struct s3_keys *keys);

/* The server refused these: are there others now? They are looked for where they come from, which may
 * be a file that was written anew, or a platform that lends them for some hours. */
bool s3_credentials_renew(struct s3_credentials *credentials, const struct s3_keys *refused);

#endif
