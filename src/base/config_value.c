/*
 * config_value.c - the values of a configuration: what each kind looks like, and within which bounds
 */
#include "config_value.h"

#include <stdlib.h>
#include <string.h>

#include "config_name.h"
#include "pgvigil/config.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "pgvigil/units.h"

static void keep(char **target, const char *value)
{
    free(*target);
    *target = mem_strdup(value);
}

bool config_value_text(const struct config_key *key, const char *value, void *target,
                       struct error *err)
{
    (void)key;
    (void)err;
    keep(target, value);
    return true;
}

bool config_value_cluster_name(const struct config_key *key, const char *value, void *target,
                               struct error *err)
{
    (void)key;
    if (!config_is_name(value, "_-.") || value[0] == '.') {
        error_set(err, ERROR_CONFIG, "invalid cluster name \"%s\"", value);
        return error_hint(err,
                          "A name has up to %d letters, digits, '_', '-' and '.', and does "
                          "not start with '.'.",
                          CONFIG_NAME_MAXIMUM);
    }
    keep(target, value);
    return true;
}

bool config_value_directory(const struct config_key *key, const char *value, void *target,
                            struct error *err)
{
    if (value[0] != '/')
        return error_set(err, ERROR_CONFIG, "\"%s\" must be an absolute path, not \"%s\"", key->key,
                         value);
    char **path = target;
    free(*path);
    *path = files_join(value, "");
    return true;
}

bool config_value_list(const struct config_key *key, const char *value, void *target,
                       struct error *err)
{
    struct config_paths *list = target;
    size_t capacity = list->count;

    for (;;) {
        const char *start = value + strspn(value, " \t");
        size_t length = strcspn(start, ",");
        const char *next = start + length;

        while (length > 0 && (start[length - 1] == ' ' || start[length - 1] == '\t'))
            length--;

        char *path = mem_strndup(start, length), *kept = NULL;
        bool ok = config_value_directory(key, path, &kept, err);

        free(path);
        if (!ok)
            return false;
        list->paths = mem_grow(list->paths, list->count, &capacity, sizeof(*list->paths));
        list->paths[list->count++] = kept;
        if (*next == '\0')
            return true;
        value = next + 1;
    }
}

bool config_value_url(const struct config_key *key, const char *value, void *target,
                      struct error *err)
{
    static const char file[] = "file://", bucket[] = "s3://";
    const char *path = value + strlen(file);

    (void)key;
    if (strncmp(value, bucket, strlen(bucket)) == 0) {
        /* store/s3.c takes it apart. */
    } else if (strncmp(value, file, strlen(file)) != 0) {
        error_set(err, ERROR_CONFIG, "unsupported repository URL \"%s\"", value);
        return error_hint(err, "a repository is at file:///absolute/path or s3://bucket/prefix");
    } else if (path[0] != '/' || path[strspn(path, "/")] == '\0') {
        error_set(err, ERROR_CONFIG, "repository URL \"%s\" has no absolute path", value);
        return error_hint(err, "write it as file:///absolute/path, with three slashes");
    }
    keep(target, value);
    return true;
}

bool config_value_word(const struct config_key *key, const char *value, void *target,
                       struct error *err)
{
    for (const char *at = value; *at != '\0'; at++)
        if (*at <= ' ' || *at > '~')
            return error_set(err, ERROR_CONFIG, "\"%s\" must be one word of printable characters",
                             key->key);
    if (value[0] == '\0')
        return error_set(err, ERROR_CONFIG, "\"%s\" is empty", key->key);
    keep(target, value);
    return true;
}

bool config_value_sse(const struct config_key *key, const char *value, void *target,
                      struct error *err)
{
    if (strcmp(value, "AES256") != 0 && strcmp(value, "aws:kms") != 0)
        return error_set(err, ERROR_CONFIG, "\"sse\" must be AES256 or aws:kms, not \"%s\"", value);
    return config_value_word(key, value, target, err);
}

bool config_value_object_lock(const struct config_key *key, const char *value, void *target,
                              struct error *err)
{
    struct config_lock *lock = target;
    size_t length = strcspn(value, " ");

    if (length == strlen("governance") && strncmp(value, "governance", length) == 0)
        lock->mode = CONFIG_LOCK_GOVERNANCE;
    else if (length == strlen("compliance") && strncmp(value, "compliance", length) == 0)
        lock->mode = CONFIG_LOCK_COMPLIANCE;
    else
        return error_set(err, ERROR_CONFIG,
                         "\"%s\" must be governance or compliance and a duration, as "
                         "\"governance 30 d\", not \"%s\"",
                         key->key, value);
    return config_value_duration(key, value + length + strspn(value + length, " "), &lock->duration,
                                 err);
}

bool config_value_yes_or_no(const struct config_key *key, const char *value, void *target,
                            struct error *err)
{
    enum config_choice *choice = target;

    if (strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
        return error_set(err, ERROR_CONFIG, "\"%s\" must be yes or no, not \"%s\"", key->key,
                         value);
    *choice = value[0] == 'y' ? CONFIG_YES : CONFIG_NO;
    return true;
}

bool config_value_copy(const struct config_key *key, const char *value, void *target,
                       struct error *err)
{
    enum config_copy *copy = target;

    if (strcmp(value, "sync") != 0 && strcmp(value, "async") != 0)
        return error_set(err, ERROR_CONFIG, "\"%s\" must be sync or async, not \"%s\"", key->key,
                         value);
    *copy = value[0] == 's' ? CONFIG_COPY_SYNC : CONFIG_COPY_ASYNC;
    return true;
}

bool config_value_rate(const struct config_key *key, const char *value, void *target,
                       struct error *err)
{
    char least[UNITS_TEXT_SIZE];
    uint64_t bytes;

    if (!units_parse_size(value, &bytes, err))
        return error_context(err, "\"%s\"", key->key);
    if (bytes < (uint64_t)key->minimum)
        return error_set(err, ERROR_CONFIG, "\"%s\": %s a second is less than %s", key->key, value,
                         units_format_size((uint64_t)key->minimum, least));
    *(uint64_t *)target = bytes;
    return true;
}

bool config_value_integer(const struct config_key *key, const char *value, void *target,
                          struct error *err)
{
    long number;

    if (!units_parse_integer(value, (long)key->minimum, (long)key->maximum, &number, err))
        return error_context(err, "\"%s\"", key->key);
    *(int *)target = (int)number;
    return true;
}

bool config_value_duration(const struct config_key *key, const char *value, void *target,
                           struct error *err)
{
    char least[UNITS_TEXT_SIZE], most[UNITS_TEXT_SIZE];
    int64_t duration;

    if (!units_parse_duration(value, &duration, err))
        return error_context(err, "\"%s\"", key->key);
    if (duration < key->minimum || duration > key->maximum)
        return error_set(err, ERROR_CONFIG, "\"%s\": %s is outside the valid range (%s to %s)",
                         key->key, value, units_format_duration(key->minimum, least),
                         units_format_duration(key->maximum, most));
    *(int64_t *)target = duration;
    return true;
}
