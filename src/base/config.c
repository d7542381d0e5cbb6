/*
 * config.c - one cluster's configuration
 *
 * The tables say which sections and keys there are, where each value goes and within which bounds:
 * a new key is one line of config_keys.
 */
#include "pgvigil/config.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "config_name.h"
#include "config_value.h"
#include "nearest.h"
#include "pgvigil/buffer.h"
#include "pgvigil/clock.h"
#include "pgvigil/config_file.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"

#define CONFIG_FILE_MAXIMUM (1024 * 1024)
#define CONFIG_MINUTE (60 * CLOCK_SECOND)
#define CONFIG_HOUR (60 * CONFIG_MINUTE)
#define CONFIG_CENTURY (100 * 365 * 24 * CONFIG_HOUR)
#define CONFIG_MANY 100000
#define CONFIG_NOT_GIVEN (-1) /* of a retention's numbers, while the file is read */

static const char *const config_sections[] = {"cluster", "repository", "archive",
                                              "backup",  "encryption", "retention"};

#define CONFIG_SECTION_COUNT (sizeof(config_sections) / sizeof(config_sections[0]))

#define IN_CONFIG(member) offsetof(struct config, member)
#define IN_REPOSITORY(member) offsetof(struct config_repository, member)

static const struct config_key config_keys[] = {
    {"cluster", "name", config_value_cluster_name, IN_CONFIG(cluster_name), 0, 0},
    {"cluster", "pgdata", config_value_directory, IN_CONFIG(pgdata), 0, 0},
    {"cluster", "conninfo", config_value_text, IN_CONFIG(conninfo), 0, 0},
    {"cluster", "state_dir", config_value_directory, IN_CONFIG(state_dir), 0, 0},
    {"repository", "url", config_value_url, IN_REPOSITORY(url), 0, 0},
    {"repository", "copy", config_value_copy, IN_REPOSITORY(copy), 0, 0},
    {"repository", "timeout", config_value_duration, IN_REPOSITORY(timeout), CLOCK_SECOND,
     24 * CONFIG_HOUR},
    {"repository", "rate_limit", config_value_rate, IN_REPOSITORY(rate_limit), 64 * 1024,
     INT64_MAX},
    {"repository", "retention_window", config_value_duration, IN_REPOSITORY(retention.window),
     CLOCK_SECOND, CONFIG_CENTURY},
    {"repository", "retention_minimum", config_value_integer, IN_REPOSITORY(retention.minimum), 1,
     CONFIG_MANY},
    {"repository", "retention_daily", config_value_integer, IN_REPOSITORY(retention.daily), 0,
     CONFIG_MANY},
    {"repository", "retention_weekly", config_value_integer, IN_REPOSITORY(retention.weekly), 0,
     CONFIG_MANY},
    {"repository", "retention_monthly", config_value_integer, IN_REPOSITORY(retention.monthly), 0,
     CONFIG_MANY},
    {"repository", "retention_yearly", config_value_integer, IN_REPOSITORY(retention.yearly), 0,
     CONFIG_MANY},
    {"repository", "endpoint", config_value_word, IN_REPOSITORY(endpoint), 0, 0},
    {"repository", "region", config_value_word, IN_REPOSITORY(region), 0, 0},
    {"repository", "ca_file", config_value_directory, IN_REPOSITORY(ca_file), 0, 0},
    {"repository", "path_style", config_value_yes_or_no, IN_REPOSITORY(path_style), 0, 0},
    {"repository", "profile", config_value_word, IN_REPOSITORY(profile), 0, 0},
    {"repository", "access_key_id", config_value_word, IN_REPOSITORY(access_key_id), 0, 0},
    {"repository", "access_key_id_file", config_value_directory, IN_REPOSITORY(access_key_id_file),
     0, 0},
    {"repository", "secret_access_key", config_value_word, IN_REPOSITORY(secret_access_key), 0, 0},
    {"repository", "secret_access_key_file", config_value_directory,
     IN_REPOSITORY(secret_access_key_file), 0, 0},
    {"repository", "storage_class", config_value_word, IN_REPOSITORY(storage_class), 0, 0},
    {"repository", "storage_class_wal", config_value_word, IN_REPOSITORY(storage_class_wal), 0, 0},
    {"repository", "sse", config_value_sse, IN_REPOSITORY(sse), 0, 0},
    {"repository", "kms_key_id", config_value_word, IN_REPOSITORY(kms_key_id), 0, 0},
    {"repository", "object_lock", config_value_object_lock, IN_REPOSITORY(object_lock),
     24 * CONFIG_HOUR, CONFIG_CENTURY},
    {"archive", "compress_level", config_value_integer, IN_CONFIG(archive.compress_level), 1, 19},
    {"archive", "timeout", config_value_duration, IN_CONFIG(archive.timeout), CLOCK_SECOND,
     24 * CONFIG_HOUR},
    {"archive", "require", config_value_integer, IN_CONFIG(archive.require), 1, 64},
    {"backup", "jobs", config_value_integer, IN_CONFIG(backup.jobs), 1, 128},
    {"backup", "compress_level", config_value_integer, IN_CONFIG(backup.compress_level), 1, 19},
    {"backup", "timeout", config_value_duration, IN_CONFIG(backup.timeout), CLOCK_SECOND,
     7 * 24 * CONFIG_HOUR},
    {"encryption", "recipients", config_value_list, IN_CONFIG(encryption.recipients), 0, 0},
    {"encryption", "identity", config_value_list, IN_CONFIG(encryption.identity), 0, 0},
    {"encryption", "identity_passphrase_file", config_value_directory,
     IN_CONFIG(encryption.identity_passphrase_file), 0, 0},
    {"retention", "window", config_value_duration, IN_CONFIG(retention.window), CLOCK_SECOND,
     CONFIG_CENTURY},
    {"retention", "minimum", config_value_integer, IN_CONFIG(retention.minimum), 1, CONFIG_MANY},
    {"retention", "daily", config_value_integer, IN_CONFIG(retention.daily), 0, CONFIG_MANY},
    {"retention", "weekly", config_value_integer, IN_CONFIG(retention.weekly), 0, CONFIG_MANY},
    {"retention", "monthly", config_value_integer, IN_CONFIG(retention.monthly), 0, CONFIG_MANY},
    {"retention", "yearly", config_value_integer, IN_CONFIG(retention.yearly), 0, CONFIG_MANY},
};

