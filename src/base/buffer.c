/* buffer.c - a growing array of bytes */
#include "pgvigil/buffer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/bytes.h"
#include "pgvigil/mem.h"

void buffer_free(struct buffer *buffer)
{
    if (!buffer)
        return;
    free(buffer->data);
    *buffer = (struct buffer)BUFFER_INIT;
}

void buffer_clear(struct buffer *buffer)
{
    buffer->length = 0;
    if (buffer->data)
        buffer->data[0] = '\0';
}

/* What room for `more` further bytes and the NUL takes. An overflow becomes a request that the allocator is
 * certain to refuse. */
static size_t buffer_needed(const struct buffer *buffer, size_t more)
{
    size_t needed;

    if (__builtin_add_overflow(buffer->length, more, &needed) ||
        __builtin_add_overflow(needed, 1, &needed))
        needed = SIZE_MAX;
    return needed;
}

void buffer_reserve(struct buffer *buffer, size_t more)
{
    const size_t needed = buffer_needed(buffer, more);

    if (needed <= buffer->capacity)
        return;

    size_t capacity = buffer->capacity < 64 ? 64 : buffer->capacity;
    while (capacity < needed && capacity <= SIZE_MAX / 2)
        capacity *= 2;
    if (capacity < needed)
        capacity = needed;
    buffer->data = mem_realloc(buffer->data, capacity);
    buffer->capacity = capacity;
    buffer->data[buffer->length] = '\0';
}

bool buffer_try_reserve(struct buffer *buffer, size_t more, struct error *err)
{
    const size_t needed = buffer_needed(buffer, more);

    if (needed <= buffer->capacity)
        return true;

    unsigned char *moved = realloc(buffer->data, needed);
    if (!moved)
        return mem_refused(needed, err);
    buffer->data = moved;
    buffer->capacity = needed;
    buffer->data[buffer->length] = '\0';
    return true;
}

void buffer_append(struct buffer *buffer, const void *data, size_t length)
{
    buffer_reserve(buffer, length);
    if (length > 0)
        memcpy(buffer->data + buffer->length, data, length);
    buffer->length += length;
    buffer->data[buffer->length] = '\0';
}

void buffer_append_string(struct buffer *buffer, const char *string)
{
    buffer_append(buffer, string, strlen(string));
}

void buffer_append_format(struct buffer *buffer, const char *format, ...)
{
    char *text = NULL;
    va_list args;

    va_start(args, format);
    int length = vasprintf(&text, format, args);
    va_end(args);
    if (length < 0 || !text)
        mem_give_up("out of memory");
    buffer_append(buffer, text, (size_t)length);
    free(text);
}

void buffer_append_u16(struct buffer *buffer, uint16_t value)
{
    unsigned char bytes[2];

    bytes_put_u16(bytes, value);
    buffer_append(buffer, bytes, sizeof(bytes));
}

void buffer_append_u32(struct buffer *buffer, uint32_t value)
{
    unsigned char bytes[4];

    bytes_put_u32(bytes, value);
    buffer_append(buffer, bytes, sizeof(bytes));
}

void buffer_append_u64(struct buffer *buffer, uint64_t value)
{
    unsigned char bytes[8];

    bytes_put_u64(bytes, value);
    buffer_append(buffer, bytes, sizeof(bytes));
}

const char *buffer_text(const struct buffer *buffer)
{
    return buffer->data ? (const char *)buffer->data : "";
}

char *buffer_take_text(struct buffer *buffer)
{
    buffer_reserve(buffer, 0);
    char *text = (char *)buffer->data;
    *buffer = (struct buffer)BUFFER_INIT;
    return text;
}
