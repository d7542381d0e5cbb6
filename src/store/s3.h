/*
 * s3.h - a bucket, by the S3 protocol
 *
 * URL: s3://bucket/prefix, with endpoint, region and so on from the configuration. A put is one PUT
 * with the SHA-256 of its body signed, so that the server checks what it stores; it is acknowledged
 * when the server has it durably.
 *
 * Overwriting is prevented by If-None-Match: * where the server knows it. That is found out with the
 * store's witness, an object that is known to be there: its own bytes are sent under its name, on
 * condition. 412 means that the server can be relied on; 501, or an acceptance (which changed
 * nothing, the bytes being the same), that we have to look before each put. Between the look and the
 * put another writer may come: then the later one's object stays. Within one cluster names are made
 * by runs of their own, and WAL is compared by digest, so this takes two servers that archive into
 * the same place.
 *
 * Rights: s3:PutObject, s3:GetObject, s3:ListBucket; remove needs s3:DeleteObject, which only expire
 * uses.
 */
#ifndef PGVIGIL_STORE_S3_H
#define PGVIGIL_STORE_S3_H

#include "pgvigil/store.h"

/* settings are borrowed for the life of the store. Touches nothing. */
bool s3_open(const struct config_repository *settings, struct store **store, struct error *err);

#endif
