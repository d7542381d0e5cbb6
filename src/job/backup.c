/*
 * backup.c - a base backup, from the lock to the commit
 */
#include "pgvigil/backup.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "job/backup_base.h"
#include "job/backup_commit.h"
#include "job/backup_refs.h"
#include "job/backup_worker.h"
#include "job/server_site.h"
#include "pgvigil/clock.h"
#include "pgvigil/connection.h"
#include "pgvigil/debt.h"
#include "pgvigil/history.h"
#include "pgvigil/lock.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"
#include "pgvigil/progress.h"
#include "pgvigil/ship.h"
#include "pgvigil/units.h"
#include "pgvigil/version.h"
#include "pgvigil/wal_archive.h"

#define START_TIMEOUT (INT64_C(60) * 60 * CLOCK_SECOND) /* a checkpoint may take its time */
#define PAGE_ERRORS_LISTED 100

/* Everything one backup holds; free_backup lets go of all of it in any state. */
struct backup {
    const struct config *config;
    const struct backup_request *request;
    struct lock *lock;
    struct repository_set set;
    struct connection *connection;
    const struct connection_server *server;
    char *data_directory;
    struct control control;
    struct run *run;
    struct backup_base base;
    struct backup_takeover takeover;
    struct known_files_clock clock; /* before the data directory was looked at */
    struct map_cache *cache;
    struct backup_files *files;
    struct pack_set *packs;
    struct map_writer *maps;
    struct backup_reading reading;
    struct refs refs; /* all packs that it needs */
    struct connection_backup_stop stop;
    struct backup_info *info;
};

static void free_backup(struct backup *backup)
{
    map_writer_free(backup->maps);
    pack_set_free(backup->packs);
    if (backup->reading.directory >= 0)
        close(backup->reading.directory);
    free(backup->reading.suspects);
    pthread_mutex_destroy(&backup->reading.mutex);
    refs_free(&backup->refs);
    backup_files_free(backup->files);
    map_cache_close(backup->cache);
    backup_takeover_close(&backup->takeover);
    backup_base_close(&backup->base);
    run_end(backup->run);
    connection_close(backup->connection); /* ends the backup mode if it is still on */
    free(backup->stop.label);
    free(backup->stop.tablespace_map);
    free(backup->data_directory);
    repository_set_close(&backup->set);
    lock_release(backup->lock);
    backup_info_free(backup->info);
}

/* A script may call pgvigil in its turn, so this is no reason to refuse; but if it does not, the DBA
 * should know before the wait for WAL. */
static void warn_of_command(const struct backup *backup)
{
    struct error doubt = ERROR_INIT;

    if (!server_site_calls_us(backup->config, backup->server, &doubt))
        log_error(LOG_WARNING, &doubt);
}

