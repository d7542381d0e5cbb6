/* s3_identity.c - credentials that a platform lends for some hours */
#include "store/s3_identity.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/clock.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "store/http.h"
#include "store/s3_sign.h"
#include "store/s3_xml.h"

#define TOKEN_MAXIMUM ((size_t)64 * 1024)
#define METADATA "http://169.254.169.254"
#define CONTAINER "http://169.254.170.2"
#define NEAR CLOCK_SECOND /* the metadata service is on this very host, or is not at all */
#define PATIENCE (5 * CLOCK_SECOND)

static const char *environment(const char *name)
{
    const char *value = getenv(name);

    return value && *value ? value : NULL;
}

bool s3_identity_is_web(void)
{
    return environment("AWS_WEB_IDENTITY_TOKEN_FILE") && environment("AWS_ROLE_ARN");
}

/* A whole exchange on a connection of its own; other answers than 200 are errors. */
static bool identity_ask(const char *what, const char *method, const char *url,
                         const char *const *headers, struct buffer *answer, struct error *err)
{
    const struct http_request request = {.method = method,
                                         .url = url,
                                         .headers = headers,
                                         .deadline = clock_monotonic() + PATIENCE,
                                         .connect_timeout = NEAR};
    struct http_response response = {.status = 0};
    struct http *http;

    if (!http_new(NULL, PATIENCE, &http, err))
        return false;

    bool ok = http_perform(http, &request, &response, err);
    if (ok && response.status != 200) {
        ok = error_set(err, ERROR_STORE, "%s answered %ld", what, response.status);
        if (response.status >= 500)
            error_transient(err, 0);
    }
    if (ok) {
        *answer = response.body;
        response.body = (struct buffer)BUFFER_INIT;
    }
    http_response_free(&response);
    http_free(http);
    return ok;
}

/* Both are needed; a missing end means that there is none. */
static bool identity_take(struct s3_keys *keys, int64_t *end, const char *id, const char *secret,
                          const char *token, const char *expiration, const char *what,
                          struct error *err)
{
    if (!id || !secret || !*id || !*secret)
        return error_set(err, ERROR_STORE, "the answer of %s holds no credentials", what);
    *end = S3_IDENTITY_FOREVER;
    if (expiration && *expiration && !clock_parse(expiration, end, err))
        return error_context(err, "%s", what);
    keys->access_key_id = mem_strdup(id);
    keys->secret_access_key = mem_strdup(secret);
    keys->session_token = token && *token ? mem_strdup(token) : NULL;
    return true;
}

static const char *json_text(const json_t *json, const char *key)
{
    return json_string_value(json_object_get(json, key));
}

static bool identity_take_json(struct s3_keys *keys, int64_t *end, const struct buffer *answer,
                               const char *what, struct error *err)
{
    json_t *json = json_loadb(buffer_text(answer), answer->length, 0, NULL);
    bool ok =
        identity_take(keys, end, json_text(json, "AccessKeyId"), json_text(json, "SecretAccessKey"),
                      json_text(json, "Token"), json_text(json, "Expiration"), what, err);

    json_decref(json);
    return ok;
}

static bool identity_take_sts(struct s3_keys *keys, int64_t *end, const struct buffer *answer,
                              const char *what, struct error *err)
{
    char id[256], secret[256], token[8192], expiration[64];
    struct s3_xml *xml;

    if (!s3_xml_parse(answer, "AssumeRoleWithWebIdentityResponse", &xml, err))
        return false;
    if (!xml)
        return error_set(err, ERROR_STORE, "the answer of %s is not understood", what);
    bool ok =
        identity_take(keys, end, s3_xml_text(xml, "AccessKeyId", id, sizeof(id)),
                      s3_xml_text(xml, "SecretAccessKey", secret, sizeof(secret)),
                      s3_xml_text(xml, "SessionToken", token, sizeof(token)),
                      s3_xml_text(xml, "Expiration", expiration, sizeof(expiration)), what, err);
    s3_xml_free(xml);
    explicit_bzero(secret, sizeof(secret));
    return ok;
}

/* The content of a file, up to the first white space. The caller frees it. */
static bool identity_read_token(const char *path, char **token, struct error *err)
{
    struct buffer text = BUFFER_INIT;
    bool ok = files_read(path, TOKEN_MAXIMUM, &text, err);

    if (ok)
        *token = mem_strndup(buffer_text(&text), strcspn(buffer_text(&text), " \t\r\n"));
    buffer_free(&text);
    return ok;
}

