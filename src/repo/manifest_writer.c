/*
 * manifest_writer.c - making the list of files of a backup
 *
 * The database is a file without a name in the state directory: memory stays bounded however many
 * files there are, and nothing is left behind. It is nobody's until it is stored, so it needs
 * neither journal nor fsync.
 */
#include <inttypes.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "pgvigil/object.h"
#include "repo/manifest_schema.h"

#define LEVEL 6
#define CHUNK ((size_t)256 * 1024)

#define TEXT_OF(number) #number
#define TEXT(number) TEXT_OF(number)

#define PREPARE                                                                                    \
    "PRAGMA page_size = 8192;"                                                                     \
    "PRAGMA journal_mode = OFF;"                                                                   \
    "PRAGMA synchronous = OFF;"                                                                    \
    "PRAGMA locking_mode = EXCLUSIVE;"                                                             \
    "PRAGMA cache_size = -32768;" /* kB */                                                         \
    "PRAGMA application_id = " TEXT(                                                               \
        MANIFEST_APPLICATION_ID) ";"                                                               \
                                 "PRAGMA user_version = " TEXT(                                    \
                                     MANIFEST_FORMAT) ";"                                          \
                                                      "BEGIN;" MANIFEST_CREATE_META                \
                                                      ";" MANIFEST_CREATE_FILE ";"

struct manifest_writer {
    pthread_mutex_t mutex; /* workers add what they have read */
    sqlite3 *database;
    sqlite3_stmt *insert;
    char *path; /* where the file was while it had a name, for messages */
    int fd;
};

static bool fail(struct manifest_writer *writer, struct error *err)
{
    return error_set(err, ERROR_SYSTEM, "could not write the manifest in \"%s\": %s", writer->path,
                     writer->database ? sqlite3_errmsg(writer->database) : "out of memory");
}

static bool prepare_database(struct manifest_writer *writer, struct error *err)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_NOMUTEX |
                SQLITE_OPEN_PRIVATECACHE;
    bool opened = sqlite3_open_v2(writer->path, &writer->database, flags, NULL) == SQLITE_OK;

    if (unlink(writer->path) != 0)
        return error_set_errno(err, "could not remove file \"%s\"", writer->path);
    if (!opened || sqlite3_exec(writer->database, PREPARE, NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(writer->database, "INSERT INTO file VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
                           -1, &writer->insert, NULL) != SQLITE_OK)
        return fail(writer, err);
    return true;
}

bool manifest_writer_new(const char *directory, struct manifest_writer **writer, struct error *err)
{
    struct manifest_writer *made = mem_calloc(1, sizeof(*made));

    pthread_mutex_init(&made->mutex, NULL);
    made->fd = -1;
    if (!manifest_temporary(directory, &made->path, &made->fd, err) ||
        !prepare_database(made, err)) {
        manifest_writer_free(made);
        return false;
    }
    *writer = made;
    return true;
}

static void close_database(struct manifest_writer *writer)
{
    sqlite3_finalize(writer->insert);
    writer->insert = NULL;
    sqlite3_close(writer->database);
    writer->database = NULL;
}

void manifest_writer_free(struct manifest_writer *writer)
{
    if (!writer)
        return;
    close_database(writer);
    if (writer->fd >= 0)
        close(writer->fd);
    free(writer->path);
    pthread_mutex_destroy(&writer->mutex);
    free(writer);
}

static int bind_text(sqlite3_stmt *statement, enum manifest_column column, const char *text)
{
    return sqlite3_bind_text(statement, (int)column + 1, text, -1, SQLITE_STATIC);
}

static int bind_number(sqlite3_stmt *statement, enum manifest_column column, int64_t number)
{
    return sqlite3_bind_int64(statement, (int)column + 1, number);
}

/* What is not bound is NULL. */
static int bind_file(sqlite3_stmt *statement, const struct manifest_file *file, const char *kind,
                     const char *run)
{
    const struct map_place *map = &file->map;
    bool has_bytes = file->kind == MANIFEST_FILE || file->kind == MANIFEST_CONFIG;
    int failed = sqlite3_clear_bindings(statement);

    failed |= bind_text(statement, MANIFEST_PATH, file->path);
    failed |= bind_text(statement, MANIFEST_KIND, kind);
    failed |= bind_number(statement, MANIFEST_SIZE, (int64_t)file->size);
    failed |= bind_number(statement, MANIFEST_MODIFIED, file->modified);
    failed |= bind_number(statement, MANIFEST_MODE, (int64_t)file->mode);
    if (has_bytes)
        failed |= bind_number(statement, MANIFEST_CRC32C, file->crc32c);
    if (file->kind == MANIFEST_TABLESPACE)
        failed |= bind_text(statement, MANIFEST_LINK, file->link);
    if (map->frame.pack.number == 0)
        return failed;
    failed |= bind_text(statement, MANIFEST_MAP_RUN, run);
    failed |= bind_number(statement, MANIFEST_MAP_PACK, map->frame.pack.number);
    failed |= bind_number(statement, MANIFEST_MAP_FRAME_OFFSET, map->frame.offset);
    failed |= bind_number(statement, MANIFEST_MAP_FRAME_LENGTH, map->frame.length);
    failed |= bind_number(statement, MANIFEST_MAP_ITEM_OFFSET, map->item_offset);
    failed |= bind_number(statement, MANIFEST_MAP_ITEM_LENGTH, map->item_length);
    return failed;
}

