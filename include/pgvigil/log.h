/*
 * log.h - messages for people, to stderr
 *
 * Data goes to stdout, messages come through here: one line each, "pgvigil: <level>: <message>",
 * written with one write(2) so that lines of parallel threads do not mix. Control characters in a
 * message (a hostile file name) are escaped. A progress display, if one is shown, is cleared first
 * (progress.h registers itself).
 */
#ifndef PGVIGIL_LOG_H
#define PGVIGIL_LOG_H

#include "pgvigil/error.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERROR };

void log_set_level(enum log_level lowest);
enum log_level log_level(void);

void log_debug(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));
void log_failure(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Unless it is one of the last that were given here. */
void log_warning_once(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Goes with this thread's message before it: shown if that was. */
void log_hint(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* An error with its detail and hint, at the given level. */
void log_error(enum log_level level, const struct error *err);

/* Called before and after each line while a progress display occupies the terminal's last line. */
void log_set_display(void (*clear)(void), void (*redraw)(void));

#endif