#define CONFIG_KEY_COUNT (sizeof(config_keys) / sizeof(config_keys[0]))

static const struct config_retention config_retention_not_given = {.minimum = CONFIG_NOT_GIVEN,
                                                                   .daily = CONFIG_NOT_GIVEN,
                                                                   .weekly = CONFIG_NOT_GIVEN,
                                                                   .monthly = CONFIG_NOT_GIVEN,
                                                                   .yearly = CONFIG_NOT_GIVEN};

/* While a file is read. Lines are those where something was seen, 0 if it wasn't yet. */
struct config_reader {
    struct config *config;
    size_t capacity; /* of config->repositories */
    int section_lines[CONFIG_SECTION_COUNT];
    int key_lines[CONFIG_KEY_COUNT]; /* of a [repository]: in the present one */
};

bool config_is_name(const char *name, const char *punctuation)
{
    size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");

    while (name[length] != '\0' && strchr(punctuation, name[length]))
        length += 1 + strspn(name + length + 1,
                             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");
    return name[length] == '\0' && length > 0 && length <= CONFIG_NAME_MAXIMUM;
}

static bool config_is_string(const struct config_key *key)
{
    return key->parse == config_value_text || key->parse == config_value_word ||
           key->parse == config_value_sse || key->parse == config_value_url ||
           key->parse == config_value_directory;
}

static bool config_start_repository(struct config_reader *reader, const struct config_entry *entry,
                                    struct error *err)
{
    struct config *config = reader->config;

    if (!entry->name)
        return error_set(err, ERROR_CONFIG, "a [repository] needs a name: [repository NAME]");
    if (!config_is_name(entry->name, "_-")) {
        error_set(err, ERROR_CONFIG, "invalid repository name \"%s\"", entry->name);
        return error_hint(err, "A name has up to %d letters, digits, '_' and '-'.",
                          CONFIG_NAME_MAXIMUM);
    }
    for (size_t i = 0; i < config->repository_count; i++) {
        if (strcmp(config->repositories[i].name, entry->name) == 0)
            return error_set(err, ERROR_CONFIG, "repository \"%s\" was defined in line %d already",
                             entry->name, config->repositories[i].line);
    }
    config->repositories = mem_grow(config->repositories, config->repository_count,
                                    &reader->capacity, sizeof(*config->repositories));
    config->repositories[config->repository_count++] =
        (struct config_repository){.name = mem_strdup(entry->name),
                                   .line = entry->line,
                                   .timeout = 5 * CONFIG_MINUTE,
                                   .retention = config_retention_not_given};
    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
        if (strcmp(config_keys[i].section, "repository") == 0)
            reader->key_lines[i] = 0;
    }
    return true;
}

