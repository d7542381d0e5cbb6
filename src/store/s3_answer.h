/*
 * s3_answer.h - what answers of S3 servers mean (Amazon S3 API Reference, "Error responses")
 */
#ifndef PGVIGIL_STORE_S3_ANSWER_H
#define PGVIGIL_STORE_S3_ANSWER_H

#include "pgvigil/error.h"
#include "store/http.h"

struct s3_answer {
    const struct http_response *response;
    char code[64];     /* "NoSuchKey"; "" if the answer is not S3's XML */
    char message[512]; /* the server's own words */
    char region[64];   /* the right one, where the server names it; else "" */
};

bool s3_answer_read(const struct http_response *response, struct s3_answer *answer,
                    struct error *err);

/* "<doing>: server answered 503 SlowDown", with what can be done about it, transient where another
 * try may help. Returns false. */
bool s3_answer_refused(const struct s3_answer *answer, const char *region, struct error *err,
                       const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
