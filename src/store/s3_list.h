/*
 * s3_list.h - what concerns a bucket's objects as many: ListObjectsV2, DeleteObjects
 */
#ifndef PGVIGIL_STORE_S3_LIST_H
#define PGVIGIL_STORE_S3_LIST_H

#include "store/s3_store.h"

/* The driver's list, and its remove_many. */
bool s3_list(struct store *store, const char *prefix, const char *after, store_list_fn fn,
             void *context, struct error *err);
bool s3_list_remove_many(struct store *store, const char *const *names, size_t count,
                         struct error *err);

/* Is it versioned? Needs the right s3:GetBucketVersioning; without it, no. */
bool s3_list_keeps_versions(struct store *store);

/* Is the bucket there, and may we list it? */
bool s3_list_check_bucket(struct s3_store *store, struct error *err);

/* "Tue, 24 Nov 2026 14:45:00 GMT" (RFC 9110, 5.6.7) into microseconds since 1970. */
bool s3_list_parse_date(const char *text, int64_t *moment);

#endif
