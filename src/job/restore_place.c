/*
 * restore_place.c - checking where a restore is to go
 */
#include "job/restore_place.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "job/apart.h"
#include "pgvigil/buffer.h"
#include "pgvigil/control.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"
#include "pgvigil/server_process.h"

/* Splits off the last component; a path without one ("/") keeps itself as its parent. */
static void split(const char *path, char **parent, char **base)
{
    size_t length = strlen(path), start;

    while (length > 1 && path[length - 1] == '/')
        length--;
    for (start = length; start > 0 && path[start - 1] != '/'; start--)
        ;
    *base = mem_strndup(path + start, length - start);
    while (start > 1 && path[start - 1] == '/')
        start--;
    *parent = start > 0 ? mem_strndup(path, start) : mem_strdup(".");
}

/* What does not exist yet is known by its parent, which must. */
static bool canonical_new(const char *path, char **canonical, struct error *err)
{
    char *parent, *base, real[PATH_MAX];
    struct stat status;
    bool ok = false;

    split(path, &parent, &base);
    if (lstat(path, &status) == 0) {
        error_set(err, ERROR_USAGE, "\"%s\" is a symbolic link to something that does not exist",
                  path);
    } else if (realpath(parent, real) == NULL) {
        error_set_errno(err, "could not use \"%s\" for \"%s\"", parent, path);
        err->code = ERROR_USAGE;
        error_hint(err, "make it first, owned by the user who is to own the cluster");
    } else if (base[0] == '\0' || strcmp(base, ".") == 0 || strcmp(base, "..") == 0) {
        error_set(err, ERROR_USAGE, "\"%s\" does not name a directory that could be made", path);
    } else {
        *canonical = files_join(real, base);
        ok = true;
    }
    free(parent);
    free(base);
    return ok;
}

static bool canonical_path(const char *path, char **canonical, struct error *err)
{
    char real[PATH_MAX], *absolute;
    bool ok = true;

    if (!files_absolute(path, &absolute, err))
        return false;
    if (realpath(absolute, real) != NULL)
        *canonical = mem_strdup(real);
    else if (errno == ENOENT)
        ok = canonical_new(absolute, canonical, err);
    else
        ok = error_set_errno(err, "could not look at \"%s\"", absolute);
    free(absolute);
    return ok;
}

static bool has_file(const char *directory, const char *name)
{
    char *path = files_join(directory, name);
    struct stat status;
    bool has = lstat(path, &status) == 0;

    free(path);
    return has;
}

/* The marker of a restore that did not get to its end; empty when there is none. */
static void read_marker(const char *directory, const char *name, struct buffer *marker)
{
    char *path = files_join(directory, name);
    struct error ignored = ERROR_INIT;

    if (!files_read(path, RESTORE_PLACE_MARKER_MAXIMUM, marker, &ignored))
        buffer_clear(marker);
    free(path);
}

/* A power cut may have emptied the mark. */
bool restore_place_is_remains(const char *target)
{
    return has_file(target, RESTORE_PLACE_MARKER) && !has_file(target, CONTROL_PATH) &&
           !has_file(target, RESTORE_PLACE_DELTA_MARKER);
}

static bool has_only_marker(const char *directory)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;
    size_t others = 0;

    if (stream == NULL)
        return false;
    while ((entry = readdir(stream)) != NULL)
        others += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
                  strcmp(entry->d_name, RESTORE_PLACE_MARKER) != 0;
    closedir(stream);
    return others == 0 && has_file(directory, RESTORE_PLACE_MARKER);
}

static bool same_marker(const char *target, const char *tablespace, const char *name)
{
    struct buffer ours = BUFFER_INIT, theirs = BUFFER_INIT;
    bool same;

    read_marker(target, name, &ours);
    read_marker(tablespace, name, &theirs);
    same = ours.length > 0 && ours.length == theirs.length &&
           memcmp(ours.data, theirs.data, ours.length) == 0;
    buffer_free(&ours);
    buffer_free(&theirs);
    return same;
}

/* In a tablespace it must be of the same restore: the place may have found another use since. */
static bool is_same_remains(const char *target, const char *tablespace)
{
    return (restore_place_is_remains(target) &&
            same_marker(target, tablespace, RESTORE_PLACE_MARKER)) ||
           has_only_marker(tablespace);
}

