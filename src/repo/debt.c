/* debt.c - WAL files that a repository is owed */
#include "pgvigil/debt.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgvigil/files.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/object_copy.h"

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

bool debt_note(const struct config *config, const char *repository, uint64_t system_identifier,
               const char *object, struct error *err)
{
    char *directory = debt_directory(config, repository);
    char *file = mem_printf("%" PRIu64 "-%s", system_identifier, object);

    debt_swap(file, '/', '+');
    char *path = files_join(directory, file);
    bool ok = files_make_directories(directory, err) && files_write(path, "", 0, 0600, err);

    if (!ok)
        error_context(err, "could not note that repository \"%s\" is owed \"%s\"", repository,
                      object);
    free(path);
    free(file);
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

bool debt_review(const struct config *config, const char *repository, uint64_t system_identifier,
                 debt_review_fn fn, void *context, struct error *err)
{
    char *directory = debt_directory(config, repository);
    struct dirent *entry;
    DIR *stream;
    bool ok = debt_open(directory, &stream, err);

    while (ok && stream && (entry = readdir(stream)) != NULL) {
        char *object = debt_object(entry->d_name, system_identifier);
        bool forget;

        if (!object)
            continue;
        ok = fn(object, &forget, context, err);
        if (ok && forget) {
            char *path = files_join(directory, entry->d_name);

            unlink(path);
            free(path);
        }
        free(object);
    }
    if (stream)
        closedir(stream);
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

/* One after the other, in the order in which they are read: each counts by itself, and one whose copies are
 * damaged keeps no other back. False: there is no sense in trying more. */
static bool debt_pay_one(struct repository_set *set, size_t member, const char *object,
                         const char *path, struct debt_paying *paying)
{
    struct error why = ERROR_INIT;

    paying->tried++;
    if (debt_pay_object(set, member, object, &why)) {
        log_debug("repository \"%s\" got \"%s\", which it was owed",
                  set->members[member].config->name, object);
        unlink(path);
        paying->paid++;
        return true;
    }
    if (paying->failure.code == ERROR_NONE)
        paying->failure = why;
    return why.code == ERROR_INTEGRITY || why.code == ERROR_NOT_FOUND;
}

static bool debt_pay_member(struct repository_set *set, size_t member, struct debt_paying *paying,
                            struct error *err)
{
    const struct repository *repository = set->members[member].repository;
    char *directory = debt_directory(set->config, repository->name);
    struct dirent *entry;
    DIR *stream;
    const size_t before = paying->paid;
    bool ok = debt_open(directory, &stream, err), going = ok && stream;

    while (going && paying->tried < paying->most && (entry = readdir(stream)) != NULL) {
        char *object = debt_object(entry->d_name, repository->system_identifier);

        if (object) {
            char *path = files_join(directory, entry->d_name);

            going = debt_pay_one(set, member, object, path, paying);
            free(path);
        }
        free(object);
    }
    if (ok && stream)
        closedir(stream);
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
