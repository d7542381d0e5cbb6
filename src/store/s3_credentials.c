/* s3_credentials.c - with what requests are signed: where it is found, and for how long it is good */
#include "store/s3_credentials.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "pgvigil/clock.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "store/s3_identity.h"

#define SECRET_MAXIMUM ((size_t)4096)
#define SHARED_MAXIMUM ((size_t)1024 * 1024)
#define EARLY (300 * CLOCK_SECOND) /* before their end they are fetched anew */
#define PAUSE (20 * CLOCK_SECOND)  /* between two looks for others while those at hand are good */

struct s3_credentials {
    const struct config_repository *settings;
    pthread_mutex_t lock; /* guards what follows */
    bool have;
    struct s3_keys keys;
    int64_t end;    /* by clock_now; S3_IDENTITY_FOREVER: none */
    int64_t looked; /* by clock_monotonic: when they were last looked for */
};

struct s3_credentials *s3_credentials_new(const struct config_repository *settings)
{
    struct s3_credentials *credentials = mem_calloc(1, sizeof(*credentials));

    credentials->settings = settings;
    pthread_mutex_init(&credentials->lock, NULL);
    return credentials;
}

void s3_credentials_free_keys(struct s3_keys *keys)
{
    if (keys->secret_access_key)
        explicit_bzero(keys->secret_access_key, strlen(keys->secret_access_key));
    free(keys->access_key_id);
    free(keys->secret_access_key);
    free(keys->session_token);
    *keys = (struct s3_keys){.access_key_id = NULL};
}

void s3_credentials_free(struct s3_credentials *credentials)
{
    if (!credentials)
        return;
    s3_credentials_free_keys(&credentials->keys);
    pthread_mutex_destroy(&credentials->lock);
    free(credentials);
}

static bool credentials_read_file(const char *path, const char *key, char **value,
                                  struct error *err)
{
    struct buffer text = BUFFER_INIT;
    struct stat info;

    if (stat(path, &info) == 0 && (info.st_mode & S_IROTH) != 0) {
        error_set(err, ERROR_CONFIG, "file \"%s\" (%s) can be read by everybody", path, key);
        return error_hint(err, "chmod o= \"%s\"", path);
    }
    bool ok = files_read(path, SECRET_MAXIMUM, &text, err);
    if (ok)
        *value = mem_strndup(buffer_text(&text), strcspn(buffer_text(&text), " \t\r\n"));
    else
        err->code = ERROR_CONFIG;
    buffer_free(&text);
    return ok;
}

/* A key of the configuration: itself, or what the file holds that it names. */
static bool credentials_setting(const char *value, const char *file, const char *key, char **result,
                                struct error *err)
{
    if (file)
        return credentials_read_file(file, key, result, err);
    *result = value ? mem_strdup(value) : NULL;
    return true;
}

static bool credentials_of_configuration(const struct config_repository *settings,
                                         struct s3_keys *keys, struct error *err)
{
    return credentials_setting(settings->access_key_id, settings->access_key_id_file,
                               "access_key_id_file", &keys->access_key_id, err) &&
           credentials_setting(settings->secret_access_key, settings->secret_access_key_file,
                               "secret_access_key_file", &keys->secret_access_key, err);
}

static void credentials_of_environment(struct s3_keys *keys)
{
    const char *id = getenv("AWS_ACCESS_KEY_ID"), *secret = getenv("AWS_SECRET_ACCESS_KEY");
    const char *token = getenv("AWS_SESSION_TOKEN");

    if (!id || !secret || !*id || !*secret)
        return;
    keys->access_key_id = mem_strdup(id);
    keys->secret_access_key = mem_strdup(secret);
    keys->session_token = token && *token ? mem_strdup(token) : NULL;
}

/* "key = value": the value if it is that key, else NULL. The caller frees it. */
static char *credentials_value(const char *line, size_t length, const char *key)
{
    size_t at = strspn(line, " \t"), name = strlen(key);

    if (at + name >= length || strncasecmp(line + at, key, name) != 0)
        return NULL;
    at += name + strspn(line + at + name, " \t");
    if (at >= length || line[at] != '=')
        return NULL;
    at++;
    at += strspn(line + at, " \t");
    while (length > at && strchr(" \t\r", line[length - 1]))
        length--;
    return at < length ? mem_strndup(line + at, length - at) : NULL;
}

static void credentials_take(char **target, const char *line, size_t length, const char *key)
{
    char *value = credentials_value(line, length, key);

    if (!value)
        return;
    free(*target);
    *target = value;
}

static void credentials_parse_shared(const char *text, const char *profile, struct s3_keys *keys)
{
    char *section = mem_printf("[%s]", profile);
    bool inside = false;

    while (*text != '\0') {
        size_t length = strcspn(text, "\n");

        if (text[0] == '[') {
            inside = strncmp(text, section, strlen(section)) == 0;
        } else if (inside) {
            credentials_take(&keys->access_key_id, text, length, "aws_access_key_id");
            credentials_take(&keys->secret_access_key, text, length, "aws_secret_access_key");
            credentials_take(&keys->session_token, text, length, "aws_session_token");
        }
        text += length;
        text += strspn(text, "\n");
    }
    free(section);
}

static char *credentials_shared_path(void)
{
    const char *path = getenv("AWS_SHARED_CREDENTIALS_FILE"), *home = getenv("HOME");

    if (path && *path)
        return mem_strdup(path);
    return home && *home ? mem_printf("%s/.aws/credentials", home) : NULL;
}

