/* json_out.c - making JSON to store or to print */
#include "pgvigil/json_out.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPLACEMENT "\xEF\xBF\xBD" /* U+FFFD */

static void require(bool made)
{
    if (made)
        return;
    fputs("pgvigil: error: out of memory\n", stderr);
    abort();
}

json_t *json_out_object(void)
{
    json_t *object = json_object();

    require(object != NULL);
    return object;
}

json_t *json_out_array(void)
{
    json_t *array = json_array();

    require(array != NULL);
    return array;
}

/* Bytes of the UTF-8 character at `at` (RFC 3629, 4), or 0 if there is none. */
static size_t character_length(const unsigned char *at)
{
    unsigned char low = 0x80, high = 0xBF; /* bounds of the second byte */
    size_t length = at[0] >= 0xF0 ? 4 : at[0] >= 0xE0 ? 3 : 2;

    if (at[0] < 0x80)
        return 1;
    if (at[0] < 0xC2 || at[0] > 0xF4)
        return 0;
    if (at[0] == 0xE0)
        low = 0xA0;
    else if (at[0] == 0xED)
        high = 0x9F;
    else if (at[0] == 0xF0)
        low = 0x90;
    else if (at[0] == 0xF4)
        high = 0x8F;
    if (at[1] < low || at[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if ((at[i] & 0xC0) != 0x80)
            return 0;
    return length;
}

json_t *json_out_text(const char *text)
{
    struct buffer valid = BUFFER_INIT;

    for (const unsigned char *at = (const unsigned char *)text; *at;) {
        size_t length = character_length(at);

        if (length > 0)
            buffer_append(&valid, at, length);
        else
            buffer_append_string(&valid, REPLACEMENT);
        at += length > 0 ? length : 1;
    }
    json_t *string = json_string(buffer_text(&valid));
    require(string != NULL);
    buffer_free(&valid);
    return string;
}

void json_out_put(json_t *object, const char *key, json_t *value)
{
    require(json_object_set_new(object, key, value) == 0);
}

void json_out_add(json_t *array, json_t *value)
{
    require(json_array_append_new(array, value) == 0);
}

static int append(const char *text, size_t length, void *context)
{
    buffer_append(context, text, length);
    return 0;
}

void json_out_write(const json_t *value, struct buffer *text)
{
    require(json_dump_callback(value, append, text, JSON_INDENT(2) | JSON_SORT_KEYS) == 0);
    buffer_append_string(text, "\n");
}
