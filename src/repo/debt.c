/* debt.c - WAL files that a repository is owed */
#include "pgvigil/debt.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgvigil/files.h"
#include "pgvigil/layout.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/object_copy.h"
#include "pgvigil/wal_agreement.h"

static char *debt_directory(const struct config *config, const char *repository)
{
    char *all = files_join(config->state_dir, "debt");
    char *directory = files_join(all, repository);

    free(all);
    return directory;
}

static void debt_swap(char *text, char from, char to)
{
    for (; *text != '\0'; text++)
        if (*text == from)
            *text = to;
}

static char *debt_path(const char *directory, uint64_t system_identifier, const char *object)
{
    char *file = mem_printf("%" PRIu64 "-%s", system_identifier, object);

    debt_swap(file, '/', '+');
    char *path = files_join(directory, file);

    free(file);
    return path;
}

bool debt_note(const struct config *config, const char *repository, uint64_t system_identifier,
               const char *object, struct error *err)
{
    char *directory = debt_directory(config, repository);
    char *path = debt_path(directory, system_identifier, object);
    bool ok = files_make_directories(directory, err) && files_write(path, "", 0, 0600, err);

    if (!ok)
        error_context(err, "could not note that repository \"%s\" is owed \"%s\"", repository,
                      object);
    free(path);
    free(directory);
    return ok;
}

/* The object a note is about, or NULL: of another cluster, or no note. The caller frees it. */
static char *debt_object(const char *file, uint64_t system_identifier)
{
    char *prefix = mem_printf("%" PRIu64 "-", system_identifier);
    char *object = NULL;

    if (strncmp(file, prefix, strlen(prefix)) == 0) {
        object = mem_strdup(file + strlen(prefix));
        debt_swap(object, '+', '/');
        if (!store_name_valid(object)) {
            free(object);
            object = NULL;
        }
    }
    free(prefix);
    return object;
}

static bool debt_is_note(const char *file)
{
    return file[0] >= '1' && file[0] <= '9';
}

/* *stream is NULL, without an error, where nothing was ever owed. */
static bool debt_open(const char *directory, DIR **stream, struct error *err)
{
    *stream = opendir(directory);
    return *stream || errno == ENOENT ||
           error_set_errno(err, "could not open directory \"%s\"", directory);
}

bool debt_count(const struct config *config, const char *repository, size_t *count,
                struct error *err)
{
    char *directory = debt_directory(config, repository);
    struct dirent *entry;
    DIR *stream;
    bool ok = debt_open(directory, &stream, err);

    if (!ok && config->stateless) { /* what is closed to who only reads is as good as none */
        error_clear(err);
        ok = true;
    }
    *count = 0;
    while (ok && stream && (entry = readdir(stream)) != NULL)
        *count += debt_is_note(entry->d_name);
    if (ok && stream)
        closedir(stream);
    free(directory);
    return ok;
}

struct debt_objects {
    char **names;
    size_t count, capacity;
};

static int debt_compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The oldest first. */
static bool debt_list(const char *directory, uint64_t system_identifier,
                      struct debt_objects *objects, struct error *err)
{
    struct dirent *entry;
    DIR *stream;

    if (!debt_open(directory, &stream, err))
        return false;
    while (stream && (entry = readdir(stream)) != NULL) {
        char *object = debt_object(entry->d_name, system_identifier);

        if (!object)
            continue;
        objects->names =
            mem_grow(objects->names, objects->count, &objects->capacity, sizeof(*objects->names));
        objects->names[objects->count++] = object;
    }
    if (stream)
        closedir(stream);
    if (objects->count > 0)
        qsort(objects->names, objects->count, sizeof(*objects->names), debt_compare);
    return true;
}

static void debt_free(struct debt_objects *objects)
{
    for (size_t i = 0; i < objects->count; i++)
        free(objects->names[i]);
    free(objects->names);
}

bool debt_review(const struct config *config, const char *repository, uint64_t system_identifier,
                 debt_review_fn fn, void *context, struct error *err)
{
    char *directory = debt_directory(config, repository);
    struct debt_objects objects = {.names = NULL};
    bool ok = debt_list(directory, system_identifier, &objects, err), forget;

    for (size_t i = 0; ok && i < objects.count; i++) {
        ok = fn(objects.names[i], &forget, context, err);
        if (ok && forget) {
            char *path = debt_path(directory, system_identifier, objects.names[i]);

            unlink(path);
            free(path);
        }
    }
    debt_free(&objects);
    free(directory);
    return ok;
}

/* From the first of the others that can give it. Who has none of them any more owes nothing. */
static bool debt_pay_object(struct repository_set *set, size_t member, const char *object,
                            struct error *err)
{
    bool tried = false;

    for (size_t i = 0; i < set->count; i++) {
        if (i == member || !repository_set_has(set, i))
            continue;
        tried = true;
        if (object_copy(set->members[i].repository, set->members[member].repository, object, err))
            return true;
    }
    return tried ? false
                 : error_set(err, ERROR_STORE,
                             "no other repository can be reached that might have \"%s\"", object);
}

/* Those tried so far. */
struct debt_paying {
    size_t most, tried, paid;
    struct error failure; /* of the first that could not be paid; ERROR_NONE: none */
};

/* What tells servers apart: the name of a segment or a history file. Otherwise *file is undefined. */
static bool debt_telling(const char *object, enum wal_file_kind *kind, char file[WAL_NAME_SIZE])
{
    struct wal_name parsed;

    if (!layout_parse_wal(object, file, &parsed))
        return false;
    *kind = parsed.kind;
    return parsed.kind == WAL_SEGMENT || parsed.kind == WAL_HISTORY;
}