static bool prepare(struct backup *backup, struct error *err)
{
    const struct config *config = backup->config;

    if (!lock_take(config->state_dir, "backup", "backup", &backup->lock, err) ||
        !connection_open(config->conninfo, "backup", &backup->connection, err) ||
        !connection_server(backup->connection, &backup->server, err) ||
        !version_check_server(backup->server->version_num, err) ||
        !server_site_archives(backup->connection, backup->server, err) ||
        !server_site_directory(config, backup->connection, backup->server, &backup->data_directory,
                               &backup->control, err))
        return false;
    warn_of_command(backup);
    backup->reading.directory = open(backup->data_directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (backup->reading.directory < 0)
        return error_set_errno(err, "could not open directory \"%s\"", backup->data_directory);
    if (!repository_set_open(config, REPOSITORY_SET_ASK_ALL, backup->server->system_identifier, 0,
                             1, &backup->set, err))
        return false;
    repository_set_join(&backup->set, NULL);
    return true;
}

/* Chooses what to build on, says so in the begin note, and only then looks whether it may. */
static bool begin(struct backup *backup, struct error *err)
{
    struct backup_base *base = &backup->base;
    const char *state_dir = backup->config->state_dir;

    if (!backup->request->full &&
        !backup_base_choose(base, &backup->set, state_dir, &backup->control, err))
        return false;
    return run_begin(backup->set.joint, "backup", base->info != NULL ? base->info->run : 0,
                     &backup->run, err) &&
           backup_base_open(base, &backup->set, state_dir, err) &&
           backup_takeover_open(&backup->takeover, &backup->set, backup->run, base, err);
}

/* What others have of WAL and these are owed, before the WAL of this backup is looked for there. */
static void pay_debts(struct backup *backup)
{
    struct error err = ERROR_INIT;
    size_t paid;

    if (!debt_pay(&backup->set, SIZE_MAX, &paid, &err))
        log_error(LOG_WARNING, &err);
}

static bool knows_history(const struct repository_set *set, uint32_t timeline)
{
    bool known = true;

    for (size_t i = 0; known && i < set->count; i++) {
        struct error err = ERROR_INIT;
        struct history history;

        if (!repository_set_has(set, i))
            continue;
        if (!wal_archive_history(set->members[i].repository, timeline, &history, &known, &err))
            return false;
        history_free(&history);
    }
    return known;
}

/* The promotion archived it, but maybe before a repository was there, and PostgreSQL does that once. A
 * server restored from this backup asks for it, and does not start without. */
static void ship_history(const struct backup *backup)
{
    const uint32_t timeline = backup->info->timeline;
    struct error err = ERROR_INIT;
    enum wal_outcome outcome;
    char file[WAL_NAME_SIZE], *path;

    if (timeline == 1 || knows_history(&backup->set, timeline))
        return;
    path = mem_printf("%s/pg_wal/%s", backup->data_directory, wal_history_name(timeline, file));
    if (ship_file_of(backup->config, backup->info->system_identifier, path, &outcome, &err)) {
        log_info("archived \"%s\", which not all repositories had", file);
    } else {
        error_context(&err,
                      "could not archive \"%s\", without which no server that is restored from "
                      "this backup starts",
                      file);
        log_error(LOG_WARNING, &err);
    }
    free(path);
}

/* The backup is safe in the others. Returns how many lack it. */
static size_t warn_of_left_out(const struct backup *backup)
{
    size_t left_out = 0;

    for (size_t i = 0; i < backup->set.count; i++) {
        const struct repository_set_member *member = &backup->set.members[i];
        struct error why = member->error;

        if (repository_set_has(&backup->set, i))
            continue;
        error_context(&why, "the backup is not in repository \"%s\"", member->config->name);
        error_hint_also(&why, "%s`%s copy --to %s` brings it there",
                        why.hint[0] != '\0' ? "then " : "", process_command(),
                        member->config->name);
        log_error(LOG_WARNING, &why);
        left_out++;
    }
    return left_out;
}

static bool start(struct backup *backup, struct error *err)
{
    char label[64], text[CLOCK_COMPACT_SIZE];
    struct backup_info *info = backup->info;

    info->run = run_id(backup->run);
    known_files_clock_read(&backup->clock);
    info->start_time = clock_now();
    snprintf(label, sizeof label, "pgvigil %s", layout_run_text(info->run, text));
    progress_start("waiting for the checkpoint", 0);
    return connection_backup_start(backup->connection, label, true, START_TIMEOUT, &info->start_lsn,
                                   err);
}

/* Paths of the configuration files in use, one a line. */
static bool ask_configuration(struct backup *backup, struct buffer *paths, struct error *err)
{
    const struct connection_server *server = backup->server;
    const char *known[] = {server->config_file, server->hba_file, server->ident_file};
    char **row;

    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i] != NULL)
            buffer_append_format(paths, "%s\n", known[i]);
    if (!connection_row(backup->connection,
                        "SELECT string_agg(DISTINCT sourcefile, E'\\n') FROM pg_settings"
                        " WHERE sourcefile IS NOT NULL",
                        1, &row, err))
        return false;
    if (row[0] != NULL)
        buffer_append_string(paths, row[0]);
    connection_free_row(row, 1);
    return true;
}

static bool find_files(struct backup *backup, struct error *err)
{
    struct buffer outside = BUFFER_INIT;
    struct scan *scan;
    bool ok;

    if (!scan_data_directory(backup->data_directory, &backup->control, &scan, err))
        return false;
    for (size_t i = 0; i < scan->skipped_count; i++)
        log_warning("\"%s\" is neither a file nor a directory and is not in the backup",
                    scan->skipped[i]);
    progress_start("backup", scan->total_bytes);
    if (!ask_configuration(backup, &outside, err)) {
        buffer_free(&outside);
        scan_free(scan);
        return false;
    }
    ok = backup_files_new(backup->data_directory, scan, backup->control.checksum_version != 0,
                          buffer_text(&outside), &backup->base, &backup->files, err);
    buffer_free(&outside);
    return ok;
}

static bool keep_map_pack(const struct refs_pack *pack, const void *bytes, size_t length,
                          void *context, struct error *err)
{
    struct backup *backup = context;

    return map_cache_keep(backup->cache, pack, bytes, length, err);
}

