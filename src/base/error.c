/*
 * error.c - errors are values
 *
 * Every text is formatted aside first, because the arguments may well be the old texts of the very
 * error that is being set.
 */
#include "pgvigil/error.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A text that was cut must not end in the middle of a UTF-8 character. */
static void error_mend_end(char *text)
{
    size_t length = strlen(text);
    size_t start = length;

    while (start > 0 && length - start < 3 && ((unsigned char)text[start - 1] & 0xC0) == 0x80)
        start--;
    if (start == 0)
        return;
    unsigned char lead = (unsigned char)text[start - 1];
    size_t wanted = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    if (length - (start - 1) < wanted)
        text[start - 1] = '\0';
}

static void error_put(char *target, size_t size, const char *text)
{
    size_t length = strlen(text);

    if (length < size) {
        memcpy(target, text, length + 1);
        return;
    }
    size_t kept = size - sizeof("...");
    memcpy(target, text, kept);
    target[kept] = '\0';
    error_mend_end(target);
    kept = strlen(target);
    memcpy(target + kept, "...", sizeof("..."));
}

static void error_format(char *text, size_t size, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));

static void error_format(char *text, size_t size, const char *format, va_list args)
{
    if (vsnprintf(text, size, format, args) < 0)
        snprintf(text, size, "(message could not be formatted) %s", format);
}

bool error_set(struct error *err, enum error_code code, const char *format, ...)
{
    char text[2 * sizeof(err->message)];
    va_list args;

    va_start(args, format);
    error_format(text, sizeof(text), format, args);
    va_end(args);

    err->code = code;
    err->detail[0] = '\0';
    err->hint[0] = '\0';
    err->transient = false;
    err->retry_after = 0;
    error_put(err->message, sizeof(err->message), text);
    return false;
}

bool error_set_errno(struct error *err, const char *format, ...)
{
    int number = errno;
    char text[2 * sizeof(err->message)];
    char space[128];
    va_list args;

    va_start(args, format);
    error_format(text, sizeof(text), format, args);
    va_end(args);

    /* The reason is worth more than the end of a very long name: room is kept for it. */
    char head[sizeof(err->message) - sizeof(space)];
    error_put(head, sizeof(head), text);
    return error_set(err, ERROR_SYSTEM, "%s: %s", head, strerror_r(number, space, sizeof(space)));
}

bool error_detail(struct error *err, const char *format, ...)
{
    char text[2 * sizeof(err->detail)];
    va_list args;

    va_start(args, format);
    error_format(text, sizeof(text), format, args);
    va_end(args);
    error_put(err->detail, sizeof(err->detail), text);
    return false;
}

bool error_hint(struct error *err, const char *format, ...)
{
    char text[2 * sizeof(err->hint)];
    va_list args;

    va_start(args, format);
    error_format(text, sizeof(text), format, args);
    va_end(args);
    error_put(err->hint, sizeof(err->hint), text);
    return false;
}

bool error_hint_also(struct error *err, const char *format, ...)
{
    const size_t length = strlen(err->hint);
    const bool asks = length > 0 && err->hint[length - 1] == '?';
    char text[sizeof(err->hint)];
    char whole[sizeof(text) + sizeof("; ") + sizeof(err->hint)];
    va_list args;

    va_start(args, format);
    error_format(text, sizeof(text), format, args);
    va_end(args);
    if (asks)
        text[0] = (char)toupper((unsigned char)text[0]);
    snprintf(whole, sizeof(whole), "%s%s%s", err->hint, asks ? " " : length > 0 ? "; " : "", text);
    error_put(err->hint, sizeof(err->hint), whole);
    return false;
}

bool error_context(struct error *err, const char *format, ...)
{
    char text[sizeof(err->message)];
    char whole[sizeof(text) + sizeof(": ") + sizeof(err->message)];
    va_list args;

    va_start(args, format);
    error_format(text, sizeof(text), format, args);
    va_end(args);
    snprintf(whole, sizeof(whole), "%s: %s", text, err->message);
    error_put(err->message, sizeof(err->message), whole);
    return false;
}

bool error_transient(struct error *err, int64_t retry_after)
{
    err->transient = true;
    err->retry_after = retry_after;
    return false;
}

void error_clear(struct error *err)
{
    err->code = ERROR_NONE;
    err->message[0] = '\0';
    err->detail[0] = '\0';
    err->hint[0] = '\0';
    err->transient = false;
    err->retry_after = 0;
}

int error_exit_code(enum error_code code)
{
    switch (code) {
    case ERROR_NONE:
        return 0;
    case ERROR_NEGATIVE:
    case ERROR_NOT_FOUND:
    case ERROR_EXISTS:
        return 1;
    case ERROR_USAGE:
    case ERROR_CONFIG:
        return 2;
    case ERROR_SYSTEM:
    case ERROR_STORE:
    case ERROR_DATABASE:
    case ERROR_TIMEOUT:
    case ERROR_BUSY:
    case ERROR_CANCELLED:
        return 3;
    case ERROR_INTEGRITY:
        return 4;
    }
    return 3;
}
