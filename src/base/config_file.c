/* config_file.c - the syntax of a configuration file */
#include "pgvigil/config_file.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/mem.h"

#define CONFIG_FILE_MAXIMUM (1024 * 1024)

/* A piece of the text, without NUL at its end. */
struct span {
    const char *at;
    size_t length;
};

struct config_file {
    const char *path;
    int line;
    char *section; /* owned; NULL before the first section */
    char *name;    /* owned; NULL without one */
    config_entry_fn fn;
    void *context;
};

static bool config_file_is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct span config_file_trim(const char *at, size_t length)
{
    while (length > 0 && config_file_is_blank(at[0])) {
        at++;
        length--;
    }
    while (length > 0 && config_file_is_blank(at[length - 1]))
        length--;
    return (struct span){at, length};
}

/* Names of sections and keys: lower-case letters, digits and '_'. */
static bool config_file_is_word(struct span span)
{
    for (size_t i = 0; i < span.length; i++) {
        char c = span.at[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'))
            return false;
    }
    return span.length > 0;
}

/* Length of the valid UTF-8 character at `at`, or 0; control characters but tab are not valid. */
static size_t config_file_character(const unsigned char *at, size_t left)
{
    uint32_t value = at[0];
    size_t length = value >= 0xF0 ? 4 : value >= 0xE0 ? 3 : 2;

    if (value < 0x80)
        return (value >= 0x20 && value != 0x7F) || value == '\t' ? 1 : 0;
    if (value < 0xC2 || value > 0xF4 || length > left)
        return 0;
    value &= length == 2 ? 0x1F : length == 3 ? 0x0F : 0x07;
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xC0) != 0x80)
            return 0;
        value = value << 6 | (at[i] & 0x3F);
    }
    bool overlong = value < (length == 2 ? 0x80 : length == 3 ? 0x800 : 0x10000);
    bool surrogate = value >= 0xD800 && value <= 0xDFFF;
    return overlong || surrogate || value > 0x10FFFF ? 0 : length;
}

static bool config_file_check_text(struct span line, struct error *err)
{
    const unsigned char *at = (const unsigned char *)line.at;
    size_t left = line.length;

    while (left > 0) {
        size_t length = config_file_character(at, left);
        if (length == 0 && *at < 0x80)
            return error_set(err, ERROR_CONFIG, "control character 0x%02x", *at);
        if (length == 0)
            return error_set(err, ERROR_CONFIG, "invalid UTF-8");
        at += length;
        left -= length;
    }
    return true;
}

static bool config_file_report(const struct config_file *file, const char *key, const char *value,
                               struct error *err)
{
    struct config_entry entry = {
        .section = file->section,
        .name = file->name,
        .key = key,
        .value = value,
        .path = file->path,
        .line = file->line,
    };

    return file->fn(&entry, file->context, err);
}

static bool config_file_section(struct config_file *file, struct span line, struct error *err)
{
    if (line.at[line.length - 1] != ']')
        return error_set(err, ERROR_CONFIG, "a section must end in ']'");
    struct span inside = config_file_trim(line.at + 1, line.length - 2);
    size_t word = 0;
    while (word < inside.length && !config_file_is_blank(inside.at[word]))
        word++;
    struct span section = {inside.at, word};
    struct span name = config_file_trim(inside.at + word, inside.length - word);
    if (!config_file_is_word(section))
        return error_set(err, ERROR_CONFIG, "invalid section name \"%.*s\"", (int)section.length,
                         section.at);

    free(file->section);
    free(file->name);
    file->section = mem_strndup(section.at, section.length);
    file->name = name.length > 0 ? mem_strndup(name.at, name.length) : NULL;
    return config_file_report(file, NULL, NULL, err);
}

/* Takes the quotes off; what is left is the value, every character of it. */
static bool config_file_unquote(struct span *value, struct error *err)
{
    if (value->length == 0 || value->at[0] != '"')
        return true;
    if (value->length < 2 || value->at[value->length - 1] != '"')
        return error_set(err, ERROR_CONFIG, "a value that starts with '\"' must end with it");
    value->at++;
    value->length -= 2;
    if (value->length > 0 && memchr(value->at, '"', value->length))
        return error_set(err, ERROR_CONFIG, "a value in quotes cannot contain '\"'");
    return true;
}

static bool config_file_key(struct config_file *file, struct span line, struct error *err)
{
    const char *equals = memchr(line.at, '=', line.length);

    if (!equals) {
        error_set(err, ERROR_CONFIG, "neither a section nor a key");
        return error_hint(err, "Lines are \"[section]\", \"key = value\", or comments that start "
                               "with '#'.");
    }
    size_t before = (size_t)(equals - line.at);
    struct span key = config_file_trim(line.at, before);
    struct span value = config_file_trim(equals + 1, line.length - before - 1);
    if (!config_file_is_word(key))
        return error_set(err, ERROR_CONFIG, "invalid key \"%.*s\"", (int)key.length, key.at);
    if (!file->section)
        return error_set(err, ERROR_CONFIG, "key \"%.*s\" stands before any section",
                         (int)key.length, key.at);
    if (!config_file_unquote(&value, err))
        return false;

    char *key_text = mem_strndup(key.at, key.length);
    char *value_text = mem_strndup(value.at, value.length);
    bool ok = config_file_report(file, key_text, value_text, err);
    free(key_text);
    free(value_text);
    return ok;
}

static bool config_file_line(struct config_file *file, const char *at, size_t length,
                             struct error *err)
{
    struct span line = config_file_trim(at, length);

    if (!config_file_check_text(line, err))
        return false;
    if (line.length == 0 || line.at[0] == '#' || line.at[0] == ';')
        return true;
    if (line.at[0] == '[')
        return config_file_section(file, line, err);
    return config_file_key(file, line, err);
}

bool config_file_parse(const char *path, const char *text, size_t length, config_entry_fn fn,
                       void *context, struct error *err)
{
    struct config_file file = {.path = path, .fn = fn, .context = context};
    const char *at = text;
    size_t left = length;
    bool ok = true;

    if (length > CONFIG_FILE_MAXIMUM)
        return error_set(err, ERROR_CONFIG, "file \"%s\" is larger than 1 MB", path);
    while (ok && left > 0) {
        const char *end = memchr(at, '\n', left);
        size_t line = end ? (size_t)(end - at) : left;
        file.line++;
        ok = config_file_line(&file, at, line, err);
        if (end)
            line++;
        at += line;
        left -= line;
    }
    if (!ok)
        error_context(err, "%s, line %d", path, file.line);
    free(file.section);
    free(file.name);
    return ok;
}