static bool config_start_section(struct config_reader *reader, const struct config_entry *entry,
                                 struct error *err)
{
    struct nearest nearest = NEAREST_INIT(entry->section);
    size_t i = 0;

    for (; i < CONFIG_SECTION_COUNT && strcmp(config_sections[i], entry->section) != 0; i++)
        nearest_offer(&nearest, config_sections[i]);
    if (i == CONFIG_SECTION_COUNT) {
        error_set(err, ERROR_CONFIG, "unknown section [%s]", entry->section);
        if (nearest.best)
            error_hint(err, "Perhaps you meant [%s].", nearest.best);
        return false;
    }
    if (strcmp(entry->section, "repository") == 0) {
        reader->section_lines[i] = entry->line;
        return config_start_repository(reader, entry, err);
    }
    if (entry->name)
        return error_set(err, ERROR_CONFIG, "section [%s] takes no name", entry->section);
    if (reader->section_lines[i] != 0)
        return error_set(err, ERROR_CONFIG, "section [%s] was opened in line %d already",
                         entry->section, reader->section_lines[i]);
    reader->section_lines[i] = entry->line;
    return true;
}

static bool config_unknown_key(const struct config_entry *entry, struct error *err)
{
    struct nearest nearest = NEAREST_INIT(entry->key);
    const char *elsewhere = NULL;

    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
        if (strcmp(config_keys[i].section, entry->section) == 0)
            nearest_offer(&nearest, config_keys[i].key);
        else if (strcmp(config_keys[i].key, entry->key) == 0)
            elsewhere = config_keys[i].section;
    }
    error_set(err, ERROR_CONFIG, "unknown key \"%s\" in section [%s]", entry->key, entry->section);
    if (nearest.best)
        error_hint(err, "Perhaps you meant \"%s\".", nearest.best);
    else if (elsewhere)
        error_hint(err, "It belongs in section [%s].", elsewhere);
    return false;
}

static bool config_entry(const struct config_entry *entry, void *context, struct error *err)
{
    struct config_reader *reader = context;
    struct config *config = reader->config;
    size_t i = 0;

    if (!entry->key)
        return config_start_section(reader, entry, err);
    while (i < CONFIG_KEY_COUNT && (strcmp(config_keys[i].section, entry->section) != 0 ||
                                    strcmp(config_keys[i].key, entry->key) != 0))
        i++;
    if (i == CONFIG_KEY_COUNT)
        return config_unknown_key(entry, err);
    if (reader->key_lines[i] != 0)
        return error_set(err, ERROR_CONFIG, "key \"%s\" was given in line %d already", entry->key,
                         reader->key_lines[i]);
    reader->key_lines[i] = entry->line;

    char *base = (char *)config;
    if (strcmp(entry->section, "repository") == 0)
        base = (char *)&config->repositories[config->repository_count - 1];
    return config_keys[i].parse(&config_keys[i], entry->value, base + config_keys[i].offset, err);
}

static bool config_check_repository(const struct config *config,
                                    const struct config_repository *repository, struct error *err)
{
    const char *wrong = NULL;

    if (!repository->url)
        wrong = "has no \"url\"";
    else if (repository->access_key_id && repository->access_key_id_file)
        wrong = "has both \"access_key_id\" and \"access_key_id_file\"";
    else if (repository->secret_access_key && repository->secret_access_key_file)
        wrong = "has both \"secret_access_key\" and \"secret_access_key_file\"";
    else if (repository->kms_key_id &&
             (!repository->sse || strcmp(repository->sse, "aws:kms") != 0))
        wrong = "has a \"kms_key_id\" but not \"sse = aws:kms\"";
    return !wrong || error_set(err, ERROR_CONFIG, "%s, line %d: repository \"%s\" %s", config->path,
                               repository->line, repository->name, wrong);
}

static bool config_same_place(const struct config_repository *one,
                              const struct config_repository *other)
{
    const char *endpoint = one->endpoint ? one->endpoint : "";

    return strcmp(one->url, other->url) == 0 &&
           strcmp(endpoint, other->endpoint ? other->endpoint : "") == 0;
}