bool restore_place_is_of_cluster(const char *path, uint64_t system_identifier)
{
    struct error ignored = ERROR_INIT;
    struct buffer marker = BUFFER_INIT;
    struct control control;
    char line[64];
    bool is;

    if (has_file(path, CONTROL_PATH))
        return control_read(path, &control, NULL, NULL, &ignored) &&
               control.system_identifier == system_identifier;
    snprintf(line, sizeof line, "\nsystem identifier %" PRIu64 "\n", system_identifier);
    read_marker(path, RESTORE_PLACE_DELTA_MARKER, &marker);
    is = strstr(buffer_text(&marker), line) != NULL;
    buffer_free(&marker);
    return is;
}

static char *link_path(const char *directory, const struct restore_place_tablespace *tablespace)
{
    return mem_printf("%s/pg_tblspc/%" PRIu32, directory, tablespace->oid);
}

static bool has_link_there(const char *directory, const struct restore_place_tablespace *tablespace)
{
    char *link = link_path(directory, tablespace), real[PATH_MAX];
    const bool leads = realpath(link, real) != NULL && strcmp(real, tablespace->to) == 0;

    free(link);
    return leads;
}

/* A data directory that was copied has links to the tablespaces of the one it was copied from. */
static bool is_of_original(const struct restore_place *place,
                           const struct restore_place_tablespace *tablespace)
{
    return place->pgdata != NULL && !place->configured && has_link_there(place->pgdata, tablespace);
}

/* The target's own link leads there, or an earlier delta restore had come so far. */
static bool is_of_target(const struct restore_place *place,
                         const struct restore_place_tablespace *tablespace)
{
    return (has_link_there(place->path, tablespace) && !is_of_original(place, tablespace)) ||
           same_marker(place->path, tablespace->to, RESTORE_PLACE_DELTA_MARKER);
}

static bool refuse_server(const struct restore_place *place, long pid, struct error *err)
{
    const bool ours = restore_place_is_of_cluster(place->path, place->system_identifier);

    error_set(err, ERROR_USAGE, "cannot restore to \"%s\": a server is running in it, pid %ld",
              place->path, pid);
    if (ours && place->mode == RESTORE_DELTA)
        return error_hint(err, "stop that server, then repeat this");
    return error_hint(err, "restore to another directory%s",
                      ours ? ", or stop that server and restore onto its own with --delta" : "");
}

static bool refuse_filled_target(const struct restore_place *place, struct error *err)
{
    const char *path = place->path;

    error_set(err, ERROR_USAGE, "cannot restore to \"%s\": %s", path,
              has_file(path, "PG_VERSION") ? "it holds a data directory"
                                           : "the directory is not empty");
    if (has_file(path, RESTORE_PLACE_DELTA_MARKER))
        return error_hint(err, "a restore with --delta has begun here: repeat it with --delta");
    return error_hint(err, "restore to another directory, or move this one away first%s%s",
                      has_file(path, "pg_wal")
                          ? ", and keep it: its pg_wal may hold WAL that was never archived"
                          : "",
                      restore_place_is_of_cluster(path, place->system_identifier)
                          ? "; or restore onto it with --delta, which keeps of it what is right"
                          : "");
}

static bool refuse_foreign_target(const struct restore_place *place, struct error *err)
{
    error_set(err, ERROR_USAGE,
              "cannot restore to \"%s\": it is not known to be a data directory of the cluster with"
              " system identifier %" PRIu64,
              place->path, place->system_identifier);
    error_detail(err,
                 "with --delta, \"" CONTROL_PATH "\" must be there and whole, and of that cluster");
    return error_hint(err, "restore to another directory, without --delta");
}

/* Root's directories are of no use to the owner of the cluster, whom root has become. */
static bool check_ours(const char *path, struct error *err)
{
    const char *user = process_user_name();
    struct stat status;
    char *parent, *base;
    bool ok = true;

    if (stat(path, &status) == 0) {
        if (!S_ISDIR(status.st_mode) || status.st_uid == geteuid())
            return true;
        error_set(err, ERROR_USAGE, "cannot restore to \"%s\": it does not belong to user %s", path,
                  user);
        return process_hint_owner(path, err);
    }
    split(path, &parent, &base);
    if (access(parent, W_OK | X_OK) != 0) {
        ok = error_set_errno(err, "could not make directory \"%s\" as user %s", path, user);
        err->code = ERROR_USAGE;
        process_hint_directory(path, err);
    }
    free(parent);
    free(base);
    return ok;
}

