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

bool backup_commit_wait(struct repository *repository, const struct backup_info *info,
                        struct connection *connection, int64_t timeout, struct error *err)
{
    return arrival_wait(&(struct arrival){.timeline = info->timeline,
                                          .first = first_segment(info),
                                          .last = last_segment(info),
                                          .segment_size = info->wal_segment_size},
                        repository, connection, timeout, err);
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
    ok = ok && manifest_writer_store(writer, &meta, commit->repository, commit->info->run,
                                     commit->info->manifest_sha256, err);
    manifest_writer_free(writer);
    return ok;
}

struct seen {
    const struct refs *refs;
    size_t whole;
};

static bool see_pack(const char *name, const struct store_info *info, void *context,
                     struct error *err)
{
    struct seen *seen = context;
    struct layout_pack id;
    const struct refs_pack *pack;

    (void)err;
    if (layout_parse_pack(name, &id) && (pack = refs_find(seen->refs, &id)) != NULL &&
        pack->size == info->size)
        seen->whole++;
    return true;
}

/* Lists the packs of every run that refs names and counts those that are there with their size. */
static bool check_packs(const struct backup_commit *commit, struct error *err)
{
    const struct refs *refs = commit->refs;
    struct seen seen = {.refs = refs};

    for (size_t i = 0; i < refs->count; i++) {
        char prefix[LAYOUT_NAME_SIZE];

        if (i > 0 && refs->packs[i].pack.run == refs->packs[i - 1].pack.run)
            continue;
        layout_pack_prefix(refs->packs[i].pack.run, prefix);
        if (!repository_list(commit->repository, prefix, NULL, see_pack, &seen, err))
            return false;
    }
    if (seen.whole == refs->count)
        return true;
    return error_set(err, ERROR_INTEGRITY,
                     "%zu of the %zu packs of this backup are not in repository \"%s\"",
                     refs->count - seen.whole, refs->count, commit->repository->name);
}

static bool check_wal(const struct backup_commit *commit, struct error *err)
{
    const struct backup_info *info = commit->info;
    char name[WAL_NAME_SIZE];
    uint64_t missing;
    bool complete;

    if (!wal_archive_complete(commit->repository, info->timeline, first_segment(info),
                              last_segment(info), info->wal_segment_size, &complete, &missing, err))
        return false;
    if (complete)
        return true;
    return error_set(err, ERROR_INTEGRITY, "WAL segment %s is not in repository \"%s\"",
                     wal_segment_name(info->timeline, missing, info->wal_segment_size, name),
                     commit->repository->name);
}

/* Being listed is not being durable: whoever stored a segment may not have come to its fsync yet,
 * or have been killed before, and then no acknowledgement holds the server back from losing it too.
 * */
static bool sync_wal(const struct backup_commit *commit, struct error *err)
{
    const struct backup_info *info = commit->info;
    bool ok = true;

    for (uint64_t number = first_segment(info); ok && number <= last_segment(info); number++) {
        char file[WAL_NAME_SIZE], name[LAYOUT_NAME_SIZE], *full;

        wal_segment_name(info->timeline, number, info->wal_segment_size, file);
        full = repository_object_name(commit->repository, layout_wal_segment(file, name));
        ok = store_sync(commit->repository->store, full, err);
        free(full);
    }
    return ok;
}

/* Counts an object of this backup; that it can be looked up proves that it is there. */
static bool count_object(const struct backup_commit *commit, const char *name, struct error *err)
{
    char *full = repository_object_name(commit->repository, name);
    struct store_info info;
    bool ok = store_stat(commit->repository->store, full, &info, err);

    if (ok)
        commit->info->stored_bytes += info.size;
    free(full);
    return ok;
}

bool backup_commit(const struct backup_commit *commit, struct error *err)
{
    struct backup_info *info = commit->info;
    char name[LAYOUT_NAME_SIZE];

    for (size_t i = 0; i < commit->refs->count; i++) {
        info->pack_bytes += commit->refs->packs[i].size;
        if (commit->refs->packs[i].pack.run == info->run)
            info->stored_bytes += commit->refs->packs[i].size;
    }
    return store_manifest(commit, err) &&
           refs_store(commit->repository, info->run, commit->refs, info->refs_sha256, err) &&
           count_object(commit, layout_manifest(info->run, name), err) &&
           count_object(commit, layout_refs(info->run, name), err) && check_packs(commit, err) &&
           check_wal(commit, err) && sync_wal(commit, err) && run_check(commit->run, err) &&
           backup_info_store(commit->repository, info, err);
}
