/*
 * json_out.h - making JSON to store or to print
 *
 * jansson, with its failures dealt with: all that can fail here is memory, which ends the process
 * as in mem.h. What is put or added is handed over. Reading JSON is done with jansson itself.
 */
#ifndef PGVIGIL_JSON_OUT_H
#define PGVIGIL_JSON_OUT_H

#include <jansson.h>

#include "pgvigil/buffer.h"

json_t *json_out_object(void);
json_t *json_out_array(void);

/* A string; bytes that are not valid UTF-8 become U+FFFD each, as JSON cannot carry them. */
json_t *json_out_text(const char *text);

/* Sets a key of an object that has not been set; appends to an array. */
void json_out_put(json_t *object, const char *key, json_t *value);
void json_out_add(json_t *array, json_t *value);

/* Appends it as text: keys sorted, indented by two blanks, a newline at the end. */
void json_out_write(const json_t *value, struct buffer *text);

#endif
