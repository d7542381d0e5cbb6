/*
 * backup_commit.c - the end of a backup
 *
 * Order matters: everything the backup needs is stored, seen in a listing of the repository, and
 * durable, before backup.json says that it exists. A crash before that leaves objects nobody refers
 * to.
 */
#include "job/backup_commit.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "job/arrival.h"
#include "pgvigil/mem.h"
#include "pgvigil/object_copy.h"
#include "pgvigil/process.h"
#include "pgvigil/wal_archive.h"

static uint64_t first_segment(const struct backup_info *info)
{
    return info->start_lsn / info->wal_segment_size;
}

/* A stop exactly on a border needs nothing of the segment behind it. */
static uint64_t last_segment(const struct backup_info *info)
{
    return (info->stop_lsn - 1) / info->wal_segment_size;
}

/* Another repository may do where this one cannot be reached. */
static bool is_outage(const struct error *err)
{
    return err->code == ERROR_STORE;
}

bool backup_commit_wait(const struct backup_commit *commit, struct connection *connection,
                        int64_t timeout, struct error *err)
{
    struct repository_set *set = commit->set;
    const struct backup_info *info = commit->info;
    const struct arrival arrival = {.timeline = info->timeline,
                                    .first = first_segment(info),
                                    .last = last_segment(info),
                                    .segment_size = info->wal_segment_size,
                                    .data_directory = commit->data_directory};

    for (size_t i = 0; i < set->count; i++) {
        if (!repository_set_has(set, i))
            continue;
        if (arrival_wait(&arrival, set, i, connection, timeout, err)) {
            error_clear(err);
            return true;
        }
        if (!is_outage(err))
            return false;
        repository_set_drop(set, i, err);
    }
    return false;
}

static bool store_manifest(const struct backup_commit *commit, struct error *err)
{
    const struct backup_files *files = commit->files;
    struct manifest_meta meta = {.backup_label = commit->stop->label,
                                 .tablespace_map = commit->stop->tablespace_map};
    struct manifest_writer *writer;
    bool ok = true;

    memcpy(meta.secret, files->secret, sizeof meta.secret);
    if (!manifest_writer_new(commit->state_dir, &writer, err))
        return false;
    for (size_t i = 0; ok && i < files->count; i++) {
        const struct backup_file *file = &files->files[i];
        struct manifest_file row = {.path = file->path,
                                    .kind = file->kind,
                                    .size = file->size,
                                    .modified = file->modified,
                                    .mode = file->mode,
                                    .crc32c = file->crc32c,
                                    .link = file->link,
                                    .map = file->root};

        if (file->gone)
            continue;
        ok = manifest_writer_add(writer, &row, err);
        commit->info->file_count += file->kind != MANIFEST_DIRECTORY;
        commit->info->database_bytes += file->size;
    }
    ok = ok && manifest_writer_store(writer, &meta, commit->set->joint, commit->info->run,
                                     commit->info->manifest_sha256, err);
    manifest_writer_free(writer);
    return ok;
}

/* From the first of the others that has it. */
static bool get_from_sibling(const struct repository_set *set, size_t member, const char *name,
                             struct error *err)
{
    for (size_t i = 0; i < set->count; i++)
        if (i != member && repository_set_has(set, i) &&
            object_copy(set->members[i].repository, set->members[member].repository, name, err)) {
            error_clear(err);
            return true;
        }
    return false;
}

static void level_packs(const struct backup_commit *commit, size_t member, const bool *lacking,
                        struct error *err)
{
    char name[LAYOUT_NAME_SIZE];

    for (size_t i = 0; i < commit->refs->count; i++)
        if (lacking[i])
            get_from_sibling(commit->set, member, layout_pack(&commit->refs->packs[i].pack, name),
                             err);
}

static bool check_packs(const struct backup_commit *commit, size_t member, struct error *err)
{
    struct repository *repository = commit->set->members[member].repository;
    bool *lacking = mem_calloc(commit->refs->count, sizeof(*lacking));
    size_t count;
    bool ok = refs_find_lacking(repository, commit->refs, lacking, &count, err);

    if (ok && count > 0) {
        level_packs(commit, member, lacking, err);
        ok = refs_find_lacking(repository, commit->refs, lacking, &count, err);
    }
    free(lacking);
    if (!ok || count == 0)
        return ok;
    error_set(err, ERROR_INTEGRITY, "repository \"%s\" lacks %zu of the %zu packs of this backup",
              repository->name, count, commit->refs->count);
    return error_hint(err,
                      "`%s verify` finds out which are missing, and the next backup stores "
                      "them anew; `%s backup --full` stores everything anew",
                      process_command(), process_command());
}