/* That a directory is not empty comes first: nobody is to give away one that is in use. */
static bool look_into(const char *path, enum files_emptiness *state, struct error *err)
{
    const bool seen = files_emptiness(path, state, err);

    return (seen && *state == FILES_NOT_EMPTY) || (check_ours(path, err) && seen);
}

static bool check_target(const struct restore_place *place, struct error *err)
{
    const char *path = place->path;
    enum files_emptiness state;
    long pid;

    if (!look_into(path, &state, err))
        return false;
    if (state == FILES_NOT_DIRECTORY) {
        error_set(err, ERROR_USAGE, "cannot restore to \"%s\": it is not a directory", path);
        return error_hint(err, "name a directory that is absent or empty");
    }
    if (state != FILES_NOT_EMPTY)
        return true;
    if ((pid = server_process_find(path)) != 0)
        return refuse_server(place, pid, err);
    if (restore_place_is_remains(path))
        return check_ours(path, err);
    if (place->mode == RESTORE_ANEW)
        return refuse_filled_target(place, err);
    return restore_place_is_of_cluster(path, place->system_identifier)
               ? check_ours(path, err)
               : refuse_foreign_target(place, err);
}

/* Onto an existing directory it stays where that has it. The caller frees the path. */
static char *usual_location(const struct restore_place *place,
                            const struct restore_place_tablespace *tablespace)
{
    char *link = link_path(place->path, tablespace), to[PATH_MAX];
    const ssize_t length = place->mode == RESTORE_DELTA ? readlink(link, to, sizeof to - 1) : -1;

    free(link);
    return length > 0 && to[0] == '/' ? mem_strndup(to, (size_t)length)
                                      : mem_strdup(tablespace->from);
}

static bool check_location(const struct restore_place *place,
                           const struct restore_place_tablespace *tablespace, struct error *err)
{
    enum files_emptiness state;

    if (!look_into(tablespace->to, &state, err))
        return false;
    if (state == FILES_ABSENT || state == FILES_EMPTY ||
        (state == FILES_NOT_EMPTY &&
         (is_same_remains(place->path, tablespace->to) ||
          (place->mode == RESTORE_DELTA && is_of_target(place, tablespace)))))
        return true;
    error_set(err, ERROR_USAGE, "cannot restore tablespace %" PRIu32 " to \"%s\": %s",
              tablespace->oid, tablespace->to,
              state != FILES_NOT_EMPTY ? "it is not a directory"
              : is_of_original(place, tablespace)
                  ? "the directory is not empty, and the configured data directory has it there"
                  : "the directory is not empty");
    return error_hint(err, "--tablespace '%s=/another/directory' puts it elsewhere",
                      tablespace->from);
}

static bool check_apart(const struct restore_place *place, size_t index, struct error *err)
{
    const struct restore_place_tablespace *tablespace = &place->tablespaces[index];
    const char *other = NULL;

    if (apart_lies_in(tablespace->to, place->path) || apart_lies_in(place->path, tablespace->to))
        other = place->path;
    for (size_t i = 0; i < index && other == NULL; i++)
        if (apart_lies_in(tablespace->to, place->tablespaces[i].to) ||
            apart_lies_in(place->tablespaces[i].to, tablespace->to))
            other = place->tablespaces[i].to;
    if (other == NULL)
        return true;
    error_set(err, ERROR_USAGE,
              "cannot restore tablespace %" PRIu32 " to \"%s\": that and \"%s\" lie in each other",
              tablespace->oid, tablespace->to, other);
    return error_hint(err, "--tablespace '%s=/another/directory' puts it elsewhere",
                      tablespace->from);
}

static bool same_location(const char *a, const char *b)
{
    size_t a_length = strlen(a), b_length = strlen(b);

    while (a_length > 1 && a[a_length - 1] == '/')
        a_length--;
    while (b_length > 1 && b[b_length - 1] == '/')
        b_length--;
    return a_length == b_length && memcmp(a, b, a_length) == 0;
}

static bool is_meant(const struct restore_mapping *mapping,
                     const struct restore_place_tablespace *tablespace)
{
    char oid[16];

    snprintf(oid, sizeof oid, "%" PRIu32, tablespace->oid);
    return strcmp(mapping->from, oid) == 0 || same_location(mapping->from, tablespace->from);
}

