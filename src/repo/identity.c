/* identity.c - pgvigil.json and the pin */
#include "repo/identity.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/clock.h"
#include "pgvigil/digest.h"
#include "pgvigil/files.h"
#include "pgvigil/layout.h"
#include "pgvigil/mem.h"
#include "pgvigil/object.h"
#include "pgvigil/process.h"

#define IDENTITY_MAXIMUM ((size_t)64 * 1024)
#define PIN_MAXIMUM ((size_t)4096)
#define ID_BYTES 16
#define ENCRYPTION_NONE "none"
#define ENCRYPTION_CMS "cms"

_Static_assert(REPOSITORY_ID_SIZE == 2 * ID_BYTES + 1, "an id is its bytes in hexadecimal");

static bool identity_is_id(const char *text)
{
    unsigned char bytes[ID_BYTES];

    return text && digest_from_hex(text, bytes, sizeof(bytes));
}

static bool identity_damaged(const struct repository *repository, const char *why,
                             struct error *err)
{
    return error_set(err, ERROR_INTEGRITY, "\"" LAYOUT_IDENTITY "\" of repository \"%s\" %s",
                     repository->name, why);
}

static bool identity_take(struct repository *repository, const json_t *json, struct error *err)
{
    const json_t *product = json_object_get(json, "pgvigil");
    const json_t *format = json_object_get(json, "format");
    const char *id = json_string_value(json_object_get(json, "id"));
    const char *encryption = json_string_value(json_object_get(json, "encryption"));

    if (json_integer_value(product) < 1 || json_integer_value(format) < 1)
        return identity_damaged(repository, "does not name its format", err);
    if (json_integer_value(format) > REPOSITORY_FORMAT) {
        error_set(err, ERROR_CONFIG,
                  "repository \"%s\" has format %lld, this pgvigil knows formats up to %d",
                  repository->name, (long long)json_integer_value(format), REPOSITORY_FORMAT);
        return error_hint(err, "a newer pgvigil made or upgraded it: upgrade pgvigil on this host");
    }
    if (!identity_is_id(id))
        return identity_damaged(repository, "has no id of 32 hexadecimal digits", err);
    if (encryption && strcmp(encryption, ENCRYPTION_CMS) != 0 &&
        strcmp(encryption, ENCRYPTION_NONE) != 0) {
        error_set(err, ERROR_CONFIG,
                  "repository \"%s\" is encrypted in a way that this pgvigil does not know",
                  repository->name);
        return error_hint(err, "upgrade pgvigil on this host");
    }
    memcpy(repository->id, id, REPOSITORY_ID_SIZE);
    repository->encrypted = encryption && strcmp(encryption, ENCRYPTION_CMS) == 0;
    return true;
}

bool identity_read(struct repository *repository, struct error *err)
{
    struct buffer text = BUFFER_INIT;
    bool ok = object_get_buffer(repository, LAYOUT_IDENTITY, TRAILER_IDENTITY, OBJECT_PLAIN,
                                IDENTITY_MAXIMUM, &text, NULL, err);

    if (ok) {
        json_error_t reason;
        json_t *json = json_loadb(buffer_text(&text), text.length, JSON_REJECT_DUPLICATES, &reason);

        ok = json ? identity_take(repository, json, err)
                  : identity_damaged(repository, "is no valid JSON", err);
        json_decref(json);
    }
    buffer_free(&text);
    return ok;
}

static bool identity_new_id(char id[REPOSITORY_ID_SIZE], struct error *err)
{
    unsigned char bytes[ID_BYTES];

    if (!digest_random(bytes, sizeof(bytes), err))
        return false;
    digest_to_hex(bytes, sizeof(bytes), id);
    return true;
}

