/* config_find.c - which file is the configuration */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "config_name.h"
#include "pgvigil/buffer.h"
#include "pgvigil/config.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"

static bool config_ends_in_conf(const char *name)
{
    size_t length = strlen(name);

    return length > 5 && strcmp(name + length - 5, ".conf") == 0;
}

bool config_find_path(const char *name, char **path, struct error *err)
{
    if (strchr(name, '/') || config_ends_in_conf(name))
        return files_absolute(name, path, err);
    if (!config_is_name(name, "_-.") || name[0] == '.') {
        error_set(err, ERROR_CONFIG, "invalid configuration name \"%s\"", name);
        return error_hint(err, "Give the name of a file in %s without \".conf\", or a path.",
                          CONFIG_DIRECTORY);
    }
    *path = mem_printf("%s/%s.conf", CONFIG_DIRECTORY, name);
    return true;
}

bool config_find_only(const char *directory, char **path, struct error *err)
{
    DIR *stream = opendir(directory);
    struct buffer names = BUFFER_INIT;
    struct dirent *entry;
    size_t count = 0;

    if (!stream && errno != ENOENT) {
        error_set_errno(err, "could not open directory \"%s\"", directory);
        err->code = ERROR_CONFIG;
        return error_hint(err, "Name a configuration with -c.");
    }
    while (stream && (entry = readdir(stream))) {
        if (entry->d_name[0] == '.' || !config_ends_in_conf(entry->d_name))
            continue;
        if (count++ > 0)
            buffer_append_string(&names, ", ");
        buffer_append(&names, entry->d_name, strlen(entry->d_name) - strlen(".conf"));
    }
    if (stream)
        closedir(stream);

    if (count == 1) {
        *path = mem_printf("%s/%s.conf", directory, buffer_text(&names));
    } else if (count == 0) {
        error_set(err, ERROR_CONFIG, "there is no configuration (*.conf) in directory \"%s\"",
                  directory);
        error_hint(err, "Make one with `pgvigil init`, or name one with -c.");
    } else {
        error_set(err, ERROR_CONFIG, "there are %zu configurations in directory \"%s\"", count,
                  directory);
        error_detail(err, "They are: %s.", buffer_text(&names));
        error_hint(err, "Choose one with -c.");
    }
    buffer_free(&names);
    return count == 1;
}

bool config_find(const char *name, char **path, struct error *err)
{
    struct stat info;

    if (!name)
        name = getenv("PGVIGIL_CONFIG");
    if (!name || name[0] == '\0')
        return config_find_only(CONFIG_DIRECTORY, path, err);
    if (!config_find_path(name, path, err))
        return false;
    if (stat(*path, &info) == 0)
        return true;
    error_set_errno(err, "could not find configuration file \"%s\"", *path);
    err->code = ERROR_CONFIG;
    error_hint(err, "Make it with `%s init`, or name another one with -c.", process_command());
    free(*path);
    *path = NULL;
    return false;
}
