/*
 * restore_worker.c - one thread of a restore
 */
#include "job/restore_worker.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "pgvigil/pack.h"
#include "pgvigil/progress.h"
#include "pgvigil/workers.h"

struct shared {
    const struct restore_plan *plan;
    const struct restore_blocks *blocks;
    struct repository *repository;
    const struct refs *refs;
    struct restore_tree *tree;
    int jobs;
    atomic_size_t next; /* so many stretches have been taken */
    atomic_ullong kept; /* bytes found right in the target */
};

struct worker {
    struct shared *shared;
    struct workers *workers;
    struct decompress_context *decompress;
    struct restore_blocks_stretch stretch;
    struct buffer pack;
    unsigned char *raw; /* of the frame at hand */
    size_t raw_length;
    int fd; /* of the file written to last, or -1 */
    uint32_t file;
};

static bool close_file(struct worker *worker, struct error *err)
{
    const int fd = worker->fd;

    worker->fd = -1;
    return fd < 0 || close(fd) == 0 ||
           error_set_errno(err, "could not close file \"%s\"",
                           worker->shared->plan->files[worker->file].path);
}

/* Runs of one file mostly follow each other, so that one open file is enough. */
static bool open_file(struct worker *worker, uint32_t file, struct error *err)
{
    struct shared *shared = worker->shared;

    if (worker->fd >= 0 && worker->file == file)
        return true;
    if (!close_file(worker, err))
        return false;
    worker->file = file;
    return restore_tree_open(shared->tree, shared->plan->files[file].path, &worker->fd, err);
}

static bool is_block(const struct worker *worker, const struct restore_blocks_run *run, uint32_t i,
                     const unsigned char *data)
{
    const struct shared *shared = worker->shared;
    const size_t length = restore_blocks_bytes(&shared->plan->files[run->file], run->block + i, 1);

    const uint64_t digest = digest_block(data, length, shared->plan->secret);

    return memcmp(&digest, run->digests + i * sizeof digest, sizeof digest) == 0;
}

static bool check_blocks(const struct worker *worker, const struct restore_blocks_run *run,
                         const unsigned char *data, struct error *err)
{
    const struct shared *shared = worker->shared;
    const struct restore_plan_file *file = &shared->plan->files[run->file];
    char name[LAYOUT_NAME_SIZE];

    for (uint32_t i = 0; i < run->count; i++)
        if (!is_block(worker, run, i, data + i * PACK_BLOCK))
            return error_set(err, ERROR_INTEGRITY,
                             "block %" PRIu32 " of file \"%s\" is not the one that was backed up:"
                             " wrong digest (frame at %" PRIu32 " of \"%s\")",
                             run->block + i, file->path, run->offset,
                             layout_pack(&shared->refs->packs[run->pack].pack, name));
    return true;
}

static bool write_bytes(const struct worker *worker, const unsigned char *data, size_t length,
                        uint64_t offset, struct error *err)
{
    while (length > 0) {
        const ssize_t done = pwrite(worker->fd, data, length, (off_t)offset);

        if (done > 0) {
            data += done;
            length -= (size_t)done;
            offset += (uint64_t)done;
        } else if (done == 0 || errno != EINTR) {
            if (done == 0)
                errno = ENOSPC;
            return error_set_errno(err, "could not write file \"%s\"",
                                   worker->shared->plan->files[worker->file].path);
        }
    }
    return true;
}

static bool write_run(struct worker *worker, const struct restore_blocks_run *run,
                      struct error *err)
{
    const struct restore_plan_file *file = &worker->shared->plan->files[run->file];
    const size_t begin = run->first * PACK_BLOCK;
    const size_t length = restore_blocks_bytes(file, run->block, run->count);
    char name[LAYOUT_NAME_SIZE];

    if (begin > worker->raw_length || length > worker->raw_length - begin)
        return error_set(err, ERROR_INTEGRITY,
                         "file \"%s\": the frame at %" PRIu32 " of \"%s\" is too short for its map",
                         file->path, run->offset,
                         layout_pack(&worker->shared->refs->packs[run->pack].pack, name));
    if (!check_blocks(worker, run, worker->raw + begin, err) ||
        !open_file(worker, run->file, err) ||
        !write_bytes(worker, worker->raw + begin, length, (uint64_t)run->block * PACK_BLOCK, err))
        return false;
    progress_add(length);
    return true;
}

/* Are the blocks of a run in the target already? Each by its digest, as if it came from a pack. */
static bool is_kept(struct worker *worker, const struct restore_blocks_run *run, bool *kept,
                    struct error *err)
{
    const struct restore_plan_file *file = &worker->shared->plan->files[run->file];
    const uint32_t step = (uint32_t)PACK_FRAME_BLOCKS;

    *kept = (uint64_t)run->block * PACK_BLOCK < file->kept;
    if (*kept && !open_file(worker, run->file, err))
        return false;
    for (uint32_t at = 0; *kept && at < run->count; at += step) {
        const uint32_t count = run->count - at < step ? run->count - at : step;
        const size_t length = restore_blocks_bytes(file, run->block + at, count);
        size_t got;

        if (!files_pread_uncached(worker->fd, file->path, worker->raw, length,
                                  (uint64_t)(run->block + at) * PACK_BLOCK, &got, err))
            return false;
        *kept = got == length;
        for (uint32_t i = 0; *kept && i < count; i++)
            *kept = is_block(worker, run, at + i, worker->raw + i * PACK_BLOCK);
    }
    return true;
}