bool identity_write(struct repository *repository, enum store_outcome *outcome, struct error *err)
{
    char id[REPOSITORY_ID_SIZE], created[CLOCK_TEXT_SIZE];
    struct buffer text = BUFFER_INIT;

    if (!identity_new_id(id, err))
        return false;
    clock_format(clock_now(), created);
    /* Only digits and letters: nothing that JSON would want escaped. */
    buffer_append_format(&text, "{\n  \"pgvigil\": 1,\n  \"format\": %d,\n", REPOSITORY_FORMAT);
    buffer_append_format(&text, "  \"id\": \"%s\",\n  \"created\": \"%s\",\n", id, created);
    buffer_append_format(&text, "  \"encryption\": \"%s\"\n}\n",
                         repository->all->encryption.recipients.count > 0 ? ENCRYPTION_CMS
                                                                          : ENCRYPTION_NONE);

    bool ok = object_put(repository, LAYOUT_IDENTITY, TRAILER_IDENTITY, OBJECT_PLAIN, 0, text.data,
                         text.length, outcome, NULL, err);

    buffer_free(&text);
    return ok;
}

static char *identity_pin_directory(const struct config *config)
{
    return files_join(config->state_dir, "repository");
}

char *identity_pin_path(const struct config *config, const char *name)
{
    char *directory = identity_pin_directory(config);
    char *path = files_join(directory, name);

    free(directory);
    return path;
}

static const char pin_encrypted[] = "\nencrypted\n", exclusive_yes[] = "\nexclusive yes\n",
                  exclusive_no[] = "\nexclusive no\n";

/* A line with an id, and perhaps some on what is known besides. */
static bool identity_parse_pin(const char *path, const char *text, struct repository_pin *pin,
                               struct error *err)
{
    size_t length = strcspn(text, "\n");
    char *line = mem_strndup(text, length);

    pin->known = identity_is_id(line);
    if (pin->known) {
        memcpy(pin->id, line, REPOSITORY_ID_SIZE);
        pin->encrypted = strstr(text, pin_encrypted) != NULL;
        pin->exclusive = strstr(text, exclusive_yes)  ? STORE_EXCLUSIVE_YES
                         : strstr(text, exclusive_no) ? STORE_EXCLUSIVE_NO
                                                      : STORE_EXCLUSIVE_UNKNOWN;
    } else {
        error_set(err, ERROR_CONFIG, "file \"%s\" does not hold the id of a repository", path);
        error_hint(err, "remove the file once you are sure that the configured repository is the "
                        "right one: the next command pins its id anew");
    }
    free(line);
    return pin->known;
}

bool identity_read_pin(const struct config *config, const char *name, struct repository_pin *pin,
                       struct error *err)
{
    char *path = identity_pin_path(config, name);
    struct buffer text = BUFFER_INIT;
    bool ok;

    *pin = (struct repository_pin){.known = false};
    if (files_read(path, PIN_MAXIMUM, &text, err)) {
        ok = identity_parse_pin(path, buffer_text(&text), pin, err);
    } else {
        /* What is closed to who only reads is as good as none. */
        ok = err->code == ERROR_NOT_FOUND || config->stateless;
        if (ok)
            error_clear(err);
    }
    buffer_free(&text);
    free(path);
    return ok;
}

bool identity_write_pin(const struct config *config, const char *name,
                        const struct repository_pin *pin, struct error *err)
{
    const char *exclusive = pin->exclusive == STORE_EXCLUSIVE_YES  ? exclusive_yes
                            : pin->exclusive == STORE_EXCLUSIVE_NO ? exclusive_no
                                                                   : "\n";
    char *directory = identity_pin_directory(config);
    char *path = files_join(directory, name);
    /* Each begins with the end of the line before it. */
    char *text =
        mem_printf("%s%.*s%s", pin->id, pin->encrypted ? (int)strlen(pin_encrypted) - 1 : 0,
                   pin_encrypted, exclusive);
    bool ok =
        files_make_directories(directory, err) && files_write(path, text, strlen(text), 0600, err);

    if (!ok) {
        error_context(err, "could not remember which repository \"%s\" is", name);
        process_hint_directory(config->state_dir, err);
    }
    free(text);
    free(path);
    free(directory);
    return ok;
}
