/*
 * buffer.h - a growing array of bytes
 *
 * The owner of the struct owns the bytes; buffer_free leaves an empty, usable buffer. There is
 * always a NUL behind the last byte (not counted in length) once something was appended, so that
 * text can be used as a C string.
 */
#ifndef PGVIGIL_BUFFER_H
#define PGVIGIL_BUFFER_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "pgvigil/error.h"

struct buffer {
    unsigned char *data;
    size_t length;   /* bytes in use */
    size_t capacity; /* bytes allocated */
};

#define BUFFER_INIT                                                                                \
    {                                                                                              \
        .data = NULL                                                                               \
    }

void buffer_free(struct buffer *buffer);
void buffer_clear(struct buffer *buffer);                /* keeps the memory */
void buffer_reserve(struct buffer *buffer, size_t more); /* room for `more` further bytes */
/* The same for many bytes, and no more than these: ERROR_SYSTEM if there is no memory. */
bool buffer_try_reserve(struct buffer *buffer, size_t more, struct error *err);
void buffer_append(struct buffer *buffer, const void *data, size_t length);
void buffer_append_string(struct buffer *buffer, const char *string);
void buffer_append_format(struct buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void buffer_append_u16(struct buffer *buffer, uint16_t value); /* little endian */
void buffer_append_u32(struct buffer *buffer, uint32_t value);
void buffer_append_u64(struct buffer *buffer, uint64_t value);
const char *buffer_text(const struct buffer *buffer); /* "" when empty */
char *buffer_take_text(struct buffer *buffer);        /* hands the memory over, buffer is empty */

#endif
