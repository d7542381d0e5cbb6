/*
 * banned.h - functions that are not used here, and what to use instead
 *
 * The build includes this before every file (-include in Makefile.am). Naming one of these
 * functions is then a compile error, whether called or pointed to. The headers that declare them
 * come first, as the declarations would be errors too.
 */
#ifndef PGVIGIL_BANNED_H
#define PGVIGIL_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* They cannot know where the destination ends: mem_strdup, mem_printf, buffer_*, snprintf. */
#undef strcpy /* some are macros, depending on compiler and options, which poison would warn of */
#undef stpcpy
#undef strcat
#undef strncpy
#undef strncat
#undef sprintf
#undef vsprintf
#undef gets
#pragma GCC poison strcpy stpcpy strcat strncpy strncat sprintf vsprintf gets

/* They keep state between calls, for all threads: strtok_r, gmtime_r, localtime_r, strftime. */
#pragma GCC poison strtok gmtime localtime asctime ctime

/* They cannot tell a number from rubbish: units_*, strtoll with its end and errno looked at. */
#pragma GCC poison atoi atol atoll atof

/* They go through a shell, where a file name can be a command: process_*. */
#pragma GCC poison system popen

/* Somebody else may create the file between naming and opening it: mkstemp, mkdtemp, files_*. */
#pragma GCC poison mktemp tmpnam tempnam

#endif
