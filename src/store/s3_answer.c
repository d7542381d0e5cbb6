/* s3_answer.c - what answers of S3 servers mean */
#include "store/s3_answer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/clock.h"
#include "store/s3_xml.h"

#define LONGEST_RETRY_AFTER 3600L /* s: no server means more */

bool s3_answer_read(const struct http_response *response, struct s3_answer *answer,
                    struct error *err)
{
    struct s3_xml *xml;

    *answer = (struct s3_answer){.response = response};
    http_header(response, "x-amz-bucket-region", answer->region, sizeof(answer->region));
    if (response->body.length == 0)
        return true;
    if (!s3_xml_parse(&response->body, "Error", &xml, err))
        return false;
    if (!xml)
        return true;
    s3_xml_text(xml, "Code", answer->code, sizeof(answer->code));
    s3_xml_text(xml, "Message", answer->message, sizeof(answer->message));
    if (answer->region[0] == '\0')
        s3_xml_text(xml, "Region", answer->region, sizeof(answer->region));
    s3_xml_free(xml);
    return true;
}

/* One line for people; %s in a hint is the server's own word for the region or its clock. */
static const struct {
    const char *code;
    const char *hint;
} hints[] = {
    {"NoSuchBucket", "make the bucket, or correct the repository's \"url\""},
    {"InvalidAccessKeyId", "the server does not know this access_key_id"},
    {"SignatureDoesNotMatch", "secret_access_key does not belong to access_key_id, or a proxy "
                              "changes requests on their way"},
    {"AccessDenied",
     "pgvigil needs the rights s3:GetObject, s3:PutObject and s3:ListBucket "
     "(without the last one S3 does not tell an absent object from a forbidden one), and "
     "s3:DeleteObject to remove anything"},
    {"ExpiredToken", "the credentials have expired: renew them"},
    {"TokenRefreshRequired", "the credentials have expired: renew them"},
    {"InvalidStorageClass", "the server has no such storage_class"},
    {"InvalidBucketName", "correct the bucket in the repository's \"url\""},
    {"QuotaExceeded", "the bucket or its owner has no more room: raise the quota"},
};

static void s3_answer_hint(const struct s3_answer *answer, const char *region, struct error *err)
{
    char date[64];

    if (answer->region[0] != '\0' && strcmp(answer->region, region) != 0) {
        error_hint(err, "the bucket is in region \"%s\": set region = %s (it is \"%s\" now)",
                   answer->region, answer->region, region);
        return;
    }
    if (strcmp(answer->code, "RequestTimeTooSkewed") == 0) {
        error_hint(err, "set this host's clock: the server's said %s",
                   http_header(answer->response, "date", date, sizeof(date)));
        return;
    }
    for (size_t i = 0; i < sizeof(hints) / sizeof(hints[0]); i++)
        if (strcmp(hints[i].code, answer->code) == 0)
            error_hint(err, "%s", hints[i].hint);
    if (answer->code[0] == '\0' && answer->response->body.length > 0)
        error_hint(err, "what answered does not speak S3: is the endpoint right, or a proxy in "
                        "between?");
}

static bool s3_answer_is_transient(const struct s3_answer *answer)
{
    static const char *const codes[] = {
        "RequestTimeout", "ConditionalRequestConflict", "OperationAborted",
        "BadDigest",      "XAmzContentSHA256Mismatch",  "IncompleteBody"};
    const long status = answer->response->status;

    if ((status >= 500 && status != 501 && status != 505) || status == 429 || status == 408)
        return true;
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        if (strcmp(codes[i], answer->code) == 0)
            return true;
    return false;
}

/* Seconds only; a date is as good as nothing said. */
static int64_t s3_answer_retry_after(const struct s3_answer *answer)
{
    char text[32];
    long seconds =
        strtol(http_header(answer->response, "retry-after", text, sizeof(text)), NULL, 10);

    return seconds <= 0
               ? 0
               : (seconds < LONGEST_RETRY_AFTER ? seconds : LONGEST_RETRY_AFTER) * CLOCK_SECOND;
}

bool s3_answer_refused(const struct s3_answer *answer, const char *region, struct error *err,
                       const char *format, ...)
{
    char doing[sizeof(err->message)];
    va_list args;

    va_start(args, format);
    vsnprintf(doing, sizeof(doing), format, args);
    va_end(args);
    error_set(err, ERROR_STORE, "%s: server answered %ld%s%s", doing, answer->response->status,
              answer->code[0] ? " " : "", answer->code);
    if (answer->message[0] != '\0')
        error_detail(err, "the server says: %s", answer->message);
    s3_answer_hint(answer, region, err);
    return s3_answer_is_transient(answer) ? error_transient(err, s3_answer_retry_after(answer))
                                          : false;
}
