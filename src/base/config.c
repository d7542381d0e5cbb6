/*
 * config.c - one cluster's configuration
 *
 * The tables say which sections and keys there are, where each value goes and within which bounds:
 * a new key is one line of config_keys.
 */
#include "pgvigil/config.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "nearest.h"
#include "pgvigil/buffer.h"
#include "pgvigil/clock.h"
#include "pgvigil/config_file.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"
#include "pgvigil/units.h"

#define CONFIG_FILE_MAXIMUM (1024 * 1024)
#define CONFIG_NAME_MAXIMUM 63
#define CONFIG_HOUR (3600 * CLOCK_SECOND)

struct config_key {
    const char *section;
    const char *key;
    bool (*parse)(const struct config_key *key, const char *value, void *target, struct error *err);
    size_t offset; /* in struct config, of a [repository] in struct config_repository */
    int64_t minimum;
    int64_t maximum;
};

static bool config_text(const struct config_key *key, const char *value, void *target,
                        struct error *err);
static bool config_cluster_name(const struct config_key *key, const char *value, void *target,
                                struct error *err);
static bool config_directory(const struct config_key *key, const char *value, void *target,
                             struct error *err);
static bool config_url(const struct config_key *key, const char *value, void *target,
                       struct error *err);
static bool config_integer(const struct config_key *key, const char *value, void *target,
                           struct error *err);
static bool config_duration(const struct config_key *key, const char *value, void *target,
                            struct error *err);

static const char *const config_sections[] = {"cluster", "repository", "archive", "backup"};

#define CONFIG_SECTION_COUNT (sizeof(config_sections) / sizeof(config_sections[0]))

#define IN_CONFIG(member) offsetof(struct config, member)
#define IN_REPOSITORY(member) offsetof(struct config_repository, member)

static const struct config_key config_keys[] = {
    {"cluster", "name", config_cluster_name, IN_CONFIG(cluster_name), 0, 0},
    {"cluster", "pgdata", config_directory, IN_CONFIG(pgdata), 0, 0},
    {"cluster", "conninfo", config_text, IN_CONFIG(conninfo), 0, 0},
    {"cluster", "state_dir", config_directory, IN_CONFIG(state_dir), 0, 0},
    {"repository", "url", config_url, IN_REPOSITORY(url), 0, 0},
    {"archive", "compress_level", config_integer, IN_CONFIG(archive.compress_level), 1, 19},
    {"archive", "timeout", config_duration, IN_CONFIG(archive.timeout), CLOCK_SECOND,
     24 * CONFIG_HOUR},
    {"backup", "jobs", config_integer, IN_CONFIG(backup.jobs), 1, 128},
    {"backup", "compress_level", config_integer, IN_CONFIG(backup.compress_level), 1, 19},
    {"backup", "timeout", config_duration, IN_CONFIG(backup.timeout), CLOCK_SECOND,
     7 * 24 * CONFIG_HOUR},
};

#define CONFIG_KEY_COUNT (sizeof(config_keys) / sizeof(config_keys[0]))

/* While a file is read. Lines are those where something was seen, 0 if it wasn't yet. */
struct config_reader {
    struct config *config;
    size_t capacity; /* of config->repositories */
    int section_lines[CONFIG_SECTION_COUNT];
    int key_lines[CONFIG_KEY_COUNT]; /* of a [repository]: in the present one */
};

static bool config_is_name(const char *name, const char *punctuation)
{
    size_t length = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");

    while (name[length] != '\0' && strchr(punctuation, name[length]))
        length += 1 + strspn(name + length + 1,
                             "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");
    return name[length] == '\0' && length > 0 && length <= CONFIG_NAME_MAXIMUM;
}

static void config_keep(char **target, const char *value)
{
    free(*target);
    *target = mem_strdup(value);
}

static bool config_text(const struct config_key *key, const char *value, void *target,
                        struct error *err)
{
    (void)key;
    (void)err;
    config_keep(target, value);
    return true;
}

static bool config_cluster_name(const struct config_key *key, const char *value, void *target,
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
    config_keep(target, value);
    return true;
}

