/* s3_store.h - what the files of the S3 driver share; s3.h says how it works */
#ifndef PGVIGIL_STORE_S3_STORE_H
#define PGVIGIL_STORE_S3_STORE_H

#include "pgvigil/store.h"
#include "store/s3_request.h"

struct s3_store {
    struct store base;
    const struct config_repository *settings;
    struct s3_bucket bucket;
    char *prefix; /* of keys: "" or with a '/' at its end */
};

/* The caller frees it. */
char *s3_key(const struct s3_store *store, const char *name);

/* "could not <doing> object "name" in "url": server answered ...". Returns false. */
bool s3_refused(const struct s3_store *store, const struct http_response *response,
                const char *doing, const char *name, struct error *err);

#endif
