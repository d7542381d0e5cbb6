/* fetch.c - archive-get: one WAL file out of the repositories */
#include "pgvigil/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "job/absence.h"
#include "job/history_memory.h"
#include "pgvigil/clock.h"
#include "pgvigil/control.h"
#include "pgvigil/files.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/outage.h"
#include "pgvigil/repository.h"
#include "pgvigil/wal_agreement.h"
#include "pgvigil/wal_archive.h"

#define TEMPORARY_SUFFIX ".pgvigil-tmp"
#define STANDBY_SIGNAL "standby.signal"

/* What a repository may take where another one can be asked; and that bytes flow at least so fast. */
#define OPENING (10 * CLOCK_SECOND)
#define DELIVERY (30 * CLOCK_SECOND)
#define MICROSECONDS_PER_BYTE 1

#define TRIES 3 /* while the files wanted come in just as they are asked for */

/* Of one that answered there is no file to be had, unless it delivered. */
enum site_state { SITE_LEFT_OUT, SITE_ANSWERED, SITE_FAILED };

/* How long a repository is asked: no longer than others are worth, or as long as is configured. */
enum site_patience { SITE_IN_A_HURRY, SITE_PATIENT };

/* One repository, and what it had to say. */
struct site {
    struct repository *repository; /* NULL unless opened */
    enum site_state state;
    struct error error; /* SITE_FAILED */
};

/* One request under way. */
struct fetch {
    const struct config *config;
    const struct fetch_request *request;
    struct wal_name name;
    struct control control;
    struct site *sites; /* one for each configured repository */
    char *temporary;
    struct buffer history; /* what was fetched, of a history file */
};

/* Where a file is written before it is proven. */
struct output {
    int fd;
    const char *path;
    struct buffer *copy; /* or NULL */
    bool failed;         /* writing it, which is no repository's fault */
};

/* The data directory in whose pg_wal the path lies, or NULL. The caller frees it. */
static char *fetch_directory_of(const char *path)
{
    static const char folder[] = "pg_wal";
    const char *slash = strrchr(path, '/');
    size_t end = slash ? (size_t)(slash - path) : 0;
    size_t length = sizeof(folder) - 1;

    if (end < length || memcmp(path + end - length, folder, length) != 0)
        return NULL;
    if (end == length)
        return mem_strdup(".");
    if (path[end - length - 1] != '/')
        return NULL;
    return end - length == 1 ? mem_strdup("/") : mem_strndup(path, end - length - 1);
}

static bool fetch_is_data_directory(const char *directory)
{
    char *path = files_join(directory, CONTROL_PATH);
    bool is = access(path, F_OK) == 0;

    free(path);
    return is;
}

/* The directory recovery runs in, or NULL. The caller frees it. */
static char *fetch_recovery_directory(const struct config *config,
                                      const struct fetch_request *request)
{
    char *directory = fetch_directory_of(request->path);

    if (directory && fetch_is_data_directory(directory))
        return directory;
    free(directory);
    if (fetch_is_data_directory("."))
        return mem_strdup(".");
    return config->pgdata ? mem_strdup(config->pgdata) : NULL;
}

bool fetch_is_for_standby(const struct config *config, const struct fetch_request *request)
{
    char *directory = fetch_recovery_directory(config, request);
    char *path = directory ? files_join(directory, STANDBY_SIGNAL) : NULL;
    bool is = path && access(path, F_OK) == 0;

    free(path);
    free(directory);
    return is;
}

static bool fetch_identify(struct fetch *fetch, struct error *err)
{
    char *directory = fetch_recovery_directory(fetch->config, fetch->request);
    bool ok = directory && control_read(directory, &fetch->control, NULL, NULL, err);

    if (!directory)
        error_set(err, ERROR_CONFIG,
                  "could not tell which cluster's WAL is wanted: there is no "
                  "\"" CONTROL_PATH "\" in the current directory, and no "
                  "\"pgdata\" is configured");
    if (!ok && err->hint[0] == '\0')
        error_hint(err, "archive-get is made to be called by PostgreSQL; by hand, run it in the "
                        "data directory, or set \"pgdata\" in section [cluster]");
    free(directory);
    return ok;
}

/* The index of a repository's name in the configuration; ERROR_USAGE if there is none. */
static bool fetch_find(const struct config *config, const char *name, size_t *index,
                       struct error *err)
{
    for (*index = 0; *index < config->repository_count; (*index)++)
        if (strcmp(config->repositories[*index].name, name) == 0)
            return true;
    return error_set(err, ERROR_USAGE, "there is no repository \"%s\" in \"%s\"", name,
                     config->path);
}