static bool config_directory(const struct config_key *key, const char *value, void *target,
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

static bool config_url(const struct config_key *key, const char *value, void *target,
                       struct error *err)
{
    static const char scheme[] = "file://";
    const size_t length = sizeof(scheme) - 1;

    (void)key;
    if (strncmp(value, scheme, length) != 0) {
        error_set(err, ERROR_CONFIG, "unsupported repository URL \"%s\"", value);
        return error_hint(err, "This version supports file:///absolute/path.");
    }
    if (value[length] != '/' || value[length + strspn(value + length, "/")] == '\0') {
        error_set(err, ERROR_CONFIG, "repository URL \"%s\" has no absolute path", value);
        return error_hint(err, "Write it as file:///absolute/path, with three slashes.");
    }
    config_keep(target, value);
    return true;
}

static bool config_integer(const struct config_key *key, const char *value, void *target,
                           struct error *err)
{
    long number;

    if (!units_parse_integer(value, (long)key->minimum, (long)key->maximum, &number, err))
        return error_context(err, "\"%s\"", key->key);
    *(int *)target = (int)number;
    return true;
}

static bool config_duration(const struct config_key *key, const char *value, void *target,
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
    if (config->repository_count > 0)
        return error_set(err, ERROR_CONFIG, "this version keeps one repository per cluster");

    config->repositories = mem_grow(config->repositories, config->repository_count,
                                    &reader->capacity, sizeof(*config->repositories));
    config->repositories[config->repository_count++] =
        (struct config_repository){.name = mem_strdup(entry->name), .line = entry->line};
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

static bool config_check_complete(const struct config_reader *reader, struct error *err)
{
    const struct config *config = reader->config;

    if (reader->section_lines[0] == 0) {
        error_set(err, ERROR_CONFIG, "%s: section [cluster] is missing", config->path);
        return error_hint(err, "Add \"[cluster]\" with \"name = ...\", or let \"pgvigil init\" "
                               "make a configuration.");
    }
    if (!config->cluster_name)
        return error_set(err, ERROR_CONFIG, "%s, line %d: section [cluster] has no \"name\"",
                         config->path, reader->section_lines[0]);
    if (config->repository_count == 0) {
        error_set(err, ERROR_CONFIG, "%s: there is no section [repository NAME]", config->path);
        return error_hint(err, "Add \"[repository local]\" with \"url = file:///path\".");
    }
    for (size_t i = 0; i < config->repository_count; i++) {
        const struct config_repository *repository = &config->repositories[i];
        if (!repository->url)
            return error_set(err, ERROR_CONFIG, "%s, line %d: repository \"%s\" has no \"url\"",
                             config->path, repository->line, repository->name);
    }
    return true;
}

static void config_set_defaults(struct config *config)
{
    int processors = process_processors();

    config->conninfo = mem_strdup("");
    config->archive.compress_level = 3;
    config->archive.timeout = 60 * CLOCK_SECOND;
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

bool config_load(const char *path, struct config **config, struct error *err)
{
    struct buffer text = BUFFER_INIT;
    char *absolute;

    if (!files_absolute(path, &absolute, err))
        return false;
    bool ok = files_read(absolute, CONFIG_FILE_MAXIMUM, &text, err);
    if (!ok) {
        /* Whatever the reason: without its configuration nothing can be done. */
        err->code = ERROR_CONFIG;
        error_hint(err, "Name a configuration with -c, or make one with \"pgvigil init\".");
    }
    ok = ok && config_parse(absolute, buffer_text(&text), text.length, config, err);
    buffer_free(&text);
    free(absolute);
    return ok;
}

void config_free(struct config *config)
{
    if (!config)
        return;
    for (size_t i = 0; i < config->repository_count; i++) {
        free(config->repositories[i].name);
        free(config->repositories[i].url);
    }
    free(config->repositories);
    free(config->path);
    free(config->cluster_name);
    free(config->pgdata);
    free(config->conninfo);
    free(config->state_dir);
    free(config);
}

static bool config_ends_in_conf(const char *name)
{
    size_t length = strlen(name);

    return length > 5 && strcmp(name + length - 5, ".conf") == 0;
}

bool config_path(const char *name, char **path, struct error *err)
{
    if (strchr(name, '/') || config_ends_in_conf(name))
        return files_absolute(name, path, err);
    if (!config_is_name(name, "_-.") || name[0] == '.') {
        error_set(err, ERROR_CONFIG, "invalid configuration name \"%s\"", name);
        return error_hint(err, "Give the name of a file in %s without \".conf\", or a path.",
                          CONFIG_DIRECTORY);
    }
    *path = mem_printf("%s/%s.conf", CONFIG_DIRECTORY, name);
    return true;
}

bool config_find_only(const char *directory, char **path, struct error *err)
{
    DIR *stream = opendir(directory);
    struct buffer names = BUFFER_INIT;
    struct dirent *entry;
    size_t count = 0;

    if (!stream && errno != ENOENT) {
        error_set_errno(err, "could not open directory \"%s\"", directory);
        err->code = ERROR_CONFIG;
        return error_hint(err, "Name a configuration with -c.");
    }
    while (stream && (entry = readdir(stream))) {
        if (entry->d_name[0] == '.' || !config_ends_in_conf(entry->d_name))
            continue;
        if (count++ > 0)
            buffer_append_string(&names, ", ");
        buffer_append(&names, entry->d_name, strlen(entry->d_name) - strlen(".conf"));
    }
    if (stream)
        closedir(stream);

    if (count == 1) {
        *path = mem_printf("%s/%s.conf", directory, buffer_text(&names));
    } else if (count == 0) {
        error_set(err, ERROR_CONFIG, "there is no configuration (*.conf) in directory \"%s\"",
                  directory);
        error_hint(err, "Make one with \"pgvigil init\", or name one with -c.");
    } else {
        error_set(err, ERROR_CONFIG, "there are %zu configurations in directory \"%s\"", count,
                  directory);
        error_detail(err, "They are: %s.", buffer_text(&names));
        error_hint(err, "Choose one with -c.");
    }
    buffer_free(&names);
    return count == 1;
}

bool config_find(const char *name, char **path, struct error *err)
{
    struct stat info;

    if (!name)
        name = getenv("PGVIGIL_CONFIG");
    if (!name || name[0] == '\0')
        return config_find_only(CONFIG_DIRECTORY, path, err);
    if (!config_path(name, path, err))
        return false;
    if (stat(*path, &info) == 0)
        return true;
    error_set_errno(err, "could not find configuration file \"%s\"", *path);
    err->code = ERROR_CONFIG;
    error_hint(err, "Make it with \"pgvigil init\", or name another one with -c.");
    free(*path);
    *path = NULL;
    return false;
}
