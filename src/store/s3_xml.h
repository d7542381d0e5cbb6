/*
 * s3_xml.h - what S3 servers say in XML (Amazon S3 API Reference), read by libxml2
 *
 * Answers are foreign bytes: no entities of their own, nothing fetched, sizes bounded by http.h.
 */
#ifndef PGVIGIL_STORE_S3_XML_H
#define PGVIGIL_STORE_S3_XML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgvigil/buffer.h"
#include "pgvigil/error.h"

struct s3_xml; /* a parsed answer */

/* *xml is NULL, without an error, where the bytes are no XML whose root has that name. */
bool s3_xml_parse(const struct buffer *text, const char *root, struct s3_xml **xml,
                  struct error *err);
void s3_xml_free(struct s3_xml *xml);

/* The text of the first element of that name, at any depth, cut to size; "" if there is none.
 * Returns text. */
const char *s3_xml_text(const struct s3_xml *xml, const char *name, char *text, size_t size);

/* Calls fn for each child of the root with that name; false stops. Within fn, s3_xml_field reads the
 * text of the child's own elements. */
struct s3_xml_element;
typedef bool (*s3_xml_fn)(const struct s3_xml_element *element, void *context, struct error *err);
bool s3_xml_each(const struct s3_xml *xml, const char *name, s3_xml_fn fn, void *context,
                 struct error *err);
const char *s3_xml_field(const struct s3_xml_element *element, const char *name, char *text,
                         size_t size);

#endif