/* Leaves out what the request does not want asked. */
static bool fetch_choose(struct fetch *fetch, struct error *err)
{
    const struct fetch_request *request = fetch->request;
    size_t count = fetch->config->repository_count, index, left = 0;
    bool *wanted = mem_calloc(count, sizeof(*wanted));
    bool ok = true;

    for (size_t i = 0; i < count; i++)
        wanted[i] = !request->repository;
    if (request->repository && (ok = fetch_find(fetch->config, request->repository, &index, err)))
        wanted[index] = true;
    for (const char *const *name = request->without; ok && name && *name; name++)
        if ((ok = fetch_find(fetch->config, *name, &index, err)))
            wanted[index] = false;
    for (size_t i = 0; i < count; i++) {
        fetch->sites[i].state = wanted[i] ? SITE_ANSWERED : SITE_LEFT_OUT;
        left += wanted[i];
    }
    free(wanted);
    if (ok && left == 0)
        ok = error_set(err, ERROR_USAGE, "no repository is left to be asked");
    return ok;
}

static bool output_write(const void *data, size_t length, void *context, struct error *err)
{
    struct output *output = context;

    if (output->copy)
        buffer_append(output->copy, data, length);
    output->failed = !files_write_fd(output->fd, output->path, data, length, err);
    return !output->failed;
}