bool manifest_writer_add(struct manifest_writer *writer, const struct manifest_file *file,
                         struct error *err)
{
    char run[CLOCK_COMPACT_SIZE];
    const char kind[2] = {(char)file->kind, '\0'};
    bool ok = true;

    if (!manifest_check_file(file, err))
        return false;
    layout_run_text(file->map.frame.pack.run, run);
    pthread_mutex_lock(&writer->mutex);
    if (bind_file(writer->insert, file, kind, run) != SQLITE_OK ||
        sqlite3_step(writer->insert) != SQLITE_DONE) {
        fail(writer, err);
        ok = error_context(err, "file \"%s\"", file->path);
    }
    sqlite3_reset(writer->insert);
    pthread_mutex_unlock(&writer->mutex);
    return ok;
}

static bool add_meta(struct manifest_writer *writer, sqlite3_stmt *insert, const char *key,
                     const char *value, struct error *err)
{
    if (strlen(value) > MANIFEST_TEXT_MAXIMUM / 2)
        return error_set(err, ERROR_SYSTEM, "the server's %s is too long (%zu bytes)", key,
                         strlen(value));
    if (sqlite3_bind_text(insert, 1, key, -1, SQLITE_STATIC) != SQLITE_OK ||
        sqlite3_bind_text(insert, 2, value, -1, SQLITE_STATIC) != SQLITE_OK ||
        sqlite3_step(insert) != SQLITE_DONE)
        return fail(writer, err);
    sqlite3_reset(insert);
    return true;
}

static bool add_metas(struct manifest_writer *writer, const struct manifest_meta *meta,
                      uint64_t system_identifier, int64_t run, struct error *err)
{
    char secret[2 * DIGEST_SECRET_SIZE + 1];
    char run_text[CLOCK_COMPACT_SIZE];
    char identifier[24];
    sqlite3_stmt *insert;

    snprintf(identifier, sizeof(identifier), "%" PRIu64, system_identifier);
    digest_to_hex(meta->secret, DIGEST_SECRET_SIZE, secret);
    if (sqlite3_prepare_v2(writer->database, "INSERT INTO meta VALUES (?,?)", -1, &insert, NULL) !=
        SQLITE_OK)
        return fail(writer, err);
    bool ok = add_meta(writer, insert, "format", TEXT(MANIFEST_FORMAT), err) &&
              add_meta(writer, insert, "run", layout_run_text(run, run_text), err) &&
              add_meta(writer, insert, "system_identifier", identifier, err) &&
              add_meta(writer, insert, "backup_label", meta->backup_label, err) &&
              add_meta(writer, insert, "tablespace_map", meta->tablespace_map, err) &&
              add_meta(writer, insert, "digest_secret", secret, err);
    sqlite3_finalize(insert);
    return ok;
}

static bool copy_bytes(struct manifest_writer *writer, struct object_writer *object,
                       struct error *err)
{
    void *chunk = mem_alloc(CHUNK);
    size_t got = 0;
    bool ok;

    ok = lseek(writer->fd, 0, SEEK_SET) == 0 ||
         error_set_errno(err, "could not seek in file \"%s\"", writer->path);
    do {
        ok = ok && files_read_fd(writer->fd, writer->path, chunk, CHUNK, &got, err) &&
             object_writer_write(object, chunk, got, err);
    } while (ok && got == CHUNK);
    free(chunk);
    return ok;
}

static bool store_bytes(struct manifest_writer *writer, struct repository *repository,
                        const char *name, enum store_outcome *outcome, struct trailer *trailer,
                        struct error *err)
{
    struct object_writer *object;

    if (!object_writer_begin(repository, name, TRAILER_MANIFEST, OBJECT_ZSTD, LEVEL, &object, err))
        return false;
    if (!copy_bytes(writer, object, err)) {
        object_writer_abort(object);
        return false;
    }
    return object_writer_commit(object, outcome, trailer, err);
}

bool manifest_writer_store(struct manifest_writer *writer, const struct manifest_meta *meta,
                           struct repository *repository, int64_t run,
                           unsigned char sha256[DIGEST_SHA256_SIZE], struct error *err)
{
    char name[LAYOUT_NAME_SIZE];
    enum store_outcome outcome;
    struct trailer trailer;

    if (!add_metas(writer, meta, repository->system_identifier, run, err))
        return false;
    if (sqlite3_exec(writer->database, "COMMIT", NULL, NULL, NULL) != SQLITE_OK)
        return fail(writer, err);
    close_database(writer);
    layout_manifest(run, name);
    if (!store_bytes(writer, repository, name, &outcome, &trailer, err))
        return false;
    if (outcome == STORE_TAKEN)
        return object_refuse_taken(repository, name, err);
    memcpy(sha256, trailer.stored_sha256, DIGEST_SHA256_SIZE);
    return true;
}