static bool open_cache(struct backup *backup, struct error *err)
{
    if (!map_cache_open(backup->config->state_dir, backup->files->secret, &backup->cache, err))
        return false;
    if (backup->base.info != NULL)
        map_cache_build_on(backup->cache, &backup->base.refs, repository_set_reader(&backup->set));
    pack_set_on_map(backup->packs, keep_map_pack, backup);
    return true;
}

static void say_what_was_kept(const struct backup_files *files)
{
    char bytes[UNITS_TEXT_SIZE];
    uint64_t kept_bytes = 0;
    size_t kept = 0;

    for (size_t i = 0; i < files->count; i++)
        if (files->files[i].base.unchanged) {
            kept++;
            kept_bytes += files->files[i].size;
        }
    if (kept > 0)
        log_debug("%zu unchanged files of %s were not read", kept,
                  units_format_size(kept_bytes, bytes));
}

static bool copy_files(struct backup *backup, int jobs, struct error *err)
{
    int level = backup->config->backup.compress_level;
    struct backup_reading *reading = &backup->reading;

    if (!find_files(backup, err))
        return false;
    backup->packs = pack_set_new(backup->set.joint, backup->info->run);
    if (!open_cache(backup, err))
        return false;
    if (!map_writer_new(backup->packs, level, backup_files_placed, &backup->maps, err))
        return false;
    backup->files->maps = backup->maps;
    reading->data_directory = backup->data_directory;
    reading->level = level;
    reading->files = backup->files;
    reading->packs = backup->packs;
    reading->maps = backup->maps;
    reading->cache = backup->cache;
    reading->takeover = &backup->takeover;
    if (!backup_worker_run(reading, jobs, err) || !map_writer_finish(backup->maps, err))
        return false;
    say_what_was_kept(backup->files);
    backup_files_drop_unlogged(backup->files, reading->directory);
    return backup_refs_count(backup->files, backup->cache, pack_set_refs(backup->packs),
                             &backup->takeover.packs, &backup->refs, err);
}

/* Timeline and start as the server's own backup_label states them. */
static bool read_label(struct backup *backup, struct error *err)
{
    const char *timeline = strstr(backup->stop.label, "\nSTART TIMELINE: ");
    unsigned int value;

    if (timeline == NULL || sscanf(timeline, "\nSTART TIMELINE: %u", &value) != 1 || value == 0)
        return error_set(err, ERROR_DATABASE, "the server's backup_label names no timeline");
    backup->info->timeline = value;
    return true;
}

/* A standby that followed a promotion may start from a checkpoint of the old timeline while its pages
 * are of the new one already: no recovery could begin with that. */
static bool check_timeline(struct backup *backup, struct error *err)
{
    if (!control_read(backup->data_directory, &backup->control, NULL, NULL, err))
        return false;
    if (!backup->server->in_recovery ||
        backup->control.minimum_recovery_timeline <= backup->info->timeline)
        return true;
    error_set(err, ERROR_DATABASE,
              "the standby has changed to timeline %" PRIu32
              ", but its last restartpoint is of timeline %" PRIu32,
              backup->control.minimum_recovery_timeline, backup->info->timeline);
    return error_hint(err, "run CHECKPOINT on the standby, then take the backup again");
}

/* A tablespace that was dropped between the start and the look at the directory is in the server's
 * tablespace_map but not in the backup, and replay would want it. */
static bool check_tablespaces(struct backup *backup, struct error *err)
{
    const char *line = backup->stop.tablespace_map;

    while (*line != '\0') {
        unsigned long oid = strtoul(line, NULL, 10);
        const char *location = strchr(line, ' ');
        bool found = location == NULL || location[1] != '/'; /* one in place needs nothing */

        for (size_t i = 0; i < backup->info->tablespace_count; i++)
            found = found || backup->info->tablespaces[i].oid == oid;
        if (!found) {
            error_set(err, ERROR_DATABASE, "tablespace %lu was dropped while the backup began",
                      oid);
            return error_hint(err, "take the backup again");
        }
        line += strcspn(line, "\n");
        line += *line == '\n';
    }
    return true;
}

