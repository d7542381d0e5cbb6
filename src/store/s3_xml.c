/* s3_xml.c - what S3 servers say in XML */
#include "store/s3_xml.h"

#include <libxml/parser.h>
#include <libxml/tree.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/library.h"
#include "pgvigil/mem.h"

#define DEPTH_MAXIMUM 16 /* of what we look into */

#define FUNCTIONS(F)                                                                               \
    F(xmlDocGetRootElement)                                                                        \
    F(xmlFreeDoc)                                                                                  \
    F(xmlInitParser)                                                                               \
    F(xmlReadMemory)                                                                               \
    F(xmlSetGenericErrorFunc)
#define ENTRY(function) LIBRARY_ENTRY(lib, function)

static struct {
    FUNCTIONS(LIBRARY_MEMBER)
} lib;

static const struct library_function functions[] = {FUNCTIONS(ENTRY)};

static struct library library = {
    .file = "libxml2.so.2",
    .name = "libxml2, which reads the answers of S3 servers",
    .package = "libxml2",
    .functions = functions,
    .count = sizeof(functions) / sizeof(functions[0]),
};

struct s3_xml {
    xmlDoc *document;
};

struct s3_xml_element {
    const xmlNode *node;
};

static bool xml_is(const xmlNode *node, const char *name)
{
    return node->type == XML_ELEMENT_NODE && strcmp((const char *)node->name, name) == 0;
}

/* What libxml2 has to say would come on stderr, in the middle of our messages. */
static void xml_be_silent(void *context, const char *message, ...)
{
    (void)context;
    (void)message;
}

bool s3_xml_parse(const struct buffer *text, const char *root, struct s3_xml **xml,
                  struct error *err)
{
    *xml = NULL;
    if (!library_load(&library, err))
        return false;
    lib.xmlInitParser();
    lib.xmlSetGenericErrorFunc(NULL, xml_be_silent); /* of this thread */

    xmlDoc *document = lib.xmlReadMemory(buffer_text(text), (int)text->length, "answer.xml", NULL,
                                         XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING |
                                             XML_PARSE_NOCDATA);
    const xmlNode *top = document ? lib.xmlDocGetRootElement(document) : NULL;

    if (top && xml_is(top, root)) {
        *xml = mem_alloc(sizeof(**xml));
        (*xml)->document = document;
    } else if (document) {
        lib.xmlFreeDoc(document);
    }
    return true;
}

void s3_xml_free(struct s3_xml *xml)
{
    if (!xml)
        return;
    lib.xmlFreeDoc(xml->document);
    free(xml);
}

static const char *xml_content(const xmlNode *node, char *text, size_t size)
{
    size_t length = 0;

    text[0] = '\0';
    for (const xmlNode *child = node ? node->children : NULL; child; child = child->next)
        if (child->type == XML_TEXT_NODE && child->content && length < size - 1) {
            snprintf(text + length, size - length, "%s", (const char *)child->content);
            length = strlen(text);
        }
    return text;
}

static const xmlNode *xml_find(const xmlNode *node, const char *name, int depth)
{
    for (; node && depth < DEPTH_MAXIMUM; node = node->next) {
        if (xml_is(node, name))
            return node;
        if (node->type != XML_ELEMENT_NODE)
            continue;

        const xmlNode *found = xml_find(node->children, name, depth + 1);
        if (found)
            return found;
    }
    return NULL;
}

const char *s3_xml_text(const struct s3_xml *xml, const char *name, char *text, size_t size)
{
    return xml_content(xml_find(lib.xmlDocGetRootElement(xml->document)->children, name, 0), text,
                       size);
}

bool s3_xml_each(const struct s3_xml *xml, const char *name, s3_xml_fn fn, void *context,
                 struct error *err)
{
    for (const xmlNode *child = lib.xmlDocGetRootElement(xml->document)->children; child;
         child = child->next) {
        const struct s3_xml_element element = {.node = child};

        if (xml_is(child, name) && !fn(&element, context, err))
            return false;
    }
    return true;
}

const char *s3_xml_field(const struct s3_xml_element *element, const char *name, char *text,
                         size_t size)
{
    const xmlNode *child = element->node->children;

    while (child && !xml_is(child, name))
        child = child->next;
    return xml_content(child, text, size);
}
