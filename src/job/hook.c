/*
 * hook.c - the commands that PostgreSQL is given to call pgvigil by
 */
#include "pgvigil/hook.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/buffer.h"
#include "pgvigil/process.h"

/* One word for the shell; a '%' is doubled for the server. Plain words stay as they are, so that
 * the command reads well in the usual case. */
static void append_word(struct buffer *command, const char *word)
{
    bool plain = *word != '\0';

    for (const char *c = word; *c != '\0'; c++)
        plain = plain && (isalnum((unsigned char)*c) || strchr("/._-+=:,@", *c) != NULL);
    if (command->length > 0)
        buffer_append_string(command, " ");
    if (!plain)
        buffer_append_string(command, "'");
    for (const char *c = word; *c != '\0'; c++)
        if (*c == '\'')
            buffer_append_string(command, "'\\''");
        else if (*c == '%')
            buffer_append_string(command, "%%");
        else
            buffer_append(command, c, 1);
    if (!plain)
        buffer_append_string(command, "'");
}

static void begin_command(const char *program, const struct config *config, const char *name,
                          struct buffer *command)
{
    append_word(command, program);
    append_word(command, "-c");
    append_word(command, config->path);
    append_word(command, name);
}

bool hook_archive_command(const struct config *config, char **command, struct error *err)
{
    struct buffer text = BUFFER_INIT;
    char *program;

    if (!process_executable(&program, err))
        return false;
    begin_command(program, config, "archive-push", &text);
    free(program);
    buffer_append_string(&text, " \"%p\"");
    *command = buffer_take_text(&text);
    return true;
}

char *hook_restore_command(const char *program, const struct config *config, const char *repository,
                           const char *const *without)
{
    struct buffer text = BUFFER_INIT;

    begin_command(program, config, "archive-get", &text);
    if (repository != NULL) {
        append_word(&text, "--repository");
        append_word(&text, repository);
    }
    for (size_t i = 0; without != NULL && without[i] != NULL; i++) {
        append_word(&text, "--without");
        append_word(&text, without[i]);
    }
    buffer_append_string(&text, " \"%f\" \"%p\"");
    return buffer_take_text(&text);
}
