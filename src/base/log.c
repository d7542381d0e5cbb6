/*
 * log.c - messages for people, to stderr
 *
 * Levels look as PostgreSQL's front ends print them: "program: error: ...", "program: hint: ...",
 * and information without a level.
 */
#include "pgvigil/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgvigil/buffer.h"
#include "pgvigil/mem.h"

#define LOG_TEXT_SIZE 4096
#define LOG_KEPT 64 /* texts that are not said once more */

static atomic_int log_lowest = LOG_INFO;

/* A hint belongs to the message before it: it is shown if that one was. */
static _Thread_local bool log_last_shown = true;

/* Guards what was said once, the display's functions, and keeps clear, line and redraw of one message together. */
static pthread_mutex_t log_mutex = PTHREAD_MUTEX_INITIALIZER;
static void (*log_display_clear)(void);
static void (*log_display_redraw)(void);
static char *log_kept[LOG_KEPT];
static size_t log_kept_next; /* the place of the oldest */

void log_set_level(enum log_level lowest)
{
    atomic_store(&log_lowest, (int)lowest);
}

enum log_level log_level(void)
{
    return (enum log_level)atomic_load(&log_lowest);
}

void log_set_display(void (*clear)(void), void (*redraw)(void))
{
    pthread_mutex_lock(&log_mutex);
    log_display_clear = clear;
    log_display_redraw = redraw;
    pthread_mutex_unlock(&log_mutex);
}

/* Length of the UTF-8 character at `at` that a terminal may print, or 0. */
static size_t log_printable(const unsigned char *at)
{
    if (at[0] < 0x80)
        return at[0] >= 0x20 && at[0] != 0x7F ? 1 : 0;
    if (at[0] < 0xC2 || at[0] > 0xF4)
        return 0;

    size_t length = at[0] >= 0xF0 ? 4 : at[0] >= 0xE0 ? 3 : 2;
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xC0) != 0x80)
            return 0;
    }
    if (length == 2 && at[0] == 0xC2 && at[1] < 0xA0) /* C1 controls: terminals obey them */
        return 0;
    if (at[0] == 0xE0 && at[1] < 0xA0) /* overlong */
        return 0;
    if (at[0] == 0xED && at[1] > 0x9F) /* surrogates */
        return 0;
    if ((at[0] == 0xF0 && at[1] < 0x90) || (at[0] == 0xF4 && at[1] > 0x8F))
        return 0;
    return length;
}

static void log_append_escaped(struct buffer *line, const char *text)
{
    const unsigned char *at = (const unsigned char *)text;

    while (*at != '\0') {
        size_t length = log_printable(at);
        if (length > 0) {
            buffer_append(line, at, length);
            at += length;
            continue;
        }
        if (*at == '\n')
            buffer_append_string(line, "\\n");
        else if (*at == '\t')
            buffer_append_string(line, "\\t");
        else
            buffer_append_format(line, "\\x%02x", *at);
        at++;
    }
}

static void log_append_line(struct buffer *lines, const char *label, const char *text)
{
    buffer_append_string(lines, "pgvigil: ");
    buffer_append_string(lines, label);
    log_append_escaped(lines, text);
    buffer_append(lines, "\n", 1);
}

static const char *log_label(enum log_level level)
{
    switch (level) {
    case LOG_DEBUG:
        return "debug: ";
    case LOG_INFO:
        return "";
    case LOG_WARNING:
        return "warning: ";
    case LOG_ERROR:
        return "error: ";
    }
    return "";
}

/* Whatever stderr answers is ignored: there is no better place to complain. */
static void log_write(const struct buffer *lines)
{
    size_t done = 0;

    pthread_mutex_lock(&log_mutex);
    if (log_display_clear)
        log_display_clear();
    while (done < lines->length) {
        ssize_t written = write(STDERR_FILENO, lines->data + done, lines->length - done);
        if (written > 0)
            done += (size_t)written;
        else if (written == 0 || errno != EINTR)
            break;
    }
    if (log_display_redraw)
        log_display_redraw();
    pthread_mutex_unlock(&log_mutex);
}

static bool log_wanted(enum log_level level)
{
    log_last_shown = level >= log_level();
    return log_last_shown;
}

static void log_message(const char *label, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));

static void log_message(const char *label, const char *format, va_list args)
{
    int saved_errno = errno;
    char text[LOG_TEXT_SIZE];
    struct buffer lines = BUFFER_INIT;

    if (vsnprintf(text, sizeof(text), format, args) < 0)
        snprintf(text, sizeof(text), "(message could not be formatted) %s", format);
    log_append_line(&lines, label, text);
    log_write(&lines);
    buffer_free(&lines);
    errno = saved_errno;
}

#define LOG_AT(level, format)                                                                      \
    do {                                                                                           \
        va_list args;                                                                              \
        if (!log_wanted(level))                                                                    \
            return;                                                                                \
        va_start(args, format);                                                                    \
        log_message(log_label(level), format, args);                                               \
        va_end(args);                                                                              \
    } while (0)

void log_debug(const char *format, ...)
{
    LOG_AT(LOG_DEBUG, format);
}

void log_info(const char *format, ...)
{
    LOG_AT(LOG_INFO, format);
}

void log_warning(const char *format, ...)
{
    LOG_AT(LOG_WARNING, format);
}

/* The text is kept if it is. */
static bool log_is_new(const char *text)
{
    bool known = false;

    pthread_mutex_lock(&log_mutex);
    for (size_t i = 0; i < LOG_KEPT && !known; i++)
        known = log_kept[i] && strcmp(log_kept[i], text) == 0;
    if (!known) {
        free(log_kept[log_kept_next]);
        log_kept[log_kept_next] = mem_strdup(text);
        log_kept_next = (log_kept_next + 1) % LOG_KEPT;
    }
    pthread_mutex_unlock(&log_mutex);
    return !known;
}

void log_warning_once(const char *format, ...)
{
    char text[LOG_TEXT_SIZE];
    va_list args;

    va_start(args, format);
    log_last_shown = vsnprintf(text, sizeof(text), format, args) >= 0 && log_is_new(text);
    va_end(args);
    if (log_last_shown)
        log_warning("%s", text);
}

void log_failure(const char *format, ...)
{
    LOG_AT(LOG_ERROR, format);
}

void log_hint(const char *format, ...)
{
    va_list args;

    if (!log_last_shown)
        return;
    va_start(args, format);
    log_message("hint: ", format, args);
    va_end(args);
}

void log_error(enum log_level level, const struct error *err)
{
    struct buffer lines = BUFFER_INIT;

    if (!log_wanted(level))
        return;
    log_append_line(&lines, log_label(level), err->message);
    if (err->detail[0] != '\0')
        log_append_line(&lines, "detail: ", err->detail);
    if (err->hint[0] != '\0')
        log_append_line(&lines, "hint: ", err->hint);
    log_write(&lines);
    buffer_free(&lines);
}
