/*
 * manifest.c - reading the list of files of a backup
 *
 * A pass over all rows when a manifest is opened takes the place of PRAGMA quick_check: it looks at
 * every page of the table, and paths that ascend strictly mean that no row comes twice and that a
 * tree of pages that runs in circles is noticed.
 */
#include "pgvigil/manifest.h"

#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "pgvigil/object.h"
#include "pgvigil/repository_ask.h"
#include "repo/manifest_schema.h"

#define RAW_MAXIMUM (UINT64_C(16) << 30)
/* No manifest compresses that well: these keep a forged one from filling the disk. */
#define RAW_SLACK (UINT64_C(16) << 20)
#define RAW_RATIO 100
#define HEADER_SIZE 100 /* of a SQLite database: https://www.sqlite.org/fileformat2.html, 1.3 */
#define HEADER_WRITE_VERSION 18
#define HEADER_READ_VERSION 19
#define COLUMNS                                                                                    \
    "path, kind, size, modified, mode, crc32c, link, map_run, map_pack, map_frame_offset,"         \
    " map_frame_length, map_item_offset, map_item_length"

struct manifest {
    sqlite3 *database;
    char *name; /* for messages */
    struct manifest_meta meta;
};

bool manifest_path_valid(const char *path)
{
    if (strlen(path) > MANIFEST_PATH_MAXIMUM)
        return false;
    for (;;) {
        size_t length = strcspn(path, "/");

        if (length == 0 || length > NAME_MAX || (length == 1 && path[0] == '.') ||
            (length == 2 && path[0] == '.' && path[1] == '.'))
            return false;
        if (path[length] == '\0')
            return true;
        path += length + 1;
    }
}

/* What SQLite says of bytes that are not what they should be, and not of this system. */
static bool is_damage(int code)
{
    switch (code & 0xff) {
    case SQLITE_ERROR:
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_TOOBIG:
    case SQLITE_SCHEMA:
    case SQLITE_FORMAT:
    case SQLITE_AUTH:
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
        return true;
    default:
        return false;
    }
}

static bool fail(const struct manifest *manifest, struct error *err)
{
    int code = manifest->database ? sqlite3_errcode(manifest->database) : SQLITE_NOMEM;
    const char *text = manifest->database ? sqlite3_errmsg(manifest->database) : "out of memory";

    return error_set(err, is_damage(code) ? ERROR_INTEGRITY : ERROR_SYSTEM,
                     "could not read manifest \"%s\": %s", manifest->name, text);
}

static bool damaged(const struct manifest *manifest, struct error *err, const char *reason)
{
    return error_set(err, ERROR_INTEGRITY, "damaged manifest \"%s\": %s", manifest->name, reason);
}

/* A text column; NULL unless it is one without NUL bytes in it. Valid until the next step. */
static const char *column_text(sqlite3_stmt *statement, int column)
{
    if (sqlite3_column_type(statement, column) != SQLITE_TEXT)
        return NULL;
    const char *text = (const char *)sqlite3_column_text(statement, column);
    int length = sqlite3_column_bytes(statement, column);

    if (!text && sqlite3_errcode(sqlite3_db_handle(statement)) == SQLITE_NOMEM)
        mem_give_up("out of memory"); /* not to be taken for damage */
    return text && strlen(text) == (size_t)length ? text : NULL;
}

static bool column_number(sqlite3_stmt *statement, int column, int64_t minimum, int64_t maximum,
                          int64_t *number)
{
    *number = sqlite3_column_int64(statement, column);
    return sqlite3_column_type(statement, column) == SQLITE_INTEGER && *number >= minimum &&
           *number <= maximum;
}

static bool column_u32(sqlite3_stmt *statement, int column, uint32_t *value)
{
    int64_t number;
    bool ok = column_number(statement, column, 0, UINT32_MAX, &number);

    *value = (uint32_t)number;
    return ok;
}

static bool is_null(sqlite3_stmt *statement, int column)
{
    return sqlite3_column_type(statement, column) == SQLITE_NULL;
}