/* Leaves the runs that differ from what the target has, in their order. */
static bool drop_kept(struct worker *worker, struct restore_blocks_run *runs, size_t *count,
                      struct error *err)
{
    size_t left = 0;

    for (size_t i = 0; i < *count; i++) {
        bool kept;

        if (!workers_check(worker->workers, err) || !is_kept(worker, &runs[i], &kept, err))
            return false;
        if (kept) {
            const size_t bytes = restore_blocks_bytes(&worker->shared->plan->files[runs[i].file],
                                                      runs[i].block, runs[i].count);

            if (runs[i].pack < worker->shared->refs->count) {
                atomic_fetch_add(&worker->shared->kept, bytes);
                progress_add(bytes);
            }
        } else {
            runs[left++] = runs[i];
        }
    }
    *count = left;
    return true;
}

/* What is not zero, and should be, becomes a hole. */
static bool write_zeros(struct worker *worker, const struct restore_blocks_run *runs, size_t count,
                        struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        const struct restore_plan_file *file = &worker->shared->plan->files[runs[i].file];
        const uint64_t offset = (uint64_t)runs[i].block * PACK_BLOCK;
        const size_t length = restore_blocks_bytes(file, runs[i].block, runs[i].count);
        static const unsigned char zeros[MAP_LEAF_BLOCKS * PACK_BLOCK];

        if (!open_file(worker, runs[i].file, err))
            return false;
        if (fallocate(worker->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                      (off_t)length) != 0 &&
            !write_bytes(worker, zeros, length, offset, err))
            return false;
    }
    return true;
}

/* All runs of one pack, in its order. */
static bool write_pack(struct worker *worker, struct restore_blocks_run *runs, size_t count,
                       struct error *err)
{
    const struct shared *shared = worker->shared;
    const size_t index = runs->pack;
    const struct refs_pack *pack = &shared->refs->packs[index];

    if (!drop_kept(worker, runs, &count, err))
        return false;
    if (index == shared->refs->count)
        return write_zeros(worker, runs, count, err);
    if (count == 0)
        return true;
    if (!pack_fetch(shared->repository, pack, &worker->pack, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        const struct pack_frame frame = {
            .pack = pack->pack, .offset = runs[i].offset, .length = runs[i].length};

        if (!workers_check(worker->workers, err))
            return false;
        if ((i == 0 || runs[i].offset != runs[i - 1].offset ||
             runs[i].length != runs[i - 1].length) &&
            !pack_read_frame(&worker->pack, &frame, worker->decompress, worker->raw, PACK_FRAME_RAW,
                             &worker->raw_length, err))
            return false;
        if (!write_run(worker, &runs[i], err))
            return false;
    }
    return true;
}

/* Neighbouring packs are mostly of the same files, and the kernel lets one thread at a time write to a
 * file: so the list is cut into as many parts as there are threads, which take from each in turn.
 * False when there is none left. */
static bool take_stretch(struct shared *shared, size_t *index)
{
    const size_t count = shared->blocks->stretches, parts = (size_t)shared->jobs;
    const size_t length = (count + parts - 1) / parts;
    size_t taken;

    while ((taken = atomic_fetch_add(&shared->next, 1)) < length * parts) {
        *index = taken % parts * length + taken / parts;
        if (*index < count)
            return true;
    }
    return false;
}

static bool write_stretch(struct worker *worker, size_t index, struct error *err)
{
    struct restore_blocks_stretch *stretch = &worker->stretch;
    size_t end;

    if (!restore_blocks_take(worker->shared->blocks, index, stretch, err))
        return false;
    for (size_t begin = 0; begin < stretch->count; begin = end) {
        end = begin + 1;
        while (end < stretch->count && stretch->runs[end].pack == stretch->runs[begin].pack)
            end++;
        if (!workers_check(worker->workers, err) ||
            !write_pack(worker, &stretch->runs[begin], end - begin, err))
            return false;
    }
    return true;
}

static bool write_all(struct worker *worker, struct error *err)
{
    size_t index;

    while (take_stretch(worker->shared, &index))
        if (!workers_check(worker->workers, err) || !write_stretch(worker, index, err))
            return false;
    return close_file(worker, err);
}

static bool work(struct workers *workers, int number, void *context, struct error *err)
{
    struct worker worker = {
        .shared = context, .workers = workers, .decompress = decompress_new(), .fd = -1};
    bool ok;

    (void)number;
    worker.raw = mem_alloc(PACK_FRAME_RAW);
    ok = write_all(&worker, err);
    if (worker.fd >= 0)
        close(worker.fd);
    decompress_free(worker.decompress);
    restore_blocks_free_stretch(&worker.stretch);
    buffer_free(&worker.pack);
    free(worker.raw);
    return ok;
}

bool restore_worker_run(const struct restore_plan *plan, const struct restore_blocks *blocks,
                        struct repository *repository, const struct refs *refs,
                        struct restore_tree *tree, int jobs, uint64_t *kept, struct error *err)
{
    struct shared shared = {.plan = plan,
                            .blocks = blocks,
                            .repository = repository,
                            .refs = refs,
                            .tree = tree,
                            .jobs = jobs};

    bool ok;

    atomic_init(&shared.next, 0);
    atomic_init(&shared.kept, 0);
    ok = workers_run(jobs, work, &shared, err);
    *kept = atomic_load(&shared.kept);
    return ok;
}
