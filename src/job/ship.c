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
#include "pgvigil/repository.h"

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

static bool ship_to(const struct config *config, const struct config_repository *which,
                    uint64_t identifier, const struct wal_source *source, enum wal_outcome *outcome,
                    struct error *err)
{
    struct repository *repository;

    if (!repository_open_until(config, which, source->deadline, &repository, err))
        return false;
    repository_select(repository, identifier);
    bool ok = wal_archive_store(repository, source, config->archive.compress_level, outcome, err);
    repository_close(repository);
    return ok;
}

/* Every repository must have it. After a failure PostgreSQL pushes again, and those that have it
 * already say so. */
static bool ship_to_all(const struct config *config, uint64_t identifier, const char *path,
                        enum wal_outcome *outcome, struct error *err)
{
    struct wal_source source = {.deadline = clock_monotonic() + config->archive.timeout};
    enum wal_outcome one;
    bool ok = true;

    if (!ship_open(path, &source, err))
        return false;
    *outcome = WAL_ALREADY_THERE;
    for (size_t i = 0; ok && i < config->repository_count; i++) {
        ok = ship_to(config, &config->repositories[i], identifier, &source, &one, err);
        if (ok && one == WAL_STORED)
            *outcome = WAL_STORED;
    }
    close(source.fd);
    return ok;
}

bool ship_file(const struct config *config, const char *path, enum wal_outcome *outcome,
               struct error *err)
{
    uint64_t identifier;

    return ship_identify(config, &identifier, err) &&
           ship_to_all(config, identifier, path, outcome, err);
}

bool ship_file_of(const struct config *config, const char *directory, const char *path,
                  enum wal_outcome *outcome, struct error *err)
{
    struct control control;

    return control_read(directory, &control, NULL, NULL, err) &&
           ship_to_all(config, control.system_identifier, path, outcome, err);
}
