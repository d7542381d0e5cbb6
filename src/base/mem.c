/* mem.c - small allocations that cannot fail */
#include "pgvigil/mem.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_int mem_exit_status = 3;

void mem_set_failure_status(int exit_status)
{
    atomic_store(&mem_exit_status, exit_status);
}

/* No stdio and no exit handlers here: both may want memory. */
_Noreturn void mem_give_up(const char *message)
{
    const struct iovec parts[] = {
        {.iov_base = "pgvigil: error: ", .iov_len = strlen("pgvigil: error: ")},
        {.iov_base = (void *)(uintptr_t)message, .iov_len = strlen(message)},
        {.iov_base = "\n", .iov_len = 1},
    };
    ssize_t ignored = writev(STDERR_FILENO, parts, 3);

    (void)ignored;
    _exit(atomic_load(&mem_exit_status));
}

static _Noreturn void mem_fail(void)
{
    mem_give_up("out of memory");
}

void *mem_alloc(size_t size)
{
    void *pointer = malloc(size > 0 ? size : 1);

    if (!pointer)
        mem_fail();
    return pointer;
}

void *mem_calloc(size_t count, size_t size)
{
    void *pointer = calloc(count > 0 ? count : 1, size > 0 ? size : 1);

    if (!pointer)
        mem_fail();
    return pointer;
}

void *mem_realloc(void *pointer, size_t size)
{
    void *moved = realloc(pointer, size > 0 ? size : 1);

    if (!moved)
        mem_fail();
    return moved;
}

char *mem_strdup(const char *string)
{
    size_t size = strlen(string) + 1;

    return memcpy(mem_alloc(size), string, size);
}

char *mem_strndup(const char *string, size_t length)
{
    size_t kept = strnlen(string, length);
    char *copy = mem_alloc(kept + 1);

    memcpy(copy, string, kept);
    copy[kept] = '\0';
    return copy;
}

char *mem_printf(const char *format, ...)
{
    char *text = NULL;
    va_list args;

    va_start(args, format);
    int length = vasprintf(&text, format, args);
    va_end(args);
    if (length < 0 || !text)
        mem_fail();
    return text;
}

void *mem_grow(void *array, size_t count, size_t *capacity, size_t size)
{
    size_t wanted, bytes;

    if (array && count < *capacity)
        return array;
    if (__builtin_add_overflow(count, count / 2 + 8, &wanted) ||
        __builtin_mul_overflow(wanted, size, &bytes))
        mem_fail();
    array = mem_realloc(array, bytes);
    *capacity = wanted;
    return array;
}

bool mem_try_alloc(void **pointer, size_t size, struct error *err)
{
    *pointer = malloc(size > 0 ? size : 1);
    return *pointer || mem_refused(size, err);
}

bool mem_refused(size_t size, struct error *err)
{
    return error_set(err, ERROR_SYSTEM, "could not allocate %zu bytes of memory", size);
}