static bool decode_place(sqlite3_stmt *row, struct map_place *place)
{
    const char *run = column_text(row, MANIFEST_MAP_RUN);

    *place = (struct map_place){.item_offset = 0};
    if (is_null(row, MANIFEST_MAP_RUN)) {
        for (int column = MANIFEST_MAP_PACK; column < MANIFEST_COLUMNS; column++)
            if (!is_null(row, column))
                return false;
        return true;
    }
    return run && layout_parse_run(run, &place->frame.pack.run) &&
           column_u32(row, MANIFEST_MAP_PACK, &place->frame.pack.number) &&
           place->frame.pack.number > 0 &&
           column_u32(row, MANIFEST_MAP_FRAME_OFFSET, &place->frame.offset) &&
           column_u32(row, MANIFEST_MAP_FRAME_LENGTH, &place->frame.length) &&
           column_u32(row, MANIFEST_MAP_ITEM_OFFSET, &place->item_offset) &&
           column_u32(row, MANIFEST_MAP_ITEM_LENGTH, &place->item_length);
}

/* Types, and what a struct manifest_file cannot show; manifest_check_file looks at the rest. */
static bool decode_row(sqlite3_stmt *row, struct manifest_file *file)
{
    const char *kind = column_text(row, MANIFEST_KIND);
    int64_t size, mode;

    *file = (struct manifest_file){.path = column_text(row, MANIFEST_PATH)};
    if (!file->path || !kind || strlen(kind) != 1 ||
        !column_number(row, MANIFEST_SIZE, 0, INT64_MAX, &size) ||
        !column_number(row, MANIFEST_MODIFIED, INT64_MIN, INT64_MAX, &file->modified) ||
        !column_number(row, MANIFEST_MODE, 0, 07777, &mode))
        return false;
    file->kind = (enum manifest_kind)kind[0];
    file->size = (uint64_t)size;
    file->mode = (mode_t)mode;
    bool has_bytes = file->kind == MANIFEST_FILE || file->kind == MANIFEST_CONFIG;
    file->link = column_text(row, MANIFEST_LINK);
    return (has_bytes ? column_u32(row, MANIFEST_CRC32C, &file->crc32c)
                      : is_null(row, MANIFEST_CRC32C)) &&
           (file->link || is_null(row, MANIFEST_LINK)) && decode_place(row, &file->map);
}

bool manifest_each(struct manifest *manifest, enum manifest_order order, manifest_fn fn,
                   void *context, struct error *err)
{
    const char *by_path = "SELECT " COLUMNS " FROM file ORDER BY path";
    const char *by_map = "SELECT " COLUMNS " FROM file"
                         " ORDER BY map_run, map_pack, map_frame_offset, map_item_offset, path";
    sqlite3_stmt *rows;
    int status;
    bool ok = true;

    if (sqlite3_prepare_v2(manifest->database, order == MANIFEST_BY_MAP ? by_map : by_path, -1,
                           &rows, NULL) != SQLITE_OK)
        return fail(manifest, err);
    while (ok && (status = sqlite3_step(rows)) != SQLITE_DONE) {
        struct manifest_file file;

        if (status != SQLITE_ROW)
            ok = fail(manifest, err);
        else if (!decode_row(rows, &file))
            ok = damaged(manifest, err, "a row of table \"file\" has a value that cannot be");
        else if (!manifest_check_file(&file, err))
            ok = error_context(err, "damaged manifest \"%s\"", manifest->name);
        else
            ok = fn(&file, context, err);
    }
    sqlite3_finalize(rows);
    return ok;
}

struct ascent {
    const struct manifest *manifest;
    char path[MANIFEST_PATH_MAXIMUM + 1]; /* of the row before */
};

static bool check_ascent(const struct manifest_file *file, void *context, struct error *err)
{
    struct ascent *ascent = context;

    if (strcmp(ascent->path, file->path) >= 0)
        return damaged(ascent->manifest, err, "the rows of table \"file\" are out of order");
    memcpy(ascent->path, file->path, strlen(file->path) + 1);
    return true;
}