/* What this repository does not have yet, others may. */
static bool level_wal(const struct backup_commit *commit, size_t member, struct error *err)
{
    const struct backup_info *info = commit->info;
    struct repository *repository = commit->set->members[member].repository;

    for (uint64_t number = first_segment(info); number <= last_segment(info); number++) {
        char file[WAL_NAME_SIZE], name[LAYOUT_NAME_SIZE];
        bool exists;

        wal_segment_name(info->timeline, number, info->wal_segment_size, file);
        if (!wal_archive_exists(repository, file, &exists, err))
            return false;
        if (!exists)
            get_from_sibling(commit->set, member, layout_wal_segment(file, name), err);
    }
    return true;
}

static bool check_wal(const struct backup_commit *commit, size_t member, struct error *err)
{
    struct repository *repository = commit->set->members[member].repository;
    const struct backup_info *info = commit->info;
    char name[WAL_NAME_SIZE];
    uint64_t missing;
    bool complete;

    if (!level_wal(commit, member, err) ||
        !wal_archive_complete(repository, info->timeline, first_segment(info), last_segment(info),
                              info->wal_segment_size, &complete, &missing, err))
        return false;
    if (complete)
        return arrival_check_own(
            repository, commit->data_directory,
            wal_segment_name(info->timeline, last_segment(info), info->wal_segment_size, name),
            err);
    return error_set(err, ERROR_INTEGRITY, "WAL segment %s is not in repository \"%s\"",
                     wal_segment_name(info->timeline, missing, info->wal_segment_size, name),
                     repository->name);
}

/* Being listed is not being durable: whoever stored a segment may not have come to its fsync yet,
 * or have been killed before, and then no acknowledgement holds the server back from losing it too.
 * */
static bool sync_wal(const struct backup_commit *commit, struct repository *repository,
                     struct error *err)
{
    const struct backup_info *info = commit->info;
    bool ok = true;

    for (uint64_t number = first_segment(info); ok && number <= last_segment(info); number++) {
        char file[WAL_NAME_SIZE], name[LAYOUT_NAME_SIZE], *full;

        wal_segment_name(info->timeline, number, info->wal_segment_size, file);
        full = repository_object_name(repository, layout_wal_segment(file, name));
        ok = store_sync(repository->store, full, err);
        free(full);
    }
    return ok;
}

/* Counts an object of this backup; that it can be looked up proves that it is there. */
static bool count_object(struct repository *repository, const char *name, uint64_t *bytes,
                         struct error *err)
{
    char *full = repository_object_name(repository, name);
    struct store_info info;
    bool ok = store_stat(repository->store, full, &info, err);

    if (ok)
        *bytes += info.size;
    free(full);
    return ok;
}

static void count_packs(const struct backup_commit *commit)
{
    struct backup_info *info = commit->info;

    info->pack_bytes = info->stored_bytes = 0;
    for (size_t i = 0; i < commit->refs->count; i++) {
        info->pack_bytes += commit->refs->packs[i].size;
        if (commit->refs->packs[i].pack.run == info->run)
            info->stored_bytes += commit->refs->packs[i].size;
    }
}

/* In one repository: its own listing decides. */
static bool commit_in(const struct backup_commit *commit, size_t member, struct error *err)
{
    struct repository *repository = commit->set->members[member].repository;
    struct backup_info *info = commit->info;
    char name[LAYOUT_NAME_SIZE];

    count_packs(commit);
    return count_object(repository, layout_manifest(info->run, name), &info->stored_bytes, err) &&
           count_object(repository, layout_refs(info->run, name), &info->stored_bytes, err) &&
           check_packs(commit, member, err) && check_wal(commit, member, err) &&
           sync_wal(commit, repository, err) && run_check(commit->run, err) &&
           backup_info_store(repository, info, err);
}

/* In each that is left; true if in any. */
static bool commit_everywhere(const struct backup_commit *commit, struct error *err)
{
    struct repository_set *set = commit->set;
    struct error why = ERROR_INIT;
    bool any = false;

    for (size_t i = 0; i < set->count; i++) {
        if (!repository_set_has(set, i))
            continue;
        if (commit_in(commit, i, &why)) {
            any = true;
            continue;
        }
        if (why.code == ERROR_CANCELLED) {
            *err = why;
            return false;
        }
        *err = why;
        repository_set_drop(set, i, &why);
    }
    if (any)
        error_clear(err);
    return any;
}

bool backup_commit(const struct backup_commit *commit, struct error *err)
{
    if (!store_manifest(commit, err) || !refs_store(commit->set->joint, commit->info->run,
                                                    commit->refs, commit->info->refs_sha256, err))
        return false;
    repository_set_drop_failed(commit->set);
    return commit_everywhere(commit, err);
}
