/*
 * restore_worker.c - one thread of a restore
 */
#include "job/restore_worker.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

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
    atomic_size_t next; /* index in refs of the next pack */
};

struct worker {
    struct shared *shared;
    struct workers *workers;
    struct decompress_context *decompress;
    struct buffer pack;
    unsigned char *raw; /* of the frame at hand */
    size_t raw_length;
    int fd; /* of the file written to last, or -1 */
    uint32_t file;
};

static int compare_runs(const void *a, const void *b)
{
    const struct restore_blocks_run *left = a, *right = b;

    if (left->offset != right->offset)
        return left->offset < right->offset ? -1 : 1;
    if (left->length != right->length)
        return left->length < right->length ? -1 : 1;
    if (left->file != right->file)
        return left->file < right->file ? -1 : 1;
    return (left->block > right->block) - (left->block < right->block);
}

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

static bool check_blocks(const struct worker *worker, const struct restore_blocks_run *run,
                         const unsigned char *data, struct error *err)
{
    const struct shared *shared = worker->shared;
    const struct restore_plan_file *file = &shared->plan->files[run->file];
    char name[LAYOUT_NAME_SIZE];

    for (uint32_t i = 0; i < run->count; i++) {
        const size_t length = restore_blocks_bytes(file, run->block + i, 1);

        if (digest_block(data + i * PACK_BLOCK, length, shared->plan->secret) !=
            shared->blocks->digests[run->digest + i])
            return error_set(err, ERROR_INTEGRITY,
                             "block %" PRIu32 " of file \"%s\" is not the one that was backed up:"
                             " wrong digest (frame at %" PRIu32 " of \"%s\")",
                             run->block + i, file->path, run->offset,
                             layout_pack(&shared->refs->packs[run->pack].pack, name));
    }
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

static bool write_pack(struct worker *worker, size_t index, struct error *err)
{
    const struct shared *shared = worker->shared;
    const struct refs_pack *pack = &shared->refs->packs[index];
    struct restore_blocks_run *runs = shared->blocks->runs + shared->blocks->starts[index];
    const uint64_t count = shared->blocks->starts[index + 1] - shared->blocks->starts[index];

    if (!pack_fetch(shared->repository, pack, &worker->pack, err))
        return false;
    qsort(runs, count, sizeof *runs, compare_runs);
    for (uint64_t i = 0; i < count; i++) {
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

static bool write_packs(struct worker *worker, struct error *err)
{
    struct shared *shared = worker->shared;
    size_t index;

    while ((index = atomic_fetch_add(&shared->next, 1)) < shared->refs->count) {
        if (!workers_check(worker->workers, err))
            return false;
        if (shared->blocks->starts[index + 1] > shared->blocks->starts[index] &&
            !write_pack(worker, index, err))
            return false;
    }
    return close_file(worker, err);
}

static bool work(struct workers *workers, int number, void *context, struct error *err)
{
    struct worker worker = {
        .shared = context, .workers = workers, .decompress = decompress_new(), .fd = -1};
    bool ok;

    (void)number;
    worker.raw = mem_alloc(PACK_FRAME_RAW);
    ok = write_packs(&worker, err);
    if (worker.fd >= 0)
        close(worker.fd);
    decompress_free(worker.decompress);
    buffer_free(&worker.pack);
    free(worker.raw);
    return ok;
}

bool restore_worker_run(const struct restore_plan *plan, const struct restore_blocks *blocks,
                        struct repository *repository, const struct refs *refs,
                        struct restore_tree *tree, int jobs, struct error *err)
{
    struct shared shared = {
        .plan = plan, .blocks = blocks, .repository = repository, .refs = refs, .tree = tree};

    atomic_init(&shared.next, 0);
    return workers_run(jobs, work, &shared, err);
}