static bool check_rows(struct manifest *manifest, struct error *err)
{
    struct ascent ascent = {.manifest = manifest};

    return manifest_each(manifest, MANIFEST_BY_PATH, check_ascent, &ascent, err);
}

/* The first column of a PRAGMA's only row. */
static bool read_pragma(struct manifest *manifest, const char *pragma, int64_t *value,
                        struct error *err)
{
    sqlite3_stmt *statement;

    if (sqlite3_prepare_v2(manifest->database, pragma, -1, &statement, NULL) != SQLITE_OK)
        return fail(manifest, err);
    bool ok = sqlite3_step(statement) == SQLITE_ROW || fail(manifest, err);
    *value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return ok;
}

static bool check_marks(struct manifest *manifest, struct error *err)
{
    int64_t application, version;

    if (!read_pragma(manifest, "PRAGMA application_id", &application, err) ||
        !read_pragma(manifest, "PRAGMA user_version", &version, err))
        return false;
    if (application != MANIFEST_APPLICATION_ID)
        return damaged(manifest, err, "the SQLite database is not a manifest of pgvigil");
    if (version == MANIFEST_FORMAT)
        return true;
    error_set(err, ERROR_INTEGRITY, "manifest \"%s\" is of format %lld instead of %d",
              manifest->name, (long long)version, MANIFEST_FORMAT);
    return error_hint(err, "a newer pgvigil may have written this backup: upgrade this one");
}

/* The schema's rows are sorted by name; every one must be as it was made. */
static bool check_schema(struct manifest *manifest, struct error *err)
{
    static const char *const expected[][4] = {{"table", "file", "file", MANIFEST_CREATE_FILE},
                                              {"table", "meta", "meta", MANIFEST_CREATE_META}};
    const size_t expected_count = sizeof(expected) / sizeof(expected[0]);
    sqlite3_stmt *rows;
    size_t count = 0;
    int status;
    bool same = true;

    if (sqlite3_prepare_v2(manifest->database,
                           "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY name", -1,
                           &rows, NULL) != SQLITE_OK)
        return fail(manifest, err);
    while (same && (status = sqlite3_step(rows)) == SQLITE_ROW) {
        for (int i = 0; same && i < 4; i++) {
            const char *text = column_text(rows, i);
            same = count < expected_count && text && strcmp(text, expected[count][i]) == 0;
        }
        count++;
    }
    bool ok = !same || status == SQLITE_DONE;
    if (!ok)
        fail(manifest, err);
    sqlite3_finalize(rows);
    if (ok && (!same || count != expected_count))
        return damaged(manifest, err, "its tables are not those of a manifest");
    return ok;
}

/* Takes one value of table meta; false when there is no such key or it cannot be that. */
static bool take_meta(struct manifest_meta *meta, const char *key, const char *value)
{
    if (strcmp(key, "backup_label") == 0) {
        meta->backup_label = mem_strdup(value);
        return true;
    }
    if (strcmp(key, "tablespace_map") == 0) {
        meta->tablespace_map = mem_strdup(value);
        return true;
    }
    if (strcmp(key, "digest_secret") == 0)
        return strlen(value) == (size_t)2 * DIGEST_SECRET_SIZE &&
               digest_from_hex(value, meta->secret, DIGEST_SECRET_SIZE);
    if (strcmp(key, "format") == 0)
        return strcmp(value, "1") == 0;
    if (strcmp(key, "run") == 0)
        return layout_parse_run(value, &meta->run);
    if (strcmp(key, "system_identifier") != 0)
        return false;
    meta->system_identifier = strtoull(value, NULL, 10);
    return strlen(value) > 0 && strlen(value) <= 20 && strspn(value, "0123456789") == strlen(value);
}

