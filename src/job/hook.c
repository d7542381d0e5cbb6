/*
 * hook.c - the commands that PostgreSQL is given to call pgvigil by
 */
#include "pgvigil/hook.h"

#include <stdlib.h>
#include <string.h>

#include "pgvigil/buffer.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"

/* One word for the shell; a '%' is doubled for the server. */
static void append_word(struct buffer *command, const char *word)
{
    char *quoted = process_word(word);

    if (command->length > 0)
        buffer_append_string(command, " ");
    for (const char *c = quoted; *c != '\0'; c++) {
        buffer_append(command, c, 1);
        if (*c == '%')
            buffer_append(command, c, 1);
    }
    free(quoted);
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

char *hook_setting_value(const char *value)
{
    struct buffer text = BUFFER_INIT;

    buffer_append_string(&text, "'");
    for (const char *c = value; *c != '\0'; c++) {
        if (*c == '\'' || *c == '\\')
            buffer_append(&text, c, 1);
        if (*c == '\n')
            buffer_append_string(&text, "\\n");
        else
            buffer_append(&text, c, 1);
    }
    buffer_append_string(&text, "'");
    return buffer_take_text(&text);
}

/* What means more to the shell than itself, in these quotes or none. */
static const char *special(char quote)
{
    if (quote == '\'')
        return "\n";
    return quote == '"' ? "$`\\\n" : "$`\\\n;|&<>()*?[]{}#~!";
}

/* The next word, without its quotes; false at the end, and where there is more to a word than that. */
static bool take_word(const char **at, struct buffer *word)
{
    char quote = '\0';

    buffer_clear(word);
    *at += strspn(*at, " \t");
    if (**at == '\0')
        return false;
    for (; **at != '\0' && (quote != '\0' || strchr(" \t", **at) == NULL); (*at)++) {
        if (quote != '\0' ? **at == quote : **at == '\'' || **at == '"')
            quote = quote != '\0' ? '\0' : **at;
        else if (strchr(special(quote), **at) != NULL)
            return false;
        else if (**at == '%' && *++*at != '%')
            return false; /* a path that the server puts in */
        else
            buffer_append(word, *at, 1);
    }
    return quote == '\0';
}

static bool is_pgvigil(const char *program)
{
    const char *slash = strrchr(program, '/');

    return strcmp(slash != NULL ? slash + 1 : program, "pgvigil") == 0;
}

char *hook_configuration(const char *archive_command)
{
    struct buffer word = BUFFER_INIT;
    char *name = NULL;
    bool ok = take_word(&archive_command, &word) && is_pgvigil(buffer_text(&word));
    bool found = false;

    while (ok && !found && take_word(&archive_command, &word)) {
        found = strcmp(buffer_text(&word), "archive-push") == 0;
        if (strcmp(buffer_text(&word), "-c") == 0) {
            ok = take_word(&archive_command, &word);
            free(name);
            name = mem_strdup(buffer_text(&word));
        } else {
            ok = found || strcmp(buffer_text(&word), "-v") == 0;
        }
    }
    buffer_free(&word);
    if (found)
        return name;
    free(name);
    return NULL;
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
