/* fixture.h - a directory that lives as long as a test, and messages caught from stderr */
#ifndef PGVIGIL_TEST_FIXTURE_H
#define PGVIGIL_TEST_FIXTURE_H

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgvigil/files.h"

static char fixture_directory[256];

__attribute__((unused)) static void fixture_make(void)
{
    const char *base = getenv("TMPDIR");

    snprintf(fixture_directory, sizeof(fixture_directory), "%s/pgvigil-unit-XXXXXX",
             base && strlen(base) < 200 ? base : "/tmp");
    ck_assert_msg(mkdtemp(fixture_directory) != NULL, "mkdtemp %s", fixture_directory);
}

__attribute__((unused)) static void fixture_remove(void)
{
    struct error err = ERROR_INIT;

    ck_assert_msg(files_remove_tree(fixture_directory, &err), "%s", err.message);
}

/* A path in the directory, in one of a few buffers that take turns. */
__attribute__((unused)) static const char *fixture_path(const char *name)
{
    static char paths[8][512];
    static unsigned next;
    char *path = paths[next++ % 8];

    snprintf(path, sizeof(paths[0]), "%s/%s", fixture_directory, name);
    return path;
}

__attribute__((unused)) static void fixture_write(const char *name, const char *text)
{
    FILE *file = fopen(fixture_path(name), "w");

    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
}

/* From here on stderr goes into a file; fixture_caught ends that and gives what was written. */
static int fixture_stderr = -1;

__attribute__((unused)) static void fixture_catch(void)
{
    int fd = open(fixture_path("stderr"), O_WRONLY | O_CREAT | O_TRUNC, 0600);

    ck_assert_int_ge(fd, 0);
    fixture_stderr = dup(STDERR_FILENO);
    ck_assert_int_eq(dup2(fd, STDERR_FILENO), STDERR_FILENO);
    close(fd);
}

__attribute__((unused)) static const char *fixture_caught(void)
{
    static struct buffer text;
    struct error err = ERROR_INIT;

    ck_assert_int_eq(dup2(fixture_stderr, STDERR_FILENO), STDERR_FILENO);
    close(fixture_stderr);
    buffer_clear(&text);
    ck_assert_msg(files_read(fixture_path("stderr"), 1024 * 1024, &text, &err), "%s", err.message);
    return buffer_text(&text);
}

#endif