/* Of different spellings of a place its id tells, once it is asked. */
static bool config_check_places(const struct config *config, struct error *err)
{
    const struct config_repository *repositories = config->repositories;

    for (size_t i = 0; i < config->repository_count; i++)
        for (size_t j = 0; j < i; j++)
            if (config_same_place(&repositories[j], &repositories[i]))
                return error_set(err, ERROR_CONFIG,
                                 "%s, line %d: repository \"%s\" is at the same place as \"%s\"",
                                 config->path, repositories[i].line, repositories[i].name,
                                 repositories[j].name);
    return true;
}

static bool config_check_sync(const struct config *config, struct error *err)
{
    int sync = 0;

    for (size_t i = 0; i < config->repository_count; i++)
        sync += config->repositories[i].copy == CONFIG_COPY_SYNC;
    if (sync >= config->archive.require)
        return true;
    error_set(err, ERROR_CONFIG, "%s: \"require\" in section [archive] is %d, but %s", config->path,
              config->archive.require,
              sync == 0 ? "no repository has \"copy = sync\""
                        : "fewer repositories have \"copy = sync\"");
    return error_hint(err, "a push is acknowledged once that many sync repositories have the file");
}

/* Where it stands, 0 if it does not. */
static int config_section_line(const struct config_reader *reader, const char *section)
{
    for (size_t i = 0; i < CONFIG_SECTION_COUNT; i++)
        if (strcmp(config_sections[i], section) == 0)
            return reader->section_lines[i];
    return 0;
}

static void config_complete_number(int *number, int otherwise)
{
    if (*number == CONFIG_NOT_GIVEN)
        *number = otherwise;
}

/* What is not given is as in `general`. */
static void config_complete_retention(struct config_retention *retention,
                                      const struct config_retention *general)
{
    if (retention->window == 0)
        retention->window = general->window;
    config_complete_number(&retention->minimum, general->minimum);
    config_complete_number(&retention->daily, general->daily);
    config_complete_number(&retention->weekly, general->weekly);
    config_complete_number(&retention->monthly, general->monthly);
    config_complete_number(&retention->yearly, general->yearly);
}

static bool config_retention_given(const struct config_retention *retention)
{
    return retention->window != 0 || retention->minimum != CONFIG_NOT_GIVEN ||
           retention->daily != CONFIG_NOT_GIVEN || retention->weekly != CONFIG_NOT_GIVEN ||
           retention->monthly != CONFIG_NOT_GIVEN || retention->yearly != CONFIG_NOT_GIVEN;
}

/* Without a window nobody could say which WAL is to stay. */
static bool config_check_retention(struct config *config, int line, struct error *err)
{
    static const struct config_retention defaults = {.minimum = 1};

    for (size_t i = 0; i < config->repository_count; i++) {
        struct config_retention *own = &config->repositories[i].retention;
        bool given = line != 0 || config_retention_given(own);

        config_complete_retention(own, &config->retention);
        config_complete_retention(own, &defaults);
        if (!given || own->window != 0)
            continue;
        if (line != 0)
            error_set(err, ERROR_CONFIG,
                      "%s:%d: section [retention] has no window, nor has repository \"%s\" one",
                      config->path, line, config->repositories[i].name);
        else
            error_set(err, ERROR_CONFIG,
                      "%s: repository \"%s\" has settings for retention, but no window",
                      config->path, config->repositories[i].name);
        return error_hint(err, "set \"window\" in section [retention]: for how long a past moment "
                               "can be restored, for example 30 d; without the section nothing is "
                               "ever removed");
    }
    config_complete_retention(&config->retention, &defaults);
    return true;
}

