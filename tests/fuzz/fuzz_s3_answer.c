/* fuzz_s3_answer.c - an S3 server's answer of any content is understood or refused */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "store/s3_answer.h"
#include "store/s3_xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool look(const struct s3_xml_element *element, void *context, struct error *err)
{
    char key[64];

    (void)err;
    if (strlen(s3_xml_field(element, "Key", key, sizeof(key))) >= sizeof(key))
        abort();
    ++*(size_t *)context;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const size_t head = size > 0 ? data[0] % size : 0;
    struct http_response response = {.status = 503};
    struct error err = ERROR_INIT;
    struct s3_answer answer;
    struct s3_xml *xml;
    size_t count = 0;

    buffer_append(&response.headers, data, head);
    buffer_append(&response.body, data + head, size - head);
    if (s3_answer_read(&response, &answer, &err) &&
        (s3_answer_refused(&answer, "here", &err, "it failed") || err.code != ERROR_STORE))
        abort();
    if (!s3_xml_parse(&response.body, "ListBucketResult", &xml, &err))
        abort();
    if (xml)
        s3_xml_each(xml, "Contents", look, &count, &err);
    s3_xml_free(xml);
    http_response_free(&response);
    return 0;
}
