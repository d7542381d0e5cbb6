/*
 * setup.c - init: what is missing is made, what is there stays
 */
#include "pgvigil/setup.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "job/apart.h"
#include "pgvigil/buffer.h"
#include "pgvigil/control.h"
#include "pgvigil/files.h"
#include "pgvigil/hook.h"
#include "pgvigil/layout.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"
#include "pgvigil/store.h"

/* The directory that an absolute path lies in. Caller frees. */
static char *parent_of(const char *path)
{
    size_t length = strlen(path);

    while (length > 1 && path[length - 1] == '/')
        length--;
    while (length > 1 && path[length - 1] != '/')
        length--;
    while (length > 1 && path[length - 1] == '/')
        length--;
    return mem_strndup(path, length);
}

static void append_setting(struct buffer *text, const char *key, const char *value)
{
    if (value != NULL)
        buffer_append_format(text, "%s = %s\n", key, value);
}

/* The server's user must be able to read what root has made, and nobody else. */
static bool share_with_owner(const char *path, const char *pgdata, struct error *err)
{
    struct stat owner;

    if (geteuid() != 0)
        return true;
    if (stat(pgdata, &owner) != 0)
        return error_set_errno(err, "could not find data directory \"%s\"", pgdata);
    if (lchown(path, 0, owner.st_gid) != 0)
        return error_set_errno(err, "could not change the group of \"%s\"", path);
    return true;
}

static bool refuse_root(struct error *err)
{
    error_set(err, ERROR_USAGE, "refusing to set up as root without knowing for whom");
    return error_hint(err, "name the data directory (pgdata in section [cluster], or --pgdata), or "
                           "run as the server's user");
}

static bool check_data_directory(const char *pgdata, struct error *err)
{
    struct control control;

    if (pgdata == NULL)
        return geteuid() != 0 || refuse_root(err);
    if (control_read(pgdata, &control, NULL, NULL, err))
        return true;
    if (err->code == ERROR_NOT_FOUND)
        err->code = ERROR_CONFIG;
    return false;
}

/* A repository settles where there is none of its kind only if there is nothing. Of a bucket this is
 * asked when it is opened. */
static bool check_place(const char *url, struct error *err)
{
    const char *path = store_directory(url);

    if (path == NULL)
        return true;

    char *identity = files_join(path, LAYOUT_IDENTITY);
    bool settled = access(identity, F_OK) == 0;
    DIR *entries = settled ? NULL : opendir(path);
    struct dirent *entry;
    bool ok = true;

    free(identity);
    while (ok && entries != NULL && (entry = readdir(entries)) != NULL)
        if (entry->d_name[0] != '.') {
            ok = error_set(err, ERROR_STORE, "\"%s\" is not empty and no repository of pgvigil",
                           url);
            error_detail(err, "it holds \"%.500s\"", entry->d_name);
            error_hint(err, "give the repository a directory of its own");
        }
    if (entries != NULL)
        closedir(entries);
    return ok;
}

static bool check_answers(const struct config *config, struct error *err)
{
    return check_data_directory(config->pgdata, err) &&
           (config->pgdata == NULL || apart_from_data(config, config->pgdata, err)) &&
           check_place(config->repositories[0].url, err);
}

/* Directories that root makes on the way hold nothing secret, and others must be able to pass. */
static bool make_passable(const char *path, struct error *err)
{
    struct stat status;
    bool ok;

    if (stat(path, &status) == 0)
        return true;
    char *parent = parent_of(path);
    ok = make_passable(parent, err) && files_make_directories(path, err);
    free(parent);
    if (ok && geteuid() == 0 && chmod(path, 0755) != 0)
        ok = error_set_errno(err, "could not change the mode of \"%s\"", path);
    return ok;
}

static void compose(const struct setup_answers *answers, struct buffer *text)
{
    buffer_append_string(text, "# written by `pgvigil init`; the sample configuration that comes"
                               " with pgvigil explains every key\n\n[cluster]\n");
    append_setting(text, "name", answers->cluster_name);
    append_setting(text, "pgdata", answers->pgdata);
    append_setting(text, "conninfo", answers->conninfo);
    append_setting(text, "state_dir", answers->state_dir);
    /* Not the cluster's name, which often is "main", nor one that would be wrong of a bucket. */
    buffer_append_format(text, "\n[repository %s]\n",
                         store_directory(answers->url) != NULL ? "local" : "bucket");
    append_setting(text, "url", answers->url);
}

/* There is no file yet whose line could be looked at. */
static bool refuse_answers(const char *path, struct error *err)
{
    const struct error why = *err;
    char *file = mem_printf("%s, line ", path);
    const bool has = strncmp(why.message, file, strlen(file)) == 0;
    const char *rest = has ? strstr(why.message + strlen(file), ": ") : NULL;

    free(file);
    if (rest != NULL) {
        error_set(err, why.code, "could not make configuration \"%s\": %s", path, rest + 2);
        error_detail(err, "%s", why.detail);
        error_hint(err, "%s", why.hint);
    }
    return false;
}

