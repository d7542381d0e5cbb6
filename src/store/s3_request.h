/*
 * s3_request.h - signed requests to one bucket
 */
#ifndef PGVIGIL_STORE_S3_REQUEST_H
#define PGVIGIL_STORE_S3_REQUEST_H

#include "store/http.h"
#include "store/s3_answer.h"
#include "store/s3_credentials.h"
#include "store/s3_sign.h"

#define S3_REQUEST_HEADERS 16 /* at most, ours and those of the signature */

struct s3_bucket {
    char *base; /* of URLs: scheme, host, and "/bucket" in path style */
    char *host; /* as in the Host header */
    char *path; /* what base has behind the host: "" or "/bucket" */
    char *region;
    const char *host_hint; /* for when the host cannot be resolved; NULL: the usual one */
    struct s3_credentials *credentials;
    struct http *http;
};

struct s3_request {
    const char *method;
    const char *key;                              /* the object's full key; NULL: the bucket */
    const char *query;                            /* encoded and sorted; NULL: none */
    struct s3_header headers[S3_REQUEST_HEADERS]; /* further ones, ascending; those to be signed */
    size_t header_count;
    const char *range; /* value of the Range header, or NULL */
    bool checksum;     /* state the body's SHA-256 as x-amz-checksum-sha256, too */
    const struct store_body *body;
    store_sink sink;
    void *context;
    int64_t deadline;
};

bool s3_request_open_bucket(const struct config_repository *settings, const char *name,
                            struct s3_bucket *bucket, struct error *err);
void s3_request_close_bucket(struct s3_bucket *bucket);

/* As http_perform. With credentials that are refused, again with others, as long as there are any. */
bool s3_request_send(struct s3_bucket *bucket, const struct s3_request *request,
                     struct http_response *response, struct error *err);

#endif