/* Pages changed while the backup ran are rewritten by replay; what else is wrong is damage. */
static void judge_suspects(struct backup *backup)
{
    const struct backup_reading *reading = &backup->reading;
    struct backup_info *info = backup->info;

    for (size_t i = 0; i < reading->suspect_count; i++) {
        const struct backup_suspect *suspect = &reading->suspects[i];

        if (suspect->file->gone ||
            (suspect->lsn >= info->start_lsn && suspect->lsn <= info->stop_lsn))
            continue;
        if (info->page_errors++ >= PAGE_ERRORS_LISTED)
            continue;
        if (info->page_error_list == NULL)
            info->page_error_list = mem_calloc(PAGE_ERRORS_LISTED, sizeof *info->page_error_list);
        info->page_error_list[info->page_error_list_count++] =
            mem_printf("%s block %" PRIu32, suspect->file->path, suspect->block);
    }
}

static void describe_tablespaces(struct backup *backup)
{
    struct backup_info *info = backup->info;

    info->tablespaces = mem_calloc(backup->files->count + 1, sizeof *info->tablespaces);
    for (size_t i = 0; i < backup->files->count; i++) {
        const struct backup_file *file = &backup->files->files[i];

        if (file->kind == MANIFEST_TABLESPACE)
            info->tablespaces[info->tablespace_count++] = (struct backup_tablespace){
                .oid = (uint32_t)strtoul(strrchr(file->path, '/') + 1, NULL, 10),
                .location = mem_strdup(file->link)};
    }
}

static bool stop(struct backup *backup, struct error *err)
{
    struct backup_info *info = backup->info;

    progress_stage("stopping");
    if (!connection_backup_stop(backup->connection, &backup->stop, err) || !read_label(backup, err))
        return false;
    info->stop_lsn = backup->stop.stop_lsn;
    info->stop_time = backup->stop.stop_time;
    info->system_identifier = backup->server->system_identifier;
    info->version_num = backup->server->version_num;
    info->wal_segment_size = backup->control.wal_segment_size;
    info->data_checksums = backup->control.checksum_version != 0;
    info->host = mem_strdup(process_host_name());
    info->data_directory = mem_strdup(backup->data_directory);
    describe_tablespaces(backup);
    judge_suspects(backup);
    return check_timeline(backup, err) && check_tablespaces(backup, err);
}

static bool commit(struct backup *backup, struct error *err)
{
    struct backup_commit whole = {.set = &backup->set,
                                  .run = backup->run,
                                  .state_dir = backup->config->state_dir,
                                  .files = backup->files,
                                  .stop = &backup->stop,
                                  .refs = &backup->refs,
                                  .data_directory =
                                      backup->server->in_recovery ? NULL : backup->data_directory,
                                  .info = backup->info};

    repository_set_drop_failed(&backup->set);
    progress_stage("waiting for WAL");
    pay_debts(backup);
    ship_history(backup);
    if (!backup_commit_wait(&whole, backup->connection, backup->config->backup.timeout, err))
        return false;
    progress_stage("committing");
    return backup_commit(&whole, err);
}

/* The backup is taken, whatever comes of this: without it the next one takes longer. */
static void remember(struct backup *backup)
{
    struct error err = ERROR_INIT;

    if (backup_files_remember(backup->files, backup->info, &backup->clock,
                              backup->config->state_dir, &err) &&
        unfinished_forget(backup->config->state_dir, &err) &&
        map_cache_prune(backup->cache, &backup->refs, &err))
        return;
    error_context(&err, "could not remember the files of this backup");
    log_error(LOG_WARNING, &err);
}

bool backup_run(const struct config *config, const struct backup_request *request,
                struct backup_result *result, struct error *err)
{
    struct backup backup = {.config = config, .request = request, .reading = {.directory = -1}};
    int jobs = request->jobs > 0 ? request->jobs : config->backup.jobs;
    bool ok;

    pthread_mutex_init(&backup.reading.mutex, NULL);
    backup.info = mem_calloc(1, sizeof *backup.info);
    ok = prepare(&backup, err) && begin(&backup, err) && start(&backup, err) &&
         copy_files(&backup, jobs, err) && stop(&backup, err) && commit(&backup, err);
    progress_stop();
    if (!ok && err->code == ERROR_CANCELLED)
        error_hint(err, "what it has stored is no backup; the next `%s backup` goes on from there",
                   process_command());
    if (ok) {
        remember(&backup);
        *result = (struct backup_result){.info = backup.info,
                                         .repositories = backup.set.count,
                                         .left_out = warn_of_left_out(&backup),
                                         .base = backup.base.info ? backup.base.info->run : 0,
                                         .changed_bytes = atomic_load(&backup.reading.changed)};
        backup.info = NULL;
    }
    free_backup(&backup);
    return ok;
}
