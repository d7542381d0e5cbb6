/* http.c - HTTP requests by libcurl */
#include "store/http.h"

#define CURL_DISABLE_TYPECHECK
#include <curl/curl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "pgvigil/library.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"

#define CONNECT_TIMEOUT (10 * CLOCK_SECOND)
#define STALLED_BYTES 1000L /* fewer a second are none */
#define HEADERS_MAXIMUM ((size_t)64 * 1024)
#define TRANSFER_BUFFER 524288L

#define FUNCTIONS(F)                                                                               \
    F(curl_easy_cleanup)                                                                           \
    F(curl_easy_getinfo)                                                                           \
    F(curl_easy_init)                                                                              \
    F(curl_easy_perform)                                                                           \
    F(curl_easy_reset)                                                                             \
    F(curl_easy_setopt)                                                                            \
    F(curl_easy_strerror)                                                                          \
    F(curl_global_init)                                                                            \
    F(curl_slist_append)                                                                           \
    F(curl_slist_free_all)
#define ENTRY(function) LIBRARY_ENTRY(lib, function)

static struct {
    FUNCTIONS(LIBRARY_MEMBER)
} lib;

static const struct library_function functions[] = {FUNCTIONS(ENTRY)};

static struct library library = {
    .file = "libcurl.so.4",
    .name = "libcurl, which talks to S3 servers",
    .package = "libcurl4",
    .functions = functions,
    .count = sizeof(functions) / sizeof(functions[0]),
};

struct idle {
    CURL *handle;
    struct idle *next;
};

struct http {
    const char *ca_file;
    long patience; /* s */
    pthread_mutex_t lock;
    struct idle *idle; /* handles nobody uses, with their connections */
};

/* One request under way. */
struct transfer {
    const struct http_request *request;
    struct http_response *response;
    CURL *handle;
    uint64_t sent; /* offset in the request's body */
    bool failed;   /* by us: err is set */
    struct error *err;
    char reason[CURL_ERROR_SIZE];
};

bool http_new(const char *ca_file, int64_t patience, struct http **http, struct error *err)
{
    if (!library_load(&library, err))
        return false;
    /* Counted by libcurl, and safe among threads since its 7.84. */
    if (lib.curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return error_set(err, ERROR_SYSTEM, "could not initialize libcurl");
    *http = mem_calloc(1, sizeof(**http));
    (*http)->ca_file = ca_file;
    (*http)->patience = (long)((patience + CLOCK_SECOND - 1) / CLOCK_SECOND);
    pthread_mutex_init(&(*http)->lock, NULL);
    return true;
}

void http_free(struct http *http)
{
    if (!http)
        return;
    while (http->idle) {
        struct idle *first = http->idle;

        http->idle = first->next;
        lib.curl_easy_cleanup(first->handle);
        free(first);
    }
    pthread_mutex_destroy(&http->lock);
    free(http);
}

static CURL *take_handle(struct http *http)
{
    pthread_mutex_lock(&http->lock);
    struct idle *first = http->idle;
    if (first)
        http->idle = first->next;
    pthread_mutex_unlock(&http->lock);

    CURL *handle = first ? first->handle : lib.curl_easy_init();
    free(first);
    if (!handle)
        mem_give_up("could not allocate memory for an HTTP connection");
    return handle;
}

/* Keeps the handle with its connection for the next request. */
static void give_handle_back(struct http *http, CURL *handle)
{
    struct idle *one = mem_alloc(sizeof(*one));

    lib.curl_easy_reset(handle);
    one->handle = handle;
    pthread_mutex_lock(&http->lock);
    one->next = http->idle;
    http->idle = one;
    pthread_mutex_unlock(&http->lock);
}

static size_t take_header(char *line, size_t size, size_t count, void *context)
{
    struct transfer *transfer = context;
    struct buffer *headers = &transfer->response->headers;
    size_t length = size * count;

    if (length > 5 && memcmp(line, "HTTP/", 5) == 0)
        buffer_clear(headers); /* what came before was an interim answer */
    if (headers->length + length > HEADERS_MAXIMUM) {
        transfer->failed = true;
        error_set(transfer->err, ERROR_STORE, "the server's answer has too many headers");
        return 0;
    }
    buffer_append(headers, line, length);
    return length;
}

static bool keep_body(struct transfer *transfer, const void *data, size_t length)
{
    if (transfer->response->body.length + length > HTTP_KEPT_MAXIMUM)
        return error_set(transfer->err, ERROR_STORE, "the server's answer is larger than %zu bytes",
                         HTTP_KEPT_MAXIMUM);
    buffer_append(&transfer->response->body, data, length);
    return true;
}

static size_t take_body(char *data, size_t size, size_t count, void *context)
{
    struct transfer *transfer = context;
    size_t length = size * count;
    bool ok;

    if (length == 0)
        return 0;
    lib.curl_easy_getinfo(transfer->handle, CURLINFO_RESPONSE_CODE, &transfer->response->status);
    ok = transfer->request->sink && transfer->response->status / 100 == 2
             ? transfer->request->sink(data, length, transfer->request->context, transfer->err)
             : keep_body(transfer, data, length);
    if (ok)
        return length;
    transfer->failed = true;
    return 0;
}

static size_t give_body(char *data, size_t size, size_t count, void *context)
{
    struct transfer *transfer = context;
    const struct store_body *body = transfer->request->body;
    uint64_t left = body->length - transfer->sent;
    size_t length = size * count < left ? size * count : (size_t)left;

    if (!body->read(body, transfer->sent, data, length, transfer->err)) {
        transfer->failed = true;
        return CURL_READFUNC_ABORT;
    }
    transfer->sent += length;
    return length;
}

static int seek_body(void *context, curl_off_t offset, int origin)
{
    struct transfer *transfer = context;

    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > transfer->request->body->length)
        return CURL_SEEKFUNC_FAIL;
    transfer->sent = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* Called about once a second, and whenever bytes came. */
static int is_interrupted(void *context, curl_off_t to_get, curl_off_t got, curl_off_t to_send,
                          curl_off_t sent)
{
    (void)context;
    (void)to_get;
    (void)got;
    (void)to_send;
    (void)sent;
    return process_interrupted();
}

static void set_method(struct transfer *transfer)
{
    const struct http_request *request = transfer->request;
    CURL *handle = transfer->handle;

    if (request->body) {
        lib.curl_easy_setopt(handle, CURLOPT_UPLOAD, 1L);
        lib.curl_easy_setopt(handle, CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->body->length);
        lib.curl_easy_setopt(handle, CURLOPT_READFUNCTION, give_body);
        lib.curl_easy_setopt(handle, CURLOPT_READDATA, transfer);
        lib.curl_easy_setopt(handle, CURLOPT_SEEKFUNCTION, seek_body);
        lib.curl_easy_setopt(handle, CURLOPT_SEEKDATA, transfer);
    }
    if (strcmp(request->method, "HEAD") == 0)
        lib.curl_easy_setopt(handle, CURLOPT_NOBODY, 1L);
    else
        lib.curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, request->method);
}