static bool read_meta(struct manifest *manifest, struct error *err)
{
    static const char *const keys[] = {"backup_label", "digest_secret",     "format",
                                       "run",          "system_identifier", "tablespace_map"};
    const size_t key_count = sizeof(keys) / sizeof(keys[0]);
    sqlite3_stmt *rows;
    size_t count = 0;
    int status;
    bool good = true;

    if (sqlite3_prepare_v2(manifest->database, "SELECT key, value FROM meta ORDER BY key", -1,
                           &rows, NULL) != SQLITE_OK)
        return fail(manifest, err);
    while (good && (status = sqlite3_step(rows)) == SQLITE_ROW) {
        const char *key = column_text(rows, 0), *value = column_text(rows, 1);

        good = count < key_count && key && value && strcmp(key, keys[count]) == 0 &&
               take_meta(&manifest->meta, key, value);
        count++;
    }
    bool ok = !good || status == SQLITE_DONE || fail(manifest, err);
    sqlite3_finalize(rows);
    if (ok && (!good || count != key_count))
        return damaged(manifest, err, "table \"meta\" has not the values that it should have");
    return ok;
}

static void set_limits(sqlite3 *database)
{
    static const struct {
        int what, limit;
    } limits[] = {
        {SQLITE_LIMIT_LENGTH, MANIFEST_TEXT_MAXIMUM},
        {SQLITE_LIMIT_SQL_LENGTH, 4096},
        {SQLITE_LIMIT_COLUMN, 32},
        {SQLITE_LIMIT_EXPR_DEPTH, 16},
        {SQLITE_LIMIT_COMPOUND_SELECT, 2},
        {SQLITE_LIMIT_VDBE_OP, 4096},
        {SQLITE_LIMIT_FUNCTION_ARG, 8},
        {SQLITE_LIMIT_ATTACHED, 0},
        {SQLITE_LIMIT_VARIABLE_NUMBER, 8},
        {SQLITE_LIMIT_TRIGGER_DEPTH, 1},
        {SQLITE_LIMIT_WORKER_THREADS, 0},
    };

    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
        sqlite3_limit(database, limits[i].what, limits[i].limit);
}