static char *identity_sts_url(const char *token)
{
    const char *region = environment("AWS_REGION");
    const char *endpoint = environment("AWS_ENDPOINT_URL_STS");
    const char *session = environment("AWS_ROLE_SESSION_NAME");
    char *role = s3_sign_encode(environment("AWS_ROLE_ARN"), S3_SLASH_IS_TEXT);
    char *name = s3_sign_encode(session ? session : "pgvigil", S3_SLASH_IS_TEXT);
    char *encoded = s3_sign_encode(token, S3_SLASH_IS_TEXT);
    char *base = endpoint ? mem_strdup(endpoint)
                          : mem_printf("https://sts.%s%samazonaws.com", region ? region : "",
                                       region ? "." : "");
    char *url = mem_printf("%s/?Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=%s&"
                           "RoleSessionName=%s&WebIdentityToken=%s",
                           base, role, name, encoded);

    free(base);
    free(encoded);
    free(name);
    free(role);
    return url;
}

static bool identity_of_web(struct s3_keys *keys, int64_t *end, struct error *err)
{
    static const char what[] = "the token service (STS)";
    struct buffer answer = BUFFER_INIT;
    char *token;

    if (!identity_read_token(environment("AWS_WEB_IDENTITY_TOKEN_FILE"), &token, err))
        return false;

    char *url = identity_sts_url(token);
    bool ok = identity_ask(what, "GET", url, NULL, &answer, err) &&
              identity_take_sts(keys, end, &answer, what, err);

    buffer_free(&answer);
    free(url);
    free(token);
    return ok;
}

static bool identity_of_container(struct s3_keys *keys, int64_t *end, struct error *err)
{
    static const char what[] = "the container's credentials endpoint";
    const char *full = environment("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    const char *relative = environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI");
    const char *file = environment("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    const char *given = environment("AWS_CONTAINER_AUTHORIZATION_TOKEN");
    char *url = full ? mem_strdup(full) : mem_printf("%s%s", CONTAINER, relative);
    char *token = given ? mem_strdup(given) : NULL;
    struct buffer answer = BUFFER_INIT;
    bool ok = !file || identity_read_token(file, &token, err);
    char *header = token ? mem_printf("Authorization: %s", token) : NULL;
    const char *const headers[] = {header, NULL};

    ok = ok && identity_ask(what, "GET", url, headers, &answer, err) &&
         identity_take_json(keys, end, &answer, what, err);
    buffer_free(&answer);
    free(header);
    free(token);
    free(url);
    return ok;
}

/* What the metadata service has under a path, asked with the token of this session. */
static bool identity_ask_metadata(const char *path, const char *token, struct buffer *answer,
                                  struct error *err)
{
    static const char what[] = "the instance's metadata service";
    const char *base = environment("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    char *url = mem_printf("%s%s", base ? base : METADATA, path);
    char *header = token ? mem_printf("X-aws-ec2-metadata-token: %s", token)
                         : mem_strdup("X-aws-ec2-metadata-token-ttl-seconds: 300");
    const char *const headers[] = {header, NULL};
    bool ok = identity_ask(what, token ? "GET" : "PUT", url, headers, answer, err);

    free(header);
    free(url);
    return ok;
}

static bool identity_of_instance(struct s3_keys *keys, int64_t *end, struct error *err)
{
    static const char path[] = "/latest/meta-data/iam/security-credentials/";
    struct buffer token = BUFFER_INIT, role = BUFFER_INIT, answer = BUFFER_INIT;
    bool ok = identity_ask_metadata("/latest/api/token", NULL, &token, err) &&
              identity_ask_metadata(path, buffer_text(&token), &role, err);

    if (ok) {
        char *whole = mem_printf("%s%.*s", path, (int)strcspn(buffer_text(&role), "\r\n"),
                                 buffer_text(&role));

        ok = identity_ask_metadata(whole, buffer_text(&token), &answer, err) &&
             identity_take_json(keys, end, &answer, "the instance's metadata service", err);
        free(whole);
    }
    buffer_free(&answer);
    buffer_free(&role);
    buffer_free(&token);
    return ok;
}

bool s3_identity_fetch(struct s3_keys *keys, int64_t *end, struct error *err)
{
    const char *disabled = environment("AWS_EC2_METADATA_DISABLED");

    if (s3_identity_is_web())
        return identity_of_web(keys, end, err);
    if (environment("AWS_CONTAINER_CREDENTIALS_FULL_URI") ||
        environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"))
        return identity_of_container(keys, end, err);
    if (disabled && strcmp(disabled, "true") == 0)
        return error_set(err, ERROR_CONFIG, "none are configured, nor in the environment");
    if (identity_of_instance(keys, end, err))
        return true;
    err->code = ERROR_CONFIG;
    return error_context(err, "none are configured, nor in the environment, and this instance "
                              "lends none");
}