static void set_times(const struct http *http, const struct transfer *transfer)
{
    const struct http_request *request = transfer->request;
    int64_t connect = request->connect_timeout != 0 ? request->connect_timeout : CONNECT_TIMEOUT;
    CURL *handle = transfer->handle;

    lib.curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS, (long)(connect / 1000));
    lib.curl_easy_setopt(handle, CURLOPT_LOW_SPEED_LIMIT, STALLED_BYTES);
    lib.curl_easy_setopt(handle, CURLOPT_LOW_SPEED_TIME, http->patience);
    if (request->deadline != 0) {
        int64_t left = (request->deadline - clock_monotonic()) / 1000;

        lib.curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, left > 1 ? (long)left : 1L);
    }
}

static void set_receivers(struct transfer *transfer)
{
    CURL *handle = transfer->handle;

    lib.curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, take_header);
    lib.curl_easy_setopt(handle, CURLOPT_HEADERDATA, transfer);
    lib.curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, take_body);
    lib.curl_easy_setopt(handle, CURLOPT_WRITEDATA, transfer);
    lib.curl_easy_setopt(handle, CURLOPT_XFERINFOFUNCTION, is_interrupted);
    lib.curl_easy_setopt(handle, CURLOPT_NOPROGRESS, 0L);
    lib.curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, transfer->reason);
}