static bool open_database(struct manifest *manifest, const char *path, struct error *err)
{
    int flags = SQLITE_OPEN_READONLY | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_NOMUTEX |
                SQLITE_OPEN_PRIVATECACHE;

    if (sqlite3_open_v2(path, &manifest->database, flags, NULL) != SQLITE_OK)
        return fail(manifest, err);
    set_limits(manifest->database);
    sqlite3_db_config(manifest->database, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(manifest->database, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(manifest->database, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    sqlite3_db_config(manifest->database, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    if (sqlite3_exec(manifest->database,
                     "PRAGMA cell_size_check = ON;"
                     "PRAGMA mmap_size = 0;"
                     "PRAGMA query_only = ON;"
                     "PRAGMA cache_size = -32768;",
                     NULL, NULL, NULL) != SQLITE_OK)
        return fail(manifest, err);
    return true;
}

/* A database in WAL mode would make SQLite look for, and want to make, files beside it. */
static bool check_header(struct manifest *manifest, int fd, struct error *err)
{
    unsigned char header[HEADER_SIZE];
    size_t got;

    if (lseek(fd, 0, SEEK_SET) != 0)
        return error_set_errno(err, "could not seek in file \"%s\"", manifest->name);
    if (!files_read_fd(fd, manifest->name, header, sizeof(header), &got, err))
        return false;
    if (got < sizeof(header) || memcmp(header, "SQLite format 3", 16) != 0 ||
        header[HEADER_WRITE_VERSION] != 1 || header[HEADER_READ_VERSION] != 1)
        return damaged(manifest, err, "not a SQLite database as pgvigil makes it");
    return true;
}

static bool check_all(struct manifest *manifest, struct error *err)
{
    return check_marks(manifest, err) && check_schema(manifest, err) && read_meta(manifest, err) &&
           check_rows(manifest, err);
}

static struct manifest *manifest_new(const char *name)
{
    struct manifest *manifest = mem_calloc(1, sizeof(*manifest));

    manifest->name = mem_strdup(name);
    return manifest;
}

void manifest_free(struct manifest *manifest)
{
    if (!manifest)
        return;
    sqlite3_close(manifest->database);
    free(manifest->meta.backup_label);
    free(manifest->meta.tablespace_map);
    free(manifest->name);
    free(manifest);
}

const struct manifest_meta *manifest_meta(const struct manifest *manifest)
{
    return &manifest->meta;
}

bool manifest_open_file(const char *path, struct manifest **manifest, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0)
        return error_set_errno(err, "could not open file \"%s\"", path);
    struct manifest *made = manifest_new(path);
    bool ok = check_header(made, fd, err) && open_database(made, path, err);
    close(fd);
    if (!ok || !check_all(made, err)) {
        manifest_free(made);
        return false;
    }
    *manifest = made;
    return true;
}

struct copy {
    int fd;
    const char *path;
};

static bool copy_sink(const void *data, size_t length, void *context, struct error *err)
{
    struct copy *copy = context;

    return files_write_fd(copy->fd, copy->path, data, length, err);
}

static uint64_t raw_maximum(const struct trailer *trailer)
{
    if (trailer->stored_length > (RAW_MAXIMUM - RAW_SLACK) / RAW_RATIO)
        return RAW_MAXIMUM;
    return RAW_SLACK + trailer->stored_length * RAW_RATIO;
}

/* The object that is wanted, and where it goes. */
struct wanted {
    const char *name;
    const unsigned char *sha256;
    struct copy copy;
};

static bool fetch_bytes(struct repository *repository, void *context, struct error *err)
{
    struct wanted *wanted = context;
    struct trailer trailer;

    if (ftruncate(wanted->copy.fd, 0) != 0 || lseek(wanted->copy.fd, 0, SEEK_SET) != 0)
        return error_set_errno(err, "could not truncate file \"%s\"", wanted->copy.path);
    if (!object_trailer(repository, wanted->name, TRAILER_MANIFEST, &trailer, err) ||
        !object_get(repository, wanted->name, TRAILER_MANIFEST, OBJECT_ZSTD, raw_maximum(&trailer),
                    copy_sink, &wanted->copy, &trailer, err)) {
        if (err->code == ERROR_NOT_FOUND)
            err->code = ERROR_INTEGRITY; /* a committed backup needs it */
        return false;
    }
    if (memcmp(trailer.stored_sha256, wanted->sha256, DIGEST_SHA256_SIZE) != 0)
        return error_set(err, ERROR_INTEGRITY,
                         "\"%s\" in repository \"%s\" is not the one that the backup was made with",
                         wanted->name, repository->name);
    return true;
}

bool manifest_fetch(struct repository *repository, int64_t run,
                    const unsigned char sha256[DIGEST_SHA256_SIZE], const char *directory,
                    struct manifest **manifest, struct error *err)
{
    char name[LAYOUT_NAME_SIZE];
    char *path;
    int fd;

    layout_manifest(run, name);
    if (!manifest_temporary(directory, &path, &fd, err))
        return false;
    struct manifest *made = manifest_new(name);
    struct wanted wanted = {.name = name, .sha256 = sha256, .copy = {.fd = fd, .path = path}};
    bool ok = repository_ask(repository, fetch_bytes, &wanted, err) &&
              check_header(made, fd, err) && open_database(made, path, err);
    close(fd);
    if (unlink(path) != 0 && ok)
        ok = error_set_errno(err, "could not remove file \"%s\"", path);
    free(path);
    ok = ok && check_all(made, err);
    /* Who cannot read it may still have put an earlier one in its place, all digests outside right. */
    if (ok &&
        (made->meta.run != run || made->meta.system_identifier != repository->system_identifier))
        ok = damaged(made, err, "it is another backup's");
    if (!ok) {
        manifest_free(made);
        return false;
    }
    *manifest = made;
    return true;
}
