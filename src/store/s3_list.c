/* s3_list.c - what concerns a bucket's objects as many */
#include "store/s3_list.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pgvigil/clock.h"
#include "pgvigil/mem.h"
#include "store/s3_xml.h"

#define FIRST_PAGE 100 /* often only the first name is wanted */
#define PAGE 1000      /* as many as servers give at once, and take for removal */
#define MD5_SIZE 16

bool s3_list_parse_date(const char *text, int64_t *moment)
{
    struct tm parts = {.tm_isdst = 0};
    const char *end = strptime(text, "%a, %d %b %Y %H:%M:%S GMT", &parts);

    if (!end || *end != '\0')
        return false;
    *moment = (int64_t)timegm(&parts) * CLOCK_SECOND;
    return true;
}

/* -- list --------------------------------------------------------------------------------------- */

struct s3_listing {
    struct s3_store *store;
    store_list_fn fn;
    void *context;
    char last[2 * STORE_NAME_MAXIMUM]; /* key given last, to go on behind it */
    bool advanced;                     /* by this page */
};

static bool s3_list_failed(const struct s3_store *store, struct error *err)
{
    return error_context(err, "could not list \"%s\"", store->base.url);
}

static bool s3_list_odd(const struct s3_store *store, const char *why, struct error *err)
{
    return error_set(err, ERROR_STORE, "could not list \"%s\": the server's answer %s",
                     store->base.url, why);
}

/* One <Contents>. */
static bool s3_list_take(const struct s3_xml_element *element, void *context, struct error *err)
{
    struct s3_listing *listing = context;
    size_t hidden = strlen(listing->store->prefix);
    char key[sizeof(listing->last)], size[32], modified[64];
    struct store_info info;

    s3_xml_field(element, "Key", key, sizeof(key));
    s3_xml_field(element, "Size", size, sizeof(size));
    s3_xml_field(element, "LastModified", modified, sizeof(modified));
    if (strcmp(key, listing->last) <= 0)
        return s3_list_odd(listing->store, "is not in the order of the names", err);
    snprintf(listing->last, sizeof(listing->last), "%s", key);
    listing->advanced = true;
    if (strncmp(key, listing->store->prefix, hidden) != 0)
        return s3_list_odd(listing->store, "has names that were not asked for", err);
    if (!store_name_valid(key + hidden))
        return true; /* nobody of ours made it */
    info.size = strtoull(size, NULL, 10);
    if (!clock_parse(modified, &info.modified, err))
        return s3_list_odd(listing->store, "has a date that is none", err);
    if (listing->fn(key + hidden, &info, listing->context, err))
        return true;
    return false;
}

static bool s3_list_ask(struct s3_store *store, const char *prefix, const char *after, int most,
                        struct http_response *response, struct error *err)
{
    char *start = s3_sign_encode(after, S3_SLASH_IS_TEXT),
         *under = s3_sign_encode(prefix, S3_SLASH_IS_TEXT);
    char *query = mem_printf("list-type=2&max-keys=%d&prefix=%s%s%s", most, under,
                             *after ? "&start-after=" : "", start);
    const struct s3_request request = {
        .method = "GET", .query = query, .deadline = store->base.deadline};
    bool ok = s3_request_send(&store->bucket, &request, response, err);

    free(query);
    free(under);
    free(start);
    if (!ok)
        return s3_list_failed(store, err);
    if (response->status == 200)
        return true;

    struct s3_answer answer;
    return s3_answer_read(response, &answer, err) &&
           s3_answer_refused(&answer, store->bucket.region, err, "could not list \"%s\"",
                             store->base.url);
}

/* One page, behind listing->last. */
static bool s3_list_page(struct s3_listing *listing, const char *prefix, int most, bool *more,
                         struct error *err)
{
    struct http_response response = {.status = 0};
    struct s3_xml *xml = NULL;
    char truncated[8];
    bool ok = s3_list_ask(listing->store, prefix, listing->last, most, &response, err) &&
              s3_xml_parse(&response.body, "ListBucketResult", &xml, err);

    if (ok && !xml) {
        ok = s3_list_odd(listing->store, "is no list of S3's", err);
        error_hint(err, "is the endpoint right, or a proxy in between?");
        error_transient(err, 0);
    }
    if (ok) {
        s3_xml_text(xml, "IsTruncated", truncated, sizeof(truncated));
        *more = strcmp(truncated, "true") == 0;
        listing->advanced = false;
        ok = s3_xml_each(xml, "Contents", s3_list_take, listing, err);
    }
    /* What a list lacks would be taken for absent; and nobody must be asked for ever. */
    if (ok && !*more && strcmp(truncated, "false") != 0)
        ok = s3_list_odd(listing->store, "does not say whether that is all", err);
    else if (ok && *more && !listing->advanced)
        ok = s3_list_odd(listing->store, "says that there is more, and has nothing", err);
    s3_xml_free(xml);
    http_response_free(&response);
    return ok;
}

