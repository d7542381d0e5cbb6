/* s3_request.c - signed requests to one bucket */
#include "store/s3_request.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/clock.h"
#include "pgvigil/mem.h"

#define DIGEST_PART ((size_t)256 * 1024)
/* Of two files that are written anew the first may be read before the second is. */
#define KEYS_TRIED 3

static const char *first_of(const char *a, const char *b, const char *c)
{
    return a && *a ? a : b && *b ? b : c;
}

/* Takes scheme and host apart, and leaves out a port that the scheme implies. */
static bool split_endpoint(const char *endpoint, const char **scheme, char **host,
                           struct error *err)
{
    const char *at = strstr(endpoint, "://");
    const char *implied;

    *scheme = "https://";
    if (at && strncmp(endpoint, "http://", 7) == 0)
        *scheme = "http://";
    else if (at && strncmp(endpoint, "https://", 8) != 0)
        return error_set(err, ERROR_CONFIG, "endpoint \"%s\" is neither http:// nor https://",
                         endpoint);
    at = at ? at + 3 : endpoint;
    size_t length = strcspn(at, "/?#");
    if (length == 0 || (at[length] != '\0' && strcmp(at + length, "/") != 0) ||
        memchr(at, '@', length))
        return error_set(err, ERROR_CONFIG, "endpoint \"%s\" is not of the form https://host:port",
                         endpoint);
    *host = mem_strndup(at, length);
    implied = (*scheme)[4] == 's' ? ":443" : ":80";
    if (length > strlen(implied) && strcmp(*host + length - strlen(implied), implied) == 0)
        (*host)[length - strlen(implied)] = '\0';
    return true;
}

/* Custom servers seldom have a name for each bucket, and a dot in one breaks TLS's names. */
static bool wants_path_style(const struct config_repository *settings, const char *host,
                             const char *name)
{
    if (settings->path_style != CONFIG_UNSET)
        return settings->path_style == CONFIG_YES;
    return !strstr(host, "amazonaws.com") || strchr(name, '.');
}

bool s3_request_open_bucket(const struct config_repository *settings, const char *name,
                            struct s3_bucket *bucket, struct error *err)
{
    const char *region = first_of(settings->region, getenv("AWS_REGION"),
                                  first_of(getenv("AWS_DEFAULT_REGION"), NULL, "us-east-1"));
    char *standard = mem_printf("https://s3.%s.amazonaws.com", region);
    int64_t patience =
        settings->timeout / 2 < HTTP_PATIENCE ? settings->timeout / 2 : HTTP_PATIENCE;
    const char *scheme = NULL;
    char *host = NULL;
    bool ok = split_endpoint(first_of(settings->endpoint, NULL, standard), &scheme, &host, err) &&
              http_new(settings->ca_file, patience, &bucket->http, err);

    free(standard);
    if (!ok) {
        free(host);
        return false;
    }

    bool path_style = wants_path_style(settings, host, name);
    bucket->host = path_style ? mem_strdup(host) : mem_printf("%s.%s", name, host);
    bucket->path = path_style ? mem_printf("/%s", name) : mem_strdup("");
    bucket->base = mem_printf("%s%s%s", scheme, bucket->host, bucket->path);
    bucket->region = mem_strdup(region);
    if (settings->path_style == CONFIG_NO)
        bucket->host_hint = "with path_style = no the bucket's name stands before the endpoint's, "
                            "and DNS must know it so: path_style = yes asks the endpoint itself; "
                            "or is the endpoint wrong?";
    bucket->credentials = s3_credentials_new(settings);
    free(host);
    return true;
}

void s3_request_close_bucket(struct s3_bucket *bucket)
{
    s3_credentials_free(bucket->credentials);
    http_free(bucket->http);
    free(bucket->base);
    free(bucket->host);
    free(bucket->path);
    free(bucket->region);
}

/* The SHA-256 that the server is to find, computed only where nobody has done so yet. */
static bool payload_sha256(const struct store_body *body, char hex[S3_HEX_SHA256_SIZE],
                           struct error *err)
{
    unsigned char digest[STORE_SHA256_SIZE];
    bool ok = true;

    if (!body) {
        memcpy(hex, S3_SHA256_OF_NOTHING, S3_HEX_SHA256_SIZE);
        return true;
    }
    if (body->sha256) {
        s3_sign_hex(body->sha256, STORE_SHA256_SIZE, hex);
        return true;
    }

    EVP_MD_CTX *context = EVP_MD_CTX_new();
    unsigned char *part = mem_alloc(DIGEST_PART);

    if (!context || !EVP_DigestInit_ex(context, EVP_sha256(), NULL))
        mem_give_up("could not allocate memory for a SHA-256");
    for (uint64_t at = 0; ok && at < body->length; at += DIGEST_PART) {
        size_t length = body->length - at < DIGEST_PART ? (size_t)(body->length - at) : DIGEST_PART;

        ok = body->read(body, at, part, length, err);
        if (ok && !EVP_DigestUpdate(context, part, length))
            mem_give_up("could not compute a SHA-256");
    }
    if (!EVP_DigestFinal_ex(context, digest, NULL))
        mem_give_up("could not compute a SHA-256");
    EVP_MD_CTX_free(context);
    free(part);
    s3_sign_hex(digest, sizeof(digest), hex);
    return ok;
}