static bool debt_hint_parted(const struct repository_set *set, size_t member, struct error *why)
{
    return error_hint(why, "nothing is stored behind it in \"%s\", " WAL_AGREEMENT_CURE,
                      set->members[member].config->name);
}

/* Has another server archived under this name? What comes behind it would go on from that one's WAL. */
static bool debt_is_parted(struct repository_set *set, size_t member, const char *object,
                           struct error *why)
{
    struct error err = ERROR_INIT;
    enum wal_file_kind kind;
    char file[WAL_NAME_SIZE];

    if (!debt_telling(object, &kind, file))
        return false;
    for (size_t i = 0; i < set->count; i++)
        if (i != member && repository_set_has(set, i) &&
            !wal_agreement_check_file(set->members[member].repository, set->members[i].repository,
                                      file, &err) &&
            err.code == ERROR_INTEGRITY) {
            *why = err;
            debt_hint_parted(set, member, why);
            return true;
        }
    return false;
}

/* The same by what lies beside `path`, for when nobody else can be asked. */
static bool debt_is_parted_here(struct repository_set *set, size_t member, const char *object,
                                const char *path, struct error *why)
{
    const char *slash = strrchr(path, '/');
    struct error ignored = ERROR_INIT;
    enum wal_file_kind kind;
    char file[WAL_NAME_SIZE];
    bool other = false;

    if (!debt_telling(object, &kind, file))
        return false;

    char *here = mem_printf("%.*s%s", slash ? (int)(slash + 1 - path) : 0, path, file);

    if (wal_agreement_is_other(set->members[member].repository, file, here, &other, &ignored) &&
        other) {
        error_set(why, ERROR_INTEGRITY,
                  "repository \"%s\" has a different file of the name \"%s\" than this server",
                  set->members[member].config->name, file);
        debt_hint_parted(set, member, why);
    }
    free(here);
    return other;
}

/* One after the other: each counts by itself, and one whose copies are damaged keeps no other back. False: there
 * is no sense in trying more. */
static bool debt_pay_one(struct repository_set *set, size_t member, const char *object,
                         const char *path, struct debt_paying *paying)
{
    struct error why = ERROR_INIT;
    bool parted;

    paying->tried++;
    if (debt_pay_object(set, member, object, &why)) {
        log_debug("repository \"%s\" got \"%s\", which it was owed",
                  set->members[member].config->name, object);
        unlink(path);
        paying->paid++;
        return true;
    }
    parted = why.code == ERROR_INTEGRITY && debt_is_parted(set, member, object, &why);
    if (paying->failure.code == ERROR_NONE)
        paying->failure = why;
    return !parted && (why.code == ERROR_INTEGRITY || why.code == ERROR_NOT_FOUND);
}

static bool debt_pay_member(struct repository_set *set, size_t member, struct debt_paying *paying,
                            struct error *err)
{
    const struct repository *repository = set->members[member].repository;
    char *directory = debt_directory(set->config, repository->name);
    struct debt_objects objects = {.names = NULL};
    const size_t before = paying->paid;
    bool ok = debt_list(directory, repository->system_identifier, &objects, err), going = ok;

    for (size_t i = 0; going && paying->tried < paying->most && i < objects.count; i++) {
        char *path = debt_path(directory, repository->system_identifier, objects.names[i]);

        going = debt_pay_one(set, member, objects.names[i], path, paying);
        free(path);
    }
    debt_free(&objects);
    if (paying->paid > before)
        log_info("repository \"%s\" got WAL which it was owed: %zu file%s", repository->name,
                 paying->paid - before, paying->paid - before == 1 ? "" : "s");
    free(directory);
    return ok;
}

bool debt_pay(struct repository_set *set, size_t most, size_t *paid, struct error *err)
{
    struct debt_paying paying = {.most = most, .failure = ERROR_INIT};
    bool ok = true;

    for (size_t i = 0; ok && i < set->count && paying.failure.code != ERROR_CANCELLED; i++)
        if (repository_set_has(set, i))
            ok = debt_pay_member(set, i, &paying, err);
    *paid = paying.paid;
    if (!ok || paying.failure.code == ERROR_NONE)
        return ok;
    *err = paying.failure;
    return false;
}

bool debt_check_parted(struct repository_set *set, size_t member, const struct wal_source *segment,
                       struct error *err)
{
    const uint32_t segment_size = (uint32_t)segment->length, id = segment->name.timeline;
    const uint64_t number = wal_segment_number(&segment->name, segment_size);
    char *directory = debt_directory(set->config, set->members[member].config->name);
    char file[WAL_NAME_SIZE], before[LAYOUT_NAME_SIZE], timeline[LAYOUT_NAME_SIZE];
    struct debt_objects owed = {.names = NULL};
    bool oldest = true, parted = false;

    layout_wal_timeline(id, timeline);
    wal_segment_name(id, number > 0 ? number - 1 : 0, segment_size, file);
    layout_wal_segment(file, before);
    if (!debt_list(directory, set->members[member].repository->system_identifier, &owed, err))
        error_clear(err);
    for (size_t i = 0; i < owed.count && !parted; i++) {
        const char *object = owed.names[i];
        enum wal_file_kind kind;

        if (strncmp(object, timeline, strlen(timeline)) != 0 || !debt_telling(object, &kind, file))
            continue;
        if (kind == WAL_HISTORY || oldest || strcmp(object, before) == 0)
            parted = debt_is_parted(set, member, object, err) ||
                     debt_is_parted_here(set, member, object, segment->path, err);
        oldest = oldest && kind == WAL_HISTORY;
    }
    debt_free(&owed);
    free(directory);
    return !parted;
}