static bool credentials_of_file(const struct config_repository *settings, struct s3_keys *keys,
                                struct error *err)
{
    const char *profile = settings->profile ? settings->profile : getenv("AWS_PROFILE");
    char *path = credentials_shared_path();
    struct buffer text = BUFFER_INIT;
    bool ok = true;

    if (path && files_read(path, SHARED_MAXIMUM, &text, err))
        credentials_parse_shared(buffer_text(&text), profile && *profile ? profile : "default",
                                 keys);
    else if (path && err->code != ERROR_NOT_FOUND && settings->profile)
        ok = false;
    else
        error_clear(err);
    if (ok && settings->profile && !keys->access_key_id) {
        ok = error_set(err, ERROR_CONFIG, "there is no profile \"%s\" in \"%s\"", settings->profile,
                       path ? path : "~/.aws/credentials");
        error_hint(err, "AWS_SHARED_CREDENTIALS_FILE may name another file");
    }
    if (text.data)
        explicit_bzero(text.data, text.length);
    buffer_free(&text);
    free(path);
    return ok;
}

static bool credentials_whole(const struct s3_keys *keys)
{
    return keys->access_key_id && keys->secret_access_key;
}

/* Those that lie on this host, and do not end. */
static bool credentials_find_here(const struct config_repository *settings, struct s3_keys *keys,
                                  struct error *err)
{
    if (!credentials_of_configuration(settings, keys, err))
        return false;
    if ((keys->access_key_id == NULL) != (keys->secret_access_key == NULL))
        return error_set(
            err, ERROR_CONFIG,
            "repository \"%s\" has one of \"access_key_id\" and \"secret_access_key\", "
            "but not the other",
            settings->name);
    if (!credentials_whole(keys) && !settings->profile)
        credentials_of_environment(keys);
    return credentials_whole(keys) || (!settings->profile && s3_identity_is_web()) ||
           credentials_of_file(settings, keys, err);
}

static bool credentials_find(struct s3_credentials *credentials, struct s3_keys *keys, int64_t *end,
                             struct error *err)
{
    *end = S3_IDENTITY_FOREVER;
    if (!credentials_find_here(credentials->settings, keys, err))
        return false;
    if (credentials_whole(keys))
        return true;
    s3_credentials_free_keys(keys);
    if (s3_identity_fetch(keys, end, err))
        return true;
    error_context(err, "there are no credentials for repository \"%s\"",
                  credentials->settings->name);
    return error_hint(err, "set access_key_id and secret_access_key (or access_key_id_file and "
                           "secret_access_key_file) in its section, or give this host a role");
}

static char *copy_text(const char *text)
{
    return text ? mem_strdup(text) : NULL;
}

/* Under the lock. What was there before stays where nothing is found. */
static bool credentials_look(struct s3_credentials *credentials, struct error *err)
{
    struct s3_keys found = {.access_key_id = NULL};
    int64_t end;

    credentials->looked = clock_monotonic();
    if (!credentials_find(credentials, &found, &end, err)) {
        s3_credentials_free_keys(&found);
        return false;
    }
    s3_credentials_free_keys(&credentials->keys);
    credentials->keys = found;
    credentials->end = end;
    credentials->have = true;
    return true;
}

/* Those at hand serve as long as they are good, if no others can be had now. */
static bool credentials_ready(struct s3_credentials *credentials, struct error *err)
{
    int64_t now = clock_now();

    if (credentials->have && now <= credentials->end - EARLY)
        return true;
    if (credentials->have && now < credentials->end) {
        struct error ignored = ERROR_INIT;

        if (clock_monotonic() - credentials->looked > PAUSE)
            credentials_look(credentials, &ignored);
        return true;
    }
    return credentials_look(credentials, err);
}

static void credentials_copy(const struct s3_credentials *credentials, struct s3_keys *keys)
{
    keys->access_key_id = copy_text(credentials->keys.access_key_id);
    keys->secret_access_key = copy_text(credentials->keys.secret_access_key);
    keys->session_token = copy_text(credentials->keys.session_token);
}

bool s3_credentials_get(struct s3_credentials *credentials, struct s3_keys *keys, struct error *err)
{
    *keys = (struct s3_keys){.access_key_id = NULL};
    pthread_mutex_lock(&credentials->lock);
    bool ok = credentials_ready(credentials, err);
    if (ok)
        credentials_copy(credentials, keys);
    pthread_mutex_unlock(&credentials->lock);
    return ok;
}

static bool same_text(const char *a, const char *b)
{
    return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

static bool same_keys(const struct s3_keys *a, const struct s3_keys *b)
{
    return same_text(a->access_key_id, b->access_key_id) &&
           same_text(a->secret_access_key, b->secret_access_key) &&
           same_text(a->session_token, b->session_token);
}

bool s3_credentials_renew(struct s3_credentials *credentials, const struct s3_keys *refused)
{
    struct error ignored = ERROR_INIT;

    pthread_mutex_lock(&credentials->lock);
    /* Another thread may have been quicker. */
    bool others =
        !same_keys(&credentials->keys, refused) ||
        (credentials_look(credentials, &ignored) && !same_keys(&credentials->keys, refused));
    pthread_mutex_unlock(&credentials->lock);
    return others;
}