static int compare_headers(const void *a, const void *b)
{
    return strcmp(((const struct s3_header *)a)->name, ((const struct s3_header *)b)->name);
}

/* A request as it goes out: signed, with its headers as lines. */
struct sending {
    struct s3_header headers[S3_REQUEST_HEADERS];
    size_t count;
    char *lines[S3_REQUEST_HEADERS + 3]; /* and Authorization, Range, NULL */
    size_t line_count;
    char sha256[S3_HEX_SHA256_SIZE];
    char checksum[4 * (STORE_SHA256_SIZE / 3 + 1) + 1]; /* the same in base64 */
    char date[S3_DATE_SIZE];
};

static void add_header(struct sending *sending, const char *name, const char *value)
{
    sending->headers[sending->count++] = (struct s3_header){name, value};
}

static void add_checksum(struct sending *sending)
{
    unsigned char digest[STORE_SHA256_SIZE];

    for (size_t i = 0; i < sizeof(digest); i++) {
        const char pair[] = {sending->sha256[2 * i], sending->sha256[2 * i + 1], '\0'};

        digest[i] = (unsigned char)strtoul(pair, NULL, 16);
    }
    EVP_EncodeBlock((unsigned char *)sending->checksum, digest, sizeof(digest));
    add_header(sending, "x-amz-checksum-sha256", sending->checksum);
}

static void sign(const struct s3_bucket *bucket, const struct s3_request *request,
                 const struct s3_keys *keys, const char *path, struct sending *sending)
{
    add_header(sending, "host", bucket->host);
    add_header(sending, "x-amz-content-sha256", sending->sha256);
    add_header(sending, "x-amz-date", s3_sign_date(clock_now(), sending->date));
    if (keys->session_token)
        add_header(sending, "x-amz-security-token", keys->session_token);
    if (request->checksum)
        add_checksum(sending);
    for (size_t i = 0; i < request->header_count; i++)
        add_header(sending, request->headers[i].name, request->headers[i].value);
    qsort(sending->headers, sending->count, sizeof(sending->headers[0]), compare_headers);

    const struct s3_signing signing = {.method = request->method,
                                       .path = path,
                                       .query = request->query ? request->query : "",
                                       .headers = sending->headers,
                                       .header_count = sending->count,
                                       .payload_sha256 = sending->sha256,
                                       .date = sending->date,
                                       .region = bucket->region,
                                       .service = "s3",
                                       .access_key_id = keys->access_key_id,
                                       .secret_access_key = keys->secret_access_key};
    char *authorization = s3_sign(&signing);

    for (size_t i = 0; i < sending->count; i++)
        if (strcmp(sending->headers[i].name, "host") != 0) /* libcurl makes it, the same */
            sending->lines[sending->line_count++] =
                mem_printf("%s: %s", sending->headers[i].name, sending->headers[i].value);
    sending->lines[sending->line_count++] = mem_printf("authorization: %s", authorization);
    if (request->range)
        sending->lines[sending->line_count++] = mem_printf("range: %s", request->range);
    free(authorization);
}

static bool send_once(struct s3_bucket *bucket, const struct s3_request *request,
                      const struct s3_keys *keys, struct http_response *response, struct error *err)
{
    struct sending sending = {.count = 0};

    if (!payload_sha256(request->body, sending.sha256, err))
        return false;

    char *key = s3_sign_encode(request->key ? request->key : "", S3_SLASH_SEPARATES);
    char *path = mem_printf("%s/%s", bucket->path, key);
    char *url = mem_printf("%s/%s%s%s", bucket->base, key, request->query ? "?" : "",
                           request->query ? request->query : "");

    sign(bucket, request, keys, path, &sending);
    const struct http_request sent = {.method = request->method,
                                      .url = url,
                                      .headers = (const char *const *)sending.lines,
                                      .body = request->body,
                                      .sink = request->sink,
                                      .context = request->context,
                                      .deadline = request->deadline,
                                      .host_hint = bucket->host_hint};
    bool ok = http_perform(bucket->http, &sent, response, err);

    for (size_t i = 0; i < sending.line_count; i++)
        free(sending.lines[i]);
    free(url);
    free(path);
    free(key);
    return ok;
}

/* Refused for the credentials' sake, as far as can be told: an answer to HEAD gives no reason. */
static bool is_refused(const struct http_response *response)
{
    static const char *const codes[] = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired",
                                        "InvalidAccessKeyId", "SignatureDoesNotMatch"};
    struct error ignored = ERROR_INIT;
    struct s3_answer answer;

    if ((response->status != 400 && response->status != 403) ||
        !s3_answer_read(response, &answer, &ignored))
        return false;
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        if (strcmp(answer.code, codes[i]) == 0)
            return true;
    return response->status == 403 && response->body.length == 0;
}

bool s3_request_send(struct s3_bucket *bucket, const struct s3_request *request,
                     struct http_response *response, struct error *err)
{
    struct s3_keys keys;
    bool ok, again;
    int tries = 0;

    *response = (struct http_response){.status = 0};
    do {
        http_response_free(response);
        if (!s3_credentials_get(bucket->credentials, &keys, err))
            return false;
        ok = send_once(bucket, request, &keys, response, err);
        again = ok && ++tries < KEYS_TRIED && is_refused(response) &&
                s3_credentials_renew(bucket->credentials, &keys);
        s3_credentials_free_keys(&keys);
    } while (again);
    return ok;
}