bool s3_list(struct store *base, const char *prefix, const char *after, store_list_fn fn,
             void *context, struct error *err)
{
    struct s3_store *store = (struct s3_store *)base;
    struct s3_listing listing = {.store = store, .fn = fn, .context = context};
    char *full = s3_key(store, prefix);
    int most = FIRST_PAGE;
    bool more = true, ok = true;

    if (after)
        snprintf(listing.last, sizeof(listing.last), "%s%s", store->prefix, after);
    while (ok && more) {
        ok = s3_list_page(&listing, full, most, &more, err);
        most = PAGE;
    }
    free(full);
    return ok;
}

bool s3_list_check_bucket(struct s3_store *store, struct error *err)
{
    struct http_response response = {.status = 0};
    bool ok = s3_list_ask(store, store->prefix, "", 1, &response, err);

    http_response_free(&response);
    return ok;
}

/* -- remove many -------------------------------------------------------------------------------- */

static bool s3_read_text(const struct store_body *body, uint64_t offset, void *data, size_t length,
                         struct error *err)
{
    (void)err;
    memcpy(data, (const char *)body->context + offset, length);
    return true;
}

/* One <Error> of a DeleteResult. */
static bool s3_remove_refused(const struct s3_xml_element *element, void *context,
                              struct error *err)
{
    const struct s3_store *store = context;
    char key[STORE_NAME_MAXIMUM], code[64], message[512];

    s3_xml_field(element, "Key", key, sizeof(key));
    s3_xml_field(element, "Code", code, sizeof(code));
    s3_xml_field(element, "Message", message, sizeof(message));
    if (strcmp(code, "NoSuchKey") == 0)
        return true;
    error_set(err, ERROR_STORE, "could not remove object \"%s\" in \"%s\": server answered %s", key,
              store->base.url, code);
    if (message[0])
        error_detail(err, "the server says: %s", message);
    if (strcmp(code, "AccessDenied") == 0)
        error_hint(err, "removing objects needs the right s3:DeleteObject");
    if (strcmp(code, "InternalError") == 0 || strcmp(code, "SlowDown") == 0)
        error_transient(err, 0);
    return false;
}

static bool s3_remove_answer(const struct s3_store *store, const struct http_response *response,
                             struct error *err)
{
    struct s3_xml *xml;

    if (response->status != 200)
        return s3_refused(store, response, "remove", "(several)", err);
    if (!s3_xml_parse(&response->body, "DeleteResult", &xml, err))
        return false;
    if (!xml)
        return error_set(err, ERROR_STORE,
                         "could not remove objects in \"%s\": the server's "
                         "answer is not S3's",
                         store->base.url);
    bool ok = s3_xml_each(xml, "Error", s3_remove_refused, (void *)(uintptr_t)store, err);
    s3_xml_free(xml);
    return ok;
}

/* At most PAGE names; they have no characters that XML would want escaped. */
static bool s3_remove_page(struct s3_store *store, const char *const *names, size_t count,
                           struct error *err)
{
    struct buffer text = BUFFER_INIT;
    unsigned char digest[MD5_SIZE];
    char md5[4 * ((MD5_SIZE + 2) / 3) + 1];

    buffer_append_string(&text, "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
                                "<Quiet>true</Quiet>");
    for (size_t i = 0; i < count; i++)
        buffer_append_format(&text, "<Object><Key>%s%s</Key></Object>", store->prefix, names[i]);
    buffer_append_string(&text, "</Delete>");
    /* MD5 is what the protocol asks for; the SHA-256 is signed besides. */
    if (!EVP_Digest(text.data, text.length, digest, NULL, EVP_md5(), NULL))
        mem_give_up("could not compute an MD5");
    EVP_EncodeBlock((unsigned char *)md5, digest, MD5_SIZE);

    const struct store_body body = {
        .length = text.length, .read = s3_read_text, .context = text.data};
    const struct s3_request request = {.method = "POST",
                                       .query = "delete=",
                                       .headers = {{"content-md5", md5}},
                                       .header_count = 1,
                                       .body = &body,
                                       .deadline = store->base.deadline};
    struct http_response response = {.status = 0};
    bool ok = s3_request_send(&store->bucket, &request, &response, err);

    if (ok)
        ok = s3_remove_answer(store, &response, err);
    else
        error_context(err, "could not remove objects in \"%s\"", store->base.url);
    http_response_free(&response);
    buffer_free(&text);
    return ok;
}

bool s3_list_remove_many(struct store *base, const char *const *names, size_t count,
                         struct error *err)
{
    for (size_t i = 0; i < count; i += PAGE)
        if (!s3_remove_page((struct s3_store *)base, names + i, count - i < PAGE ? count - i : PAGE,
                            err))
            return false;
    return true;
}

/* -- versions ----------------------------------------------------------------------------------- */

bool s3_list_keeps_versions(struct store *base)
{
    struct s3_store *store = (struct s3_store *)base;
    const struct s3_request request = {
        .method = "GET", .query = "versioning=", .deadline = base->deadline};
    struct http_response response;
    struct s3_xml *xml = NULL;
    struct error ignored = ERROR_INIT;
    char status[16] = "";

    if (s3_request_send(&store->bucket, &request, &response, &ignored) && response.status == 200 &&
        s3_xml_parse(&response.body, "VersioningConfiguration", &xml, &ignored) && xml)
        s3_xml_text(xml, "Status", status, sizeof(status));
    s3_xml_free(xml);
    http_response_free(&response);
    return strcmp(status, "Enabled") == 0;
}
