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

/* The configurations in a directory. */
struct config_list {
    struct buffer names; /* what -c takes, to be shown */
    char *first;         /* path of one of them, or NULL */
    size_t count;
};

static void config_list_add(struct config_list *list, const char *directory, const char *file)
{
    char *path = files_join(directory, file);

    if (list->count++ > 0)
        buffer_append_string(&list->names, ", ");
    if (strcmp(directory, CONFIG_DIRECTORY) == 0)
        buffer_append(&list->names, file, strlen(file) - strlen(".conf"));
    else
        buffer_append_string(&list->names, path);
    if (list->first)
        free(path);
    else
        list->first = path;
}

static void config_list_free(struct config_list *list)
{
    buffer_free(&list->names);
    free(list->first);
}

/* Where there is no directory there are none. */
static bool config_list_read(const char *directory, struct config_list *list, struct error *err)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;

    *list = (struct config_list){.names = BUFFER_INIT};
    if (!stream && errno != ENOENT) {
        error_set_errno(err, "could not open directory \"%s\"", directory);
        err->code = ERROR_CONFIG;
        return error_hint(err, "Name a configuration with -c.");
    }
    while (stream && (entry = readdir(stream)))
        if (entry->d_name[0] != '.' && config_ends_in_conf(entry->d_name))
            config_list_add(list, directory, entry->d_name);
    if (stream)
        closedir(stream);
    return true;
}

bool config_find_only(const char *directory, char **path, struct error *err)
{
    struct config_list list;
    const bool read = config_list_read(directory, &list, err), found = read && list.count == 1;

    if (found) {
        *path = mem_strdup(list.first);
    } else if (read && list.count == 0) {
        error_set(err, ERROR_CONFIG, "there is no configuration (*.conf) in directory \"%s\"",
                  directory);
        error_hint(err, "Make one with `pgvigil init`, or name one with -c.");
    } else if (read) {
        error_set(err, ERROR_CONFIG, "there are %zu configurations in directory \"%s\"", list.count,
                  directory);
        error_detail(err, "They are: %s.", buffer_text(&list.names));
        error_hint(err, "Choose one with -c.");
    }
    config_list_free(&list);
    return found;
}

/* Its name may be mistyped: those beside it are told. */
static bool config_hint_others(const char *path, struct error *err)
{
    char *directory = mem_strndup(path, (size_t)(strrchr(path, '/') - path));
    struct error ignored = ERROR_INIT;
    struct config_list list;

    if (config_list_read(directory, &list, &ignored) && list.count > 0)
        error_hint(err, "There is: %s. Name one of them with -c, or make this one with `%s init`.",
                   buffer_text(&list.names), process_command());
    else
        error_hint(err, "Name another one with -c, or make this one with `%s init`.",
                   process_command());
    config_list_free(&list);
    free(directory);
    return false;
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
    config_hint_others(*path, err);
    free(*path);
    *path = NULL;
    return false;
}