bool setup_configuration(const char *path, const struct setup_answers *answers, struct error *err)
{
    char *directory = parent_of(path);
    struct buffer text = BUFFER_INIT;
    struct config *parsed = NULL;
    bool ok;

    compose(answers, &text);
    if (access(path, F_OK) == 0)
        ok = error_set(err, ERROR_EXISTS, "configuration file \"%s\" exists already", path);
    else
        ok = (config_parse(path, buffer_text(&text), text.length, &parsed, err) ||
              refuse_answers(path, err)) &&
             check_answers(parsed, err) && make_passable(directory, err) &&
             files_write(path, text.data, text.length, 0640, err) &&
             share_with_owner(path, parsed->pgdata, err);
    config_free(parsed);
    buffer_free(&text);
    free(directory);
    return ok;
}

/* Who owns the path, or where it is missing, the directory in which it would be made? */
static bool nearest_owner(const char *path, uid_t *owner, struct error *err)
{
    struct stat status;

    if (stat(path, &status) == 0) {
        *owner = status.st_uid;
        return true;
    }
    if (errno != ENOENT)
        return error_set_errno(err, "could not look up directory \"%s\"", path);
    char *parent = parent_of(path);
    bool ok = nearest_owner(parent, owner, err);
    free(parent);
    return ok;
}

/* Makes one directory for `owner` unless it is there, or will be made by that user: below
 * directories of other users root does nothing that they could turn against it. */
static bool make_place(const char *path, const struct stat *owner, struct error *err)
{
    struct stat status;
    uid_t nearest;

    if (!nearest_owner(path, &nearest, err))
        return false;
    if (nearest != 0 || stat(path, &status) == 0)
        return true;
    char *parent = parent_of(path);
    bool ok = make_passable(parent, err) && files_make_directories(path, err);
    free(parent);
    if (ok && lchown(path, owner->st_uid, owner->st_gid) != 0)
        ok = error_set_errno(err, "could not change the owner of \"%s\"", path);
    return ok;
}

static bool make_places(const struct config *config, struct error *err)
{
    struct stat owner;

    if (stat(config->pgdata, &owner) != 0) {
        error_set_errno(err, "could not find data directory \"%s\"", config->pgdata);
        err->code = ERROR_CONFIG;
        return error_hint(err, "check pgdata in section [cluster]; on a new host a restore makes "
                               "it, and needs no init");
    }
    if (owner.st_uid == 0) {
        error_set(err, ERROR_USAGE,
                  "refusing to set up as root: the data directory belongs to root");
        return error_hint(err, "give \"%s\" to the user that PostgreSQL runs as", config->pgdata);
    }
    if (!make_place(config->state_dir, &owner, err))
        return false;
    for (size_t i = 0; i < config->repository_count; i++) {
        const char *path = store_directory(config->repositories[i].url);

        if (path != NULL && !make_place(path, &owner, err))
            return false;
    }
    return process_become_owner(config->pgdata, err);
}

bool setup_places(const struct config *config, struct error *err)
{
    const bool there = access(config->state_dir, F_OK) == 0;
    bool ok;

    if (geteuid() == 0 && config->pgdata == NULL)
        return refuse_root(err);
    ok = (config->pgdata == NULL || apart_from_data(config, config->pgdata, err)) &&
         (geteuid() != 0 || make_places(config, err)) &&
         (files_make_directories(config->state_dir, err) ||
          process_hint_directory(config->state_dir, err));
    if (ok && !there)
        log_info("made state directory \"%s\"", config->state_dir);
    return ok;
}

static bool is_one_of(const char *value, const char *a, const char *b)
{
    return value != NULL && (strcmp(value, a) == 0 || strcmp(value, b) == 0);
}

/* A setting that has one of two good values stays as it is. */
static struct setup_setting keep_or_set(const char *name, const char *current, const char *wanted,
                                        const char *as_good)
{
    bool fine = is_one_of(current, wanted, as_good);

    return (struct setup_setting){.name = name,
                                  .wanted = mem_strdup(fine ? current : wanted),
                                  .need = fine ? SETUP_FINE : SETUP_RESTART};
}

bool setup_settings(const struct config *config, const struct connection_server *server,
                    struct setup_setting settings[SETUP_SETTINGS], struct error *err)
{
    static const struct connection_server unknown = {.version_num = 0};
    char *command;

    if (!hook_archive_command(config, &command, err))
        return false;
    if (server == NULL)
        server = &unknown;
    settings[0] = keep_or_set("wal_level", server->wal_level, "replica", "logical");
    settings[1] = keep_or_set("archive_mode", server->archive_mode, "on", "always");
    settings[2] = keep_or_set("archive_command", server->archive_command, command, command);
    if (settings[2].need == SETUP_RESTART)
        settings[2].need = SETUP_RELOAD;
    free(command);
    return true;
}

void setup_free_settings(struct setup_setting settings[SETUP_SETTINGS])
{
    for (size_t i = 0; i < SETUP_SETTINGS; i++)
        free(settings[i].wanted);
}

bool setup_apply(struct connection *connection, const struct setup_setting settings[SETUP_SETTINGS],
                 struct error *err)
{
    char **row;

    for (size_t i = 0; i < SETUP_SETTINGS; i++)
        if (settings[i].need != SETUP_FINE &&
            !connection_alter_system(connection, settings[i].name, settings[i].wanted, err))
            return false;
    if (!connection_row(connection, "SELECT pg_reload_conf()::text", 1, &row, err))
        return false;
    connection_free_row(row, 1);
    return true;
}
