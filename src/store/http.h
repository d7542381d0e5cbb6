/*
 * http.h - HTTP requests by libcurl (RFC 9110; TLS verified always)
 *
 * A struct http keeps the connections of one place open; as many threads as like may use it at once,
 * each gets a connection of its own. libcurl is loaded with the first one.
 */
#ifndef PGVIGIL_STORE_HTTP_H
#define PGVIGIL_STORE_HTTP_H

#include <stddef.h>
#include <stdint.h>

#include "pgvigil/buffer.h"
#include "pgvigil/clock.h"
#include "pgvigil/error.h"
#include "pgvigil/store.h"

#define HTTP_KEPT_MAXIMUM ((size_t)4 * 1024 * 1024) /* bytes of an answer kept in memory */

struct http;

struct http_request {
    const char *method;
    const char *url;
    const char *const *headers;    /* "Name: value", up to a NULL */
    const struct store_body *body; /* NULL: none */
    store_sink sink;               /* gets the body of a 2xx answer, whose status is in the response
                                      by then; NULL: it is kept */
    void *context;
    int64_t deadline;        /* by clock_monotonic; 0: none but that bytes must flow */
    int64_t connect_timeout; /* microseconds; 0: 10 s */
    const char *host_hint;   /* for when the host's name means nothing; NULL: the usual one */
};

struct http_response {
    long status;
    struct buffer headers; /* of the last answer, as lines */
    struct buffer body;    /* of an answer that no sink got */
};

#define HTTP_PATIENCE (30 * CLOCK_SECOND)

/* ca_file: certificates to trust instead of the system's, or NULL (borrowed). patience: microseconds
 * without bytes in either direction after which a request has failed. */
bool http_new(const char *ca_file, int64_t patience, struct http **http, struct error *err);
void http_free(struct http *http);

/*
 * True: there is an answer, whatever its status. Otherwise ERROR_STORE, transient where another try
 * may help; ERROR_CANCELLED after a signal; or the sink's error. The caller frees the response in
 * any case.
 */
bool http_perform(struct http *http, const struct http_request *request,
                  struct http_response *response, struct error *err);
void http_response_free(struct http_response *response);

/* The value of a header, cut to size; "" if there is none. Returns value. */
const char *http_header(const struct http_response *response, const char *name, char *value,
                        size_t size);

#endif
