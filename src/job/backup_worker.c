/*
 * backup_worker.c - one thread of a backup
 *
 * One pass over the bytes: a leaf (2 MiB) is read into memory, its pages are verified, and
 * backup_leaf.c stores what is new of it.
 */
#include "job/backup_worker.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "job/backup_leaf.h"
#include "pgvigil/clock.h"
#include "pgvigil/control.h"
#include "pgvigil/crc32c.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "pgvigil/page.h"
#include "pgvigil/progress.h"
#include "pgvigil/workers.h"

/* A page that is being written just now holds again a moment later. */
#define REREADS 6
#define REREAD_PAUSE 10000 /* microseconds */

struct worker {
    struct backup_reading *reading;
    struct workers *workers;
    struct backup_leaf *leaf;
    unsigned char *bytes; /* one leaf's */
};

static void note_suspect(struct backup_reading *reading, const struct backup_suspect *suspect)
{
    atomic_store(&suspect->file->suspect, true);
    pthread_mutex_lock(&reading->mutex);
    reading->suspects = mem_grow(reading->suspects, reading->suspect_count,
                                 &reading->suspect_capacity, sizeof *reading->suspects);
    reading->suspects[reading->suspect_count++] = *suspect;
    pthread_mutex_unlock(&reading->mutex);
}

/* Reads one page again until its checksum holds or patience ends. What was read last counts. */
static bool reread_page(struct worker *worker, struct backup_file *file, int fd, uint64_t offset,
                        unsigned char *page, uint32_t block, struct error *err)
{
    size_t got = PACK_BLOCK;

    for (int i = 0; i < REREADS && got == PACK_BLOCK; i++) {
        if (i > 0)
            clock_sleep(REREAD_PAUSE);
        if (!files_pread_uncached(fd, file->path, page, PACK_BLOCK, offset, &got, err))
            return false;
        if (got == PACK_BLOCK && page_verify(page, block))
            return true;
    }
    if (got < PACK_BLOCK)
        return true; /* truncated meanwhile: replay will do the same */
    note_suspect(worker->reading,
                 &(struct backup_suspect){.file = file, .block = block, .lsn = page_lsn(page)});
    return true;
}

static bool verify_pages(struct worker *worker, struct backup_file *file, int fd, uint64_t offset,
                         size_t length, struct error *err)
{
    for (size_t at = 0; at + PACK_BLOCK <= length; at += PACK_BLOCK) {
        uint32_t block = file->first_block + (uint32_t)((offset + at) / PACK_BLOCK);

        if (!page_verify(worker->bytes + at, block) &&
            !reread_page(worker, file, fd, offset + at, worker->bytes + at, block, err))
            return false;
    }
    return true;
}

static bool read_chunk(struct worker *worker, const struct backup_piece *piece, int fd,
                       struct backup_chunk *chunk, struct error *err)
{
    struct backup_file *file = piece->file;
    uint64_t offset = piece->chunk * BACKUP_CHUNK_BYTES;
    uint64_t end = offset + BACKUP_CHUNK_BYTES;
    size_t got = BACKUP_LEAF_BYTES;

    if (end > file->planned)
        end = file->planned;
    while (offset < end && got == BACKUP_LEAF_BYTES) {
        size_t wanted = end - offset < BACKUP_LEAF_BYTES ? end - offset : BACKUP_LEAF_BYTES;

        if (!workers_check(worker->workers, err) ||
            !files_pread_uncached(fd, file->path, worker->bytes, wanted, offset, &got, err))
            return false;
        if (got == 0)
            break;
        if (file->pages && !verify_pages(worker, file, fd, offset, got, err))
            return false;
        if (!backup_leaf_store(worker->leaf, file, (uint32_t)(offset / BACKUP_LEAF_BYTES),
                               worker->bytes, got, err))
            return false;
        chunk->crc32c = crc32c(chunk->crc32c, worker->bytes, got);
        chunk->length += got;
        offset += got;
    }
    return true;
}

static bool read_piece(struct worker *worker, const struct backup_piece *piece, struct error *err)
{
    struct backup_file *file = piece->file;
    struct backup_chunk chunk = {.state = BACKUP_CHUNK_READ};
    int links = file->kind == MANIFEST_CONFIG ? 0 : O_NOFOLLOW;
    int fd = openat(worker->reading->directory, file->path, O_RDONLY | O_CLOEXEC | links);
    bool ok = true;

    if (fd < 0 && errno != ENOENT)
        return error_set_errno(err, "could not open file \"%s\"", file->path);
    if (fd < 0) {
        chunk.state = BACKUP_CHUNK_VANISHED;
    } else {
        ok = read_chunk(worker, piece, fd, &chunk, err);
        close(fd);
    }
    return ok && backup_files_chunk_done(piece, &chunk, err);
}

static bool read_control(struct worker *worker, struct error *err)
{
    struct backup_piece piece = backup_files_control(worker->reading->files);
    struct control control;
    size_t length;

    if (!control_read(worker->reading->data_directory, &control, worker->bytes, &length, err) ||
        !backup_leaf_store(worker->leaf, piece.file, 0, worker->bytes, length, err))
        return false;
    return backup_files_chunk_done(
        &piece,
        &(struct backup_chunk){.length = length, .crc32c = crc32c(0, worker->bytes, length)}, err);
}

static bool read_all(struct worker *worker, struct error *err)
{
    struct backup_piece piece;

    while (backup_files_next(worker->reading->files, &piece))
        if (!workers_check(worker->workers, err) || !read_piece(worker, &piece, err))
            return false;
    /* whoever is the last at work knows that all else has been read */
    if (atomic_fetch_sub(&worker->reading->at_work, 1) == 1 && !read_control(worker, err))
        return false;
    return backup_leaf_flush(worker->leaf, err);
}

static bool work(struct workers *workers, int number, void *context, struct error *err)
{
    struct worker *worker = mem_calloc(1, sizeof *worker);
    void *bytes = NULL;
    bool ok;

    (void)number;
    worker->reading = context;
    worker->workers = workers;
    ok = mem_try_alloc(&bytes, BACKUP_LEAF_BYTES, err) &&
         backup_leaf_new(worker->reading, &worker->leaf, err);
    worker->bytes = bytes;
    ok = ok && read_all(worker, err);
    backup_leaf_free(worker->leaf);
    free(worker->bytes);
    free(worker);
    return ok;
}

/* Which of the unchanged files can be kept must be known before the others are read. */
static bool keep_files(struct workers *workers, int number, void *context, struct error *err)
{
    struct backup_reading *reading = context;
    struct backup_leaf *leaf;
    bool ok = true;
    size_t next;

    (void)number;
    if (!backup_leaf_new(reading, &leaf, err))
        return false;
    while (ok && (next = atomic_fetch_add(&reading->next_kept, 1)) < reading->files->count) {
        struct backup_file *file = &reading->files->files[next];

        ok = !file->base.unchanged ||
             (workers_check(workers, err) && backup_leaf_keep_file(leaf, file, err));
    }
    backup_leaf_free(leaf);
    return ok;
}

bool backup_worker_run(struct backup_reading *reading, int jobs, struct error *err)
{
    atomic_init(&reading->at_work, jobs);
    if (reading->files->base->known != NULL && !workers_run(jobs, keep_files, reading, err))
        return false;
    return workers_run(jobs, work, reading, err);
}
