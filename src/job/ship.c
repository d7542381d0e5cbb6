/* ship.c - archive-push: one WAL file into the repositories */
#include "pgvigil/ship.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgvigil/clock.h"
#include "pgvigil/control.h"
#include "pgvigil/debt.h"
#include "pgvigil/log.h"
#include "pgvigil/repository_set.h"

#define PAID_BY_ONE_PUSH 3 /* so that debts shrink while pushes stay quick */

/* *found is false, without an error, when the directory is no data directory. */
static bool ship_read_control(const char *directory, uint64_t *identifier, bool *found,
                              struct error *err)
{
    struct control control;

    *found = control_read(directory, &control, NULL, NULL, err);
    if (*found)
        *identifier = control.system_identifier;
    else if (err->code == ERROR_NOT_FOUND)
        error_clear(err);
    else
        return false;
    return true;
}

static bool ship_clusters_differ(const struct config *config, uint64_t configured, uint64_t current,
                                 struct error *err)
{
    error_set(err, ERROR_CONFIG,
              "the current directory is a data directory of another cluster than \"%s\"",
              config->pgdata);
    error_detail(err, "its system identifier is %" PRIu64 ", that of the configured one %" PRIu64,
                 current, configured);
    return error_hint(err, "give each cluster a configuration file of its own");
}

/* Which cluster pushes? */
static bool ship_identify(const struct config *config, uint64_t *identifier, struct error *err)
{
    uint64_t current = 0;
    bool configured = false, here;

    *identifier = 0;
    if (config->pgdata && !ship_read_control(config->pgdata, identifier, &configured, err))
        return false;
    if (!ship_read_control(".", &current, &here, err))
        return false;
    if (configured && here && *identifier != current)
        return ship_clusters_differ(config, *identifier, current, err);
    if (configured)
        return true;
    *identifier = current;
    if (here)
        return true;
    error_set(err, ERROR_CONFIG,
              "could not tell which cluster's WAL is to be archived: there is "
              "no \"" CONTROL_PATH "\"");
    if (config->pgdata)
        error_detail(err, "looked for in \"%s\" and in the current directory", config->pgdata);
    else
        error_detail(err, "looked for in the current directory; no \"pgdata\" is configured");
    return error_hint(err, "archive-push is made to be called by PostgreSQL; by hand, run it in "
                           "the data directory, or set \"pgdata\" in section [cluster]");
}

static bool ship_open(const char *path, struct wal_source *source, struct error *err)
{
    const char *slash = strrchr(path, '/');
    struct stat info;

    source->path = path;
    source->file = slash ? slash + 1 : path;
    if (wal_parse_name(source->file, &source->name) == WAL_NOT_A_WAL_FILE)
        return error_set(err, ERROR_USAGE, "\"%s\" is not the name of a WAL file", source->file);
    /* O_NONBLOCK has no meaning for files; without it a FIFO would keep us waiting. */
    source->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (source->fd < 0)
        return error_set_errno(err, "could not open WAL file \"%s\"", path);
    if (fstat(source->fd, &info) != 0)
        error_set_errno(err, "could not stat WAL file \"%s\"", path);
    else if (!S_ISREG(info.st_mode))
        error_set(err, ERROR_USAGE, "\"%s\" is not a regular file", path);
    else {
        source->length = (uint64_t)info.st_size;
        return true;
    }
    close(source->fd);
    return false;
}

/* What a repository could not take it is owed; that must be on disk before the push is acknowledged. */
static bool ship_note_debts(const struct repository_set *set, uint64_t identifier,
                            const struct wal_source *source, const char *object, struct error *err)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct repository_set_member *member = &set->members[i];
        struct error why;

        if (repository_set_has(set, i))
            continue;
        if (!debt_note(set->config, member->config->name, identifier, object, err))
            return false;
        repository_set_why(set, i, &why);
        error_context(&why, "could not store \"%s\"", source->file);
        error_hint_also(&why,
                        "archiving continues without \"%s\", which gets what it misses once it can "
                        "be written to again",
                        member->config->name);
        log_error(LOG_WARNING, &why);
    }
    return true;
}

/* Enough of them have it, or the errors of those that have not. */
static bool ship_judge(const struct repository_set *set, const struct wal_source *source,
                       struct error *err)
{
    const int require = set->config->archive.require;
    int have = 0;

    for (size_t i = 0; i < set->count; i++)
        have += repository_set_has(set, i);
    if (have >= require)
        return true;
    repository_set_why_few(set, err);
    error_context(err, "could not store \"%s\"", source->file);
    if (require > 1)
        error_detail(err, "it is in %d of the repositories, but \"require\" asks for %d%s%s", have,
                     require, err->detail[0] != '\0' ? "; " : "", err->detail);
    return false;
}

/* The file is safe: what else is owed can only be a warning. */
static void ship_pay(struct repository_set *set)
{
    struct error err = ERROR_INIT;
    size_t paid;

    if (!debt_pay(set, PAID_BY_ONE_PUSH, &paid, &err))
        log_error(LOG_WARNING, &err);
}

static bool ship_to_set(struct repository_set *set, uint64_t identifier,
                        const struct wal_source *source, enum wal_outcome *outcome,
                        struct error *err)
{
    char object[LAYOUT_NAME_SIZE];

    if (!wal_archive_store(set, source, set->config->archive.compress_level, outcome, object,
                           err) ||
        !ship_judge(set, source, err) || !ship_note_debts(set, identifier, source, object, err))
        return false;
    ship_pay(set);
    return true;
}

/* As many repositories as archive.require says must have it. After a failure PostgreSQL pushes again,
 * and those that have it already say so. */
bool ship_file_of(const struct config *config, uint64_t identifier, const char *path,
                  enum wal_outcome *outcome, struct error *err)
{
    struct wal_source source = {.deadline = clock_monotonic() + config->archive.timeout};
    struct repository_set set;

    if (!ship_open(path, &source, err))
        return false;
    bool ok = repository_set_open(config, REPOSITORY_SET_SKIP_DOWN, identifier, source.deadline,
                                  config->archive.require, &set, err);
    if (ok) {
        ok = ship_to_set(&set, identifier, &source, outcome, err);
        repository_set_close(&set);
    }
    close(source.fd);
    return ok;
}

bool ship_file(const struct config *config, const char *path, enum wal_outcome *outcome,
               struct error *err)
{
    uint64_t identifier;

    return ship_identify(config, &identifier, err) &&
           ship_file_of(config, identifier, path, outcome, err);
}