static bool refuse_unknown(const struct restore_place *place, const char *from, struct error *err)
{
    struct buffer list = BUFFER_INIT;

    for (size_t i = 0; i < place->count; i++)
        buffer_append_format(&list, "%s%" PRIu32 " at \"%s\"", i ? ", " : "",
                             place->tablespaces[i].oid, place->tablespaces[i].from);
    error_set(err, ERROR_USAGE, "there is no tablespace \"%s\" in the backup", from);
    error_hint(err, "%s%s",
               place->count ? "there are: "
                            : "it has no tablespaces outside the "
                              "data directory",
               buffer_text(&list));
    buffer_free(&list);
    return false;
}

static bool map_locations(const struct restore_request *request, struct restore_place *place,
                          struct error *err)
{
    for (size_t i = 0; i < request->mapping_count; i++) {
        const struct restore_mapping *mapping = &request->mappings[i];
        struct restore_place_tablespace *meant = NULL;

        if (mapping->to[0] != '/')
            return error_set(err, ERROR_USAGE, "\"%s\" is not an absolute path for a tablespace",
                             mapping->to);
        for (size_t j = 0; j < place->count; j++)
            if (is_meant(mapping, &place->tablespaces[j]))
                meant = &place->tablespaces[j];
        if (meant == NULL)
            return refuse_unknown(place, mapping->from, err);
        if (meant->to != NULL) {
            error_set(err, ERROR_USAGE, "more than one place is given for tablespace %" PRIu32,
                      meant->oid);
            return error_hint(err, "its location is \"%s\"", meant->from);
        }
        if (!canonical_path(mapping->to, &meant->to, err))
            return false;
    }
    return true;
}

static bool choose_usual(const struct restore_place *place,
                         struct restore_place_tablespace *tablespace, struct error *err)
{
    char *path = usual_location(place, tablespace);
    const bool ok = canonical_path(path, &tablespace->to, err);

    free(path);
    if (ok)
        return true;
    error_context(err, "cannot restore tablespace %" PRIu32 " to where it was", tablespace->oid);
    return error_hint(err, "make that place, or use --tablespace '%s=/another/directory'",
                      tablespace->from);
}

static bool choose_locations(const struct restore_request *request, struct restore_place *place,
                             struct error *err)
{
    if (!map_locations(request, place, err))
        return false;
    for (size_t i = 0; i < place->count; i++) {
        struct restore_place_tablespace *tablespace = &place->tablespaces[i];

        if (tablespace->to == NULL && !choose_usual(place, tablespace, err))
            return false;
        if (!check_apart(place, i, err) || !check_location(place, tablespace, err))
            return false;
    }
    return true;
}

bool restore_place_check(const struct restore_place *place, struct error *err)
{
    if (!check_target(place, err))
        return false;
    for (size_t i = 0; i < place->count; i++)
        if (!check_location(place, &place->tablespaces[i], err))
            return false;
    return true;
}

static bool is_configured(const struct config *config, const char *path)
{
    struct error ignored = ERROR_INIT;
    char *pgdata;
    bool same;

    if (config->pgdata == NULL || !canonical_path(config->pgdata, &pgdata, &ignored))
        return false;
    same = strcmp(pgdata, path) == 0;
    free(pgdata);
    return same;
}

bool restore_place_choose(const struct config *config, const struct restore_request *request,
                          const struct backup_info *backup, struct restore_place *place,
                          struct error *err)
{
    bool ok;

    *place = (struct restore_place){.count = backup->tablespace_count,
                                    .mode = request->mode,
                                    .pgdata = config->pgdata,
                                    .system_identifier = backup->system_identifier};
    place->tablespaces = mem_calloc(place->count + 1, sizeof *place->tablespaces);
    for (size_t i = 0; i < place->count; i++) {
        place->tablespaces[i].oid = backup->tablespaces[i].oid;
        place->tablespaces[i].from = mem_strdup(backup->tablespaces[i].location);
    }
    ok = canonical_path(request->to, &place->path, err) && check_target(place, err);
    place->configured = ok && is_configured(config, place->path);
    ok = ok && choose_locations(request, place, err) &&
         apart_from_restore(config, place->path, err) && apart_from_data(config, place->path, err);
    for (size_t i = 0; ok && i < place->count; i++)
        ok = apart_from_restore(config, place->tablespaces[i].to, err);
    if (!ok)
        restore_place_free(place);
    return ok;
}

void restore_place_free(struct restore_place *place)
{
    for (size_t i = 0; i < place->count; i++) {
        free(place->tablespaces[i].from);
        free(place->tablespaces[i].to);
    }
    free(place->tablespaces);
    free(place->path);
    *place = (struct restore_place){.path = NULL};
}
