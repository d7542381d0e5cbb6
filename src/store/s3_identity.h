/*
 * s3_identity.h - credentials that a platform lends for some hours
 *
 * A web identity exchanged at STS (AssumeRoleWithWebIdentity), a container's endpoint, an instance's
 * metadata service (version 2). AWS SDKs and Tools Reference Guide.
 */
#ifndef PGVIGIL_STORE_S3_IDENTITY_H
#define PGVIGIL_STORE_S3_IDENTITY_H

#include <stdint.h>

#include "store/s3_credentials.h"

#define S3_IDENTITY_FOREVER INT64_MAX

/* Does the environment name a web identity? */
bool s3_identity_is_web(void);

/* From the first of them that the environment has; end by clock_now. */
bool s3_identity_fetch(struct s3_keys *keys, int64_t *end, struct error *err);

#endif
