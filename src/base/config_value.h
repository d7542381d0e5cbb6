/*
 * config_value.h - the values of a configuration, by kind
 *
 * Each config_value_* takes the text of one key's value and puts what it says into *target, of the
 * type named here, in place of what was there (freed); a list is added to. False, with
 * ERROR_CONFIG, for a value that is not of its kind or out of bounds.
 */
#ifndef PGVIGIL_BASE_CONFIG_VALUE_H
#define PGVIGIL_BASE_CONFIG_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgvigil/error.h"

/* What a key is called, and which values it takes. */
struct config_key {
    const char *section;
    const char *key;
    bool (*parse)(const struct config_key *key, const char *value, void *target, struct error *err);
    size_t offset; /* in struct config, of a [repository] in struct config_repository */
    int64_t minimum;
    int64_t maximum;
};

/* char *: anything */
bool config_value_text(const struct config_key *key, const char *value, void *target,
                       struct error *err);
/* char * */
bool config_value_cluster_name(const struct config_key *key, const char *value, void *target,
                               struct error *err);
/* char *: an absolute path */
bool config_value_directory(const struct config_key *key, const char *value, void *target,
                            struct error *err);
/* struct config_paths: absolute paths, separated by commas */
bool config_value_list(const struct config_key *key, const char *value, void *target,
                       struct error *err);
/* char *: file:// or s3:// */
bool config_value_url(const struct config_key *key, const char *value, void *target,
                      struct error *err);
/* char *: what goes into a header or a URL */
bool config_value_word(const struct config_key *key, const char *value, void *target,
                       struct error *err);
/* struct config_lock: "governance 30 d" */
bool config_value_object_lock(const struct config_key *key, const char *value, void *target,
                              struct error *err);
/* char * */
bool config_value_sse(const struct config_key *key, const char *value, void *target,
                      struct error *err);
/* enum config_choice */
bool config_value_yes_or_no(const struct config_key *key, const char *value, void *target,
                            struct error *err);
/* enum config_copy */
bool config_value_copy(const struct config_key *key, const char *value, void *target,
                       struct error *err);
/* uint64_t: bytes a second */
bool config_value_rate(const struct config_key *key, const char *value, void *target,
                       struct error *err);
/* int */
bool config_value_integer(const struct config_key *key, const char *value, void *target,
                          struct error *err);
/* int64_t: microseconds */
bool config_value_duration(const struct config_key *key, const char *value, void *target,
                           struct error *err);

#endif