static bool config_check_complete(const struct config_reader *reader, struct error *err)
{
    const struct config *config = reader->config;

    if (reader->section_lines[0] == 0) {
        error_set(err, ERROR_CONFIG, "%s: section [cluster] is missing", config->path);
        return error_hint(
            err, "Add \"[cluster]\" with \"name = ...\", or let `%s init` make a configuration.",
            process_command());
    }
    if (!config->cluster_name)
        return error_set(err, ERROR_CONFIG, "%s, line %d: section [cluster] has no \"name\"",
                         config->path, reader->section_lines[0]);
    if (config->repository_count == 0) {
        error_set(err, ERROR_CONFIG, "%s: there is no section [repository NAME]", config->path);
        return error_hint(err, "Add \"[repository local]\" with \"url = file:///path\".");
    }
    for (size_t i = 0; i < config->repository_count; i++)
        if (!config_check_repository(config, &config->repositories[i], err))
            return false;
    if (config->encryption.identity_passphrase_file && config->encryption.identity.count == 0)
        return error_set(err, ERROR_CONFIG,
                         "%s: section [encryption] has \"identity_passphrase_file\", but no "
                         "\"identity\"",
                         config->path);
    return config_check_places(config, err) && config_check_sync(config, err) &&
           config_check_retention(reader->config, config_section_line(reader, "retention"), err);
}

static void config_set_defaults(struct config *config)
{
    int processors = process_processors();

    config->conninfo = mem_strdup("");
    config->retention = config_retention_not_given;
    config->archive.compress_level = 3;
    config->archive.timeout = 60 * CLOCK_SECOND;
    config->archive.require = 1;
    config->backup.jobs = processors < 8 ? processors : 8;
    config->backup.compress_level = 1;
    config->backup.timeout = CONFIG_HOUR;
}

bool config_parse(const char *path, const char *text, size_t length, struct config **config,
                  struct error *err)
{
    struct config_reader reader = {.config = mem_calloc(1, sizeof(*reader.config))};

    reader.config->path = mem_strdup(path);
    config_set_defaults(reader.config);
    if (!config_file_parse(path, text, length, config_entry, &reader, err) ||
        !config_check_complete(&reader, err)) {
        config_free(reader.config);
        return false;
    }
    if (!reader.config->state_dir)
        reader.config->state_dir = files_join("/var/lib/pgvigil", reader.config->cluster_name);
    *config = reader.config;
    return true;
}

/* A secret in a file that everybody can read is none. */
static bool config_check_mode(const struct config *config, struct error *err)
{
    struct stat info;
    const char *secret = NULL;

    for (size_t i = 0; i < config->repository_count; i++)
        if (config->repositories[i].secret_access_key)
            secret = config->repositories[i].name;
    if (!secret || stat(config->path, &info) != 0 || (info.st_mode & S_IROTH) == 0)
        return true;
    error_set(err, ERROR_CONFIG,
              "configuration file \"%s\" can be read by everybody, but holds the "
              "secret_access_key of repository \"%s\"",
              config->path, secret);
    return error_hint(err, "chmod o= \"%s\"", config->path);
}

bool config_load(const char *path, struct config **config, struct error *err)
{
    struct buffer text = BUFFER_INIT;
    char *absolute;

    if (!files_absolute(path, &absolute, err))
        return false;
    bool ok = files_read_stream(absolute, CONFIG_FILE_MAXIMUM, &text, err);
    if (!ok) {
        /* Whatever the reason: without its configuration nothing can be done. */
        err->code = ERROR_CONFIG;
        error_hint(err, "Make it with `%s init`, or name another one with -c.", process_command());
        process_tell_owner(absolute, err);
        if (err->detail[0] != '\0')
            process_hint_reader(absolute, err);
    }
    ok = ok && config_parse(absolute, buffer_text(&text), text.length, config, err);
    if (ok && !config_check_mode(*config, err)) {
        config_free(*config);
        *config = NULL;
        ok = false;
    }
    buffer_free(&text);
    free(absolute);
    return ok;
}

/* All that the table's keys of a [repository] have set, and its name. */
static void config_free_repository(struct config_repository *repository)
{
    for (size_t i = 0; i < CONFIG_KEY_COUNT; i++) {
        const struct config_key *key = &config_keys[i];

        if (strcmp(key->section, "repository") == 0 && config_is_string(key))
            free(*(char **)((char *)repository + key->offset));
    }
    free(repository->name);
}

static void config_free_list(struct config_paths *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->paths[i]);
    free(list->paths);
}

void config_free(struct config *config)
{
    if (!config)
        return;
    for (size_t i = 0; i < config->repository_count; i++)
        config_free_repository(&config->repositories[i]);
    free(config->repositories);
    free(config->path);
    free(config->cluster_name);
    free(config->pgdata);
    free(config->conninfo);
    free(config->state_dir);
    config_free_list(&config->encryption.recipients);
    config_free_list(&config->encryption.identity);
    free(config->encryption.identity_passphrase_file);
    free(config);
}