static void set_options(const struct http *http, struct transfer *transfer)
{
    CURL *handle = transfer->handle;

    lib.curl_easy_setopt(handle, CURLOPT_URL, transfer->request->url);
    lib.curl_easy_setopt(handle, CURLOPT_PATH_AS_IS, 1L);
    lib.curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
    lib.curl_easy_setopt(handle, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    lib.curl_easy_setopt(handle, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    lib.curl_easy_setopt(handle, CURLOPT_USERAGENT, "pgvigil");
    lib.curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
    lib.curl_easy_setopt(handle, CURLOPT_TCP_KEEPALIVE, 1L);
    lib.curl_easy_setopt(handle, CURLOPT_BUFFERSIZE, TRANSFER_BUFFER);
    lib.curl_easy_setopt(handle, CURLOPT_UPLOAD_BUFFERSIZE, TRANSFER_BUFFER);
    if (http->ca_file)
        lib.curl_easy_setopt(handle, CURLOPT_CAINFO, http->ca_file);
    set_method(transfer);
    set_times(http, transfer);
    set_receivers(transfer);
}

/* Scheme, host and port: what is of interest when nobody answers there. */
static int length_of_origin(const char *url)
{
    const char *host = strstr(url, "://");
    const char *slash = host ? strchr(host + 3, '/') : NULL;

    return (int)(slash ? (size_t)(slash - url) : strlen(url));
}

static void blame_tls(const struct http *http, struct error *err)
{
    if (http->ca_file)
        error_hint(err,
                   "is \"%s\" (ca_file) the certificate of the authority that signed the "
                   "server's?",
                   http->ca_file);
    else
        error_hint(err, "if the server's certificate is signed by an authority of your own, name "
                        "that one's certificate by ca_file");
}

/* Plain HTTP and TLS taken for each other. */
static bool blame_scheme(const char *url, const char *why, CURLcode code, struct error *err)
{
    if (code == CURLE_SSL_CONNECT_ERROR && strstr(why, "wrong version number"))
        return error_hint(err, "that port does not seem to speak TLS: if it is one of plain HTTP, "
                               "\"endpoint\" must begin with http://");
    if (strncmp(url, "http://", 7) == 0 &&
        (code == CURLE_GOT_NOTHING || code == CURLE_UNSUPPORTED_PROTOCOL))
        error_hint(err, "if that port speaks TLS, \"endpoint\" must begin with https://; if not, "
                        "nothing is lost by trying again later");
    return code == CURLE_UNSUPPORTED_PROTOCOL ? false : error_transient(err, 0);
}

static bool blame(const struct http *http, const struct transfer *transfer, CURLcode code,
                  struct error *err)
{
    const char *why = transfer->reason[0] ? transfer->reason : lib.curl_easy_strerror(code);
    const char *url = transfer->request->url;

    if (transfer->failed)
        return false;
    if (code == CURLE_ABORTED_BY_CALLBACK && !process_check(err))
        return false;
    error_set(err, ERROR_STORE, "no answer from \"%.*s\": %s", length_of_origin(url), url, why);
    switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        blame_tls(http, err);
        return false;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return blame_scheme(url, why, code, err);
    case CURLE_URL_MALFORMAT:
    case CURLE_OUT_OF_MEMORY:
        return false;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
        error_hint(err, "%s",
                   code == CURLE_COULDNT_RESOLVE_HOST && transfer->request->host_hint
                       ? transfer->request->host_hint
                       : "is the endpoint right, and can it be reached from this host?");
        break;
    default:
        break;
    }
    return error_transient(err, 0);
}

static struct curl_slist *list_headers(const struct http_request *request)
{
    struct curl_slist *list = NULL;

    for (size_t i = 0; request->headers && request->headers[i]; i++) {
        struct curl_slist *longer = lib.curl_slist_append(list, request->headers[i]);

        if (!longer)
            mem_give_up("could not allocate memory for an HTTP request");
        list = longer;
    }
    return list;
}

bool http_perform(struct http *http, const struct http_request *request,
                  struct http_response *response, struct error *err)
{
    *response = (struct http_response){.status = 0};
    if (request->deadline != 0 && clock_monotonic() >= request->deadline)
        return error_set(err, ERROR_STORE, "no time is left to ask \"%.*s\"",
                         length_of_origin(request->url), request->url);

    struct transfer transfer = {
        .request = request, .response = response, .handle = take_handle(http), .err = err};
    struct curl_slist *headers = list_headers(request);

    set_options(http, &transfer);
    lib.curl_easy_setopt(transfer.handle, CURLOPT_HTTPHEADER, headers);
    CURLcode code = lib.curl_easy_perform(transfer.handle);
    lib.curl_easy_getinfo(transfer.handle, CURLINFO_RESPONSE_CODE, &response->status);
    give_handle_back(http, transfer.handle);
    lib.curl_slist_free_all(headers);
    return code == CURLE_OK || blame(http, &transfer, code, err);
}

void http_response_free(struct http_response *response)
{
    buffer_free(&response->headers);
    buffer_free(&response->body);
}

const char *http_header(const struct http_response *response, const char *name, char *value,
                        size_t size)
{
    const char *line = buffer_text(&response->headers);
    size_t length = strlen(name);

    value[0] = '\0';
    while (*line != '\0') {
        size_t end = strcspn(line, "\r\n");

        if (end > length && line[length] == ':' && strncasecmp(line, name, length) == 0) {
            const char *from = line + length + 1;

            from += strspn(from, " \t");
            if (from < line + end)
                snprintf(value, size, "%.*s", (int)(line + end - from), from);
            return value;
        }
        line += end;
        line += strspn(line, "\r\n");
    }
    return value;
}