static bool output_open(struct output *output, struct error *err)
{
    /* A killed archive-get may have left one; nobody else has a use for that name. */
    if (unlink(output->path) != 0 && errno != ENOENT)
        return error_set_errno(err, "could not remove file \"%s\"", output->path);
    output->fd = open(output->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    return output->fd >= 0 || error_set_errno(err, "could not create file \"%s\"", output->path);
}

/* Ends an output that is whole: only now does the file get its name. */
static bool output_finish(struct output *output, const char *path, struct error *err)
{
    int fd = output->fd;

    output->fd = -1;
    if (close(fd) != 0)
        return error_set_errno(err, "could not close file \"%s\"", output->path);
    return rename(output->path, path) == 0 ||
           error_set_errno(err, "could not rename file \"%s\" to \"%s\"", output->path, path);
}

static void output_drop(struct output *output)
{
    if (output->fd >= 0)
        close(output->fd);
    unlink(output->path);
}

static bool site_open(struct fetch *fetch, size_t index, int64_t deadline, struct error *err)
{
    struct site *site = &fetch->sites[index];

    if (site->repository)
        return true;
    if (!repository_open_until(fetch->config, &fetch->config->repositories[index], deadline,
                               &site->repository, err))
        return false;
    repository_select(site->repository, fetch->control.system_identifier);
    return true;
}

/* From one repository into the output. False without output->failed: the repository could not. */
static bool site_fetch(struct fetch *fetch, size_t index, enum site_patience patience,
                       struct output *output, struct error *err)
{
    bool hurry = patience == SITE_IN_A_HURRY;
    int64_t now = clock_monotonic();
    int64_t delivery = DELIVERY + (int64_t)fetch->control.wal_segment_size * MICROSECONDS_PER_BYTE;

    if (!site_open(fetch, index, hurry ? now + OPENING : 0, err))
        return false;
    store_set_deadline(fetch->sites[index].repository->store, hurry ? now + delivery : 0);
    return wal_archive_fetch(fetch->sites[index].repository, &fetch->name, fetch->request->file,
                             output_write, output, NULL, err);
}

/* Recovery may have come by what another one has, which was asked before and does not have this one. The
 * restore compared those that answered then: this one may have come back since, with another server's WAL. */
static bool fetch_goes_on(const struct fetch *fetch, size_t index, struct error *err)
{
    const struct site *sites = fetch->sites;

    for (size_t i = 0; i < fetch->config->repository_count; i++)
        if (i != index && sites[i].state == SITE_ANSWERED && sites[i].repository &&
            !wal_agreement_check_seam(sites[i].repository, sites[index].repository, &fetch->name,
                                      fetch->control.wal_segment_size, err))
            return false;
    return true;
}

/* *delivered is true when this repository had it. False: it cannot, or must not, be handed over. */
static bool fetch_from(struct fetch *fetch, size_t index, enum site_patience patience,
                       bool *delivered, struct error *err)
{
    struct site *site = &fetch->sites[index];
    struct output output = {.fd = -1, .path = fetch->temporary};

    buffer_clear(&fetch->history);
    if (fetch->name.kind == WAL_HISTORY)
        output.copy = &fetch->history;
    *delivered = false;
    if (!output_open(&output, err))
        return false;
    if (site_fetch(fetch, index, patience, &output, err)) {
        site->state = SITE_ANSWERED;
        if (fetch->name.kind == WAL_HISTORY)
            history_memory_keep(fetch->config, fetch->control.system_identifier, &fetch->name,
                                &fetch->history);
        *delivered =
            fetch_goes_on(fetch, index, err) && output_finish(&output, fetch->request->path, err);
        if (!*delivered)
            output_drop(&output);
        return *delivered;
    }
    output_drop(&output);
    if (output.failed)
        return false;
    site->state = err->code == ERROR_NOT_FOUND ? SITE_ANSWERED : SITE_FAILED;
    site->error = *err;
    if (err->code == ERROR_STORE)
        outage_note(fetch->config, fetch->config->repositories[index].name, &site->error);
    error_clear(err);
    return true;
}

/* A history file that was seen before, although no repository delivers it now. */
static bool fetch_from_memory(struct fetch *fetch, bool *delivered, struct error *err)
{
    struct output output = {.fd = -1, .path = fetch->temporary};

    *delivered = false;
    buffer_clear(&fetch->history);
    if (fetch->name.kind != WAL_HISTORY ||
        !history_memory_recall(fetch->config, fetch->control.system_identifier, &fetch->name,
                               &fetch->history))
        return true;
    if (!output_open(&output, err))
        return false;
    *delivered = output_write(fetch->history.data, fetch->history.length, &output, err) &&
                 output_finish(&output, fetch->request->path, err);
    if (!*delivered) {
        output_drop(&output);
        return false;
    }
    log_warning("\"%s\" was delivered from what this host remembers: no repository has it or can "
                "be asked",
                fetch->request->file);
    return true;
}

/* Every repository that was asked said that there is no such file. Is that certain? */
static bool fetch_prove_absent(const struct fetch *fetch, struct error *err)
{
    size_t count = fetch->config->repository_count;
    struct absence absence = {
        .file = fetch->request->file,
        .name = fetch->name,
        .segment_size = fetch->control.wal_segment_size,
        .repositories = mem_calloc(count, sizeof(*absence.repositories)),
    };

    for (size_t i = 0; i < count; i++)
        if (fetch->sites[i].state == SITE_ANSWERED)
            absence.repositories[absence.count++] = fetch->sites[i].repository;
    bool ok = absence_prove(&absence, err);
    free(absence.repositories);
    return ok;
}

/* A primary may archive the wanted segment and the next one between two looks at the archive. */
static bool fetch_has_come(const struct fetch *fetch)
{
    struct error err;
    bool exists = false;

    if (fetch->name.kind != WAL_SEGMENT)
        return false;
    for (size_t i = 0; !exists && i < fetch->config->repository_count; i++)
        if (fetch->sites[i].state == SITE_ANSWERED &&
            !wal_archive_exists(fetch->sites[i].repository, fetch->request->file, &exists, &err))
            return false;
    return exists;
}

/* Another one had the file: the failures of these are worth knowing, but no reason to stop. */
static void fetch_log_failures(const struct fetch *fetch)
{
    for (size_t i = 0; i < fetch->config->repository_count; i++)
        if (fetch->sites[i].state == SITE_FAILED)
            log_error(LOG_WARNING, &fetch->sites[i].error);
}

/* A file that was acknowledged is in as many repositories as archive.require says: where fewer than
 * that say nothing, another one would have it. Those that the DBA does without say nothing either: it may
 * be in them and in one that only fails just now. But damage is no absence, nor is a wrong key.
 * (What was acknowledged while require was lower shows as a gap once there is a later segment: absence.h.) */
static bool fetch_others_suffice(const struct fetch *fetch)
{
    int failed = 0, silent = 0, absent = 0;

    for (size_t i = 0; i < fetch->config->repository_count; i++) {
        if (fetch->sites[i].state == SITE_FAILED &&
            (fetch->sites[i].error.code == ERROR_INTEGRITY ||
             fetch->sites[i].error.code == ERROR_CONFIG))
            return false;
        failed += fetch->sites[i].state == SITE_FAILED;
        silent += fetch->sites[i].state != SITE_ANSWERED;
        absent += fetch->sites[i].state == SITE_ANSWERED;
    }
    return (failed == 0 || silent < fetch->config->archive.require) && absent > 0;
}

static bool fetch_first_failure(const struct fetch *fetch, struct error *err)
{
    for (size_t i = 0; i < fetch->config->repository_count && !fetch_others_suffice(fetch); i++)
        if (fetch->sites[i].state == SITE_FAILED) {
            *err = fetch->sites[i].error;
            if (err->code == ERROR_INTEGRITY && fetch->sites[i].repository && err->hint[0] == '\0')
                error_hint(err,
                           "recovery cannot go on past \"%s\": look for it in pg_wal of the old "
                           "primary, or restore to a target before it",
                           fetch->request->file);
            if (fetch->config->repository_count > 1 && err->detail[0] == '\0')
                error_detail(err,
                             "to do without repository \"%s\", add --without %s to "
                             "restore_command",
                             fetch->config->repositories[i].name,
                             fetch->config->repositories[i].name);
            return false;
        }
    return true;
}

static bool fetch_has_others(const struct fetch *fetch)
{
    size_t wanted = 0;

    for (size_t i = 0; i < fetch->config->repository_count; i++)
        wanted += fetch->sites[i].state != SITE_LEFT_OUT;
    return wanted > 1;
}

/* Recovery must not wait for a repository that is out of reach, segment after segment, where another
 * one has them all. */
static bool fetch_in_a_hurry(struct fetch *fetch, bool *delivered, struct error *err)
{
    const struct config *config = fetch->config;
    enum site_patience patience = fetch_has_others(fetch) ? SITE_IN_A_HURRY : SITE_PATIENT;

    for (size_t i = 0; i < config->repository_count && !*delivered; i++) {
        struct site *site = &fetch->sites[i];

        if (site->state == SITE_LEFT_OUT)
            continue;
        if (patience == SITE_IN_A_HURRY && outage_is_recent(config, config->repositories[i].name)) {
            outage_error(config, config->repositories[i].name, &site->error);
            site->state = SITE_FAILED;
        } else if (!fetch_from(fetch, i, patience, delivered, err)) {
            return false;
        }
    }
    return true;
}

/* Those without whom it cannot be told. A standby asks again anyway. */
static bool fetch_with_patience(struct fetch *fetch, bool *delivered, struct error *err)
{
    const struct config *config = fetch->config;

    if (fetch_others_suffice(fetch) || fetch_is_for_standby(config, fetch->request) ||
        !fetch_has_others(fetch))
        return true;
    for (size_t i = 0; i < config->repository_count && !*delivered; i++) {
        struct site *site = &fetch->sites[i];

        if (site->state != SITE_FAILED || site->error.code != ERROR_STORE)
            continue;
        if (!fetch_from(fetch, i, SITE_PATIENT, delivered, err))
            return false;
        if (site->state == SITE_ANSWERED)
            outage_end(config, config->repositories[i].name);
    }
    return true;
}

/* One look at the repositories; whoever has the file delivers it. */
static bool fetch_deliver(struct fetch *fetch, bool *delivered, struct error *err)
{
    *delivered = false;
    if (!fetch_in_a_hurry(fetch, delivered, err) ||
        (!*delivered && !fetch_with_patience(fetch, delivered, err)) ||
        (!*delivered && !fetch_from_memory(fetch, delivered, err)))
        return false;
    if (*delivered)
        fetch_log_failures(fetch);
    return true;
}

static bool fetch_answer(struct fetch *fetch, enum fetch_answer *answer, struct error *err)
{
    bool delivered;

    for (int tries = 1;; tries++) {
        if (!fetch_deliver(fetch, &delivered, err))
            return false;
        *answer = delivered ? FETCH_DELIVERED : FETCH_ABSENT;
        if (delivered)
            return true;
        if (!fetch_first_failure(fetch, err))
            return false;
        if (fetch_prove_absent(fetch, err))
            return true;
        if (tries == TRIES || !fetch_has_come(fetch))
            return false;
    }
}

/* A promotion asks for it, and must not fail where a repository is out of reach. */
static bool is_never_there(const struct wal_name *name)
{
    return name->kind == WAL_HISTORY && name->timeline == 1;
}

bool fetch_file(const struct config *config, const struct fetch_request *request,
                enum fetch_answer *answer, struct error *err)
{
    struct fetch fetch = {.config = config, .request = request};
    bool ok;

    if (wal_parse_name(request->file, &fetch.name) == WAL_NOT_A_WAL_FILE)
        return error_set(err, ERROR_USAGE, "\"%s\" is not the name of a WAL file", request->file);
    fetch.sites = mem_calloc(config->repository_count, sizeof(*fetch.sites));
    fetch.temporary = mem_printf("%s" TEMPORARY_SUFFIX, request->path);
    *answer = FETCH_ABSENT;
    ok = fetch_choose(&fetch, err) &&
         (is_never_there(&fetch.name) ||
          (fetch_identify(&fetch, err) && fetch_answer(&fetch, answer, err)));
    for (size_t i = 0; i < config->repository_count; i++)
        repository_close(fetch.sites[i].repository);
    free(fetch.sites);
    free(fetch.temporary);
    buffer_free(&fetch.history);
    return ok;
}
