/* verify_memory.c - what this host has read of which repository, and when */
#include "job/verify_memory.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgvigil/clock.h"
#include "pgvigil/files.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"

#define FORMAT 1
#define FLUSH_ROWS 4096                 /* so much may have to be read again after a crash, */
#define FLUSH_EVERY (10 * CLOCK_SECOND) /* or what was read in so long */

struct verify_memory {
    char *path;
    sqlite3 *database;
    sqlite3_stmt *note;
    sqlite3_stmt *forget;
    sqlite3_stmt *doubt;
    size_t waiting; /* rows written since the last flush */
    int64_t flushed;
};

static bool fail(const struct verify_memory *memory, struct error *err)
{
    return error_set(err, ERROR_SYSTEM, "could not use \"%s\": %s", memory->path,
                     memory->database ? sqlite3_errmsg(memory->database) : "out of memory");
}

static bool execute(struct verify_memory *memory, const char *sql, struct error *err)
{
    return sqlite3_exec(memory->database, sql, NULL, NULL, NULL) == SQLITE_OK || fail(memory, err);
}

static bool prepare(struct verify_memory *memory, const char *sql, sqlite3_stmt **statement,
                    struct error *err)
{
    return sqlite3_prepare_v3(memory->database, sql, -1, SQLITE_PREPARE_PERSISTENT, statement,
                              NULL) == SQLITE_OK ||
           fail(memory, err);
}

/* What a statement of one row says, as a number; -1 when it cannot be told. */
static int64_t ask(struct verify_memory *memory, const char *sql)
{
    sqlite3_stmt *statement;
    int64_t answer = -1;

    if (sqlite3_prepare_v2(memory->database, sql, -1, &statement, NULL) != SQLITE_OK)
        return -1;
    if (sqlite3_step(statement) == SQLITE_ROW)
        answer = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return answer;
}

/* Whole, and of this form; or empty, that is, just made. pragma_quick_check has no argument, as
 * SQLite 3.46 takes a number there for the name of a table. */
static bool is_sound(struct verify_memory *memory)
{
    const int64_t version = ask(memory, "PRAGMA user_version");

    return ask(memory, "SELECT quick_check = 'ok' FROM pragma_quick_check") == 1 &&
           (version == FORMAT ||
            (version == 0 && ask(memory, "SELECT count(*) FROM sqlite_schema") == 0));
}

static bool set_up(struct verify_memory *memory, struct error *err)
{
    return execute(memory,
                   "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -8192;"
                   "CREATE TABLE IF NOT EXISTS checked(repository TEXT NOT NULL, object TEXT NOT "
                   "NULL, size INTEGER NOT NULL, sha256 BLOB NOT NULL, at INTEGER NOT NULL, "
                   "PRIMARY KEY(repository, object)) STRICT, WITHOUT ROWID;"
                   "PRAGMA user_version = 1;"
                   "BEGIN",
                   err) &&
           prepare(memory, "INSERT OR REPLACE INTO checked VALUES(?1, ?2 || ?3, ?4, ?5, ?6)",
                   &memory->note, err) &&
           prepare(memory, "DELETE FROM checked WHERE repository = ?1 AND object = ?2 || ?3",
                   &memory->forget, err) &&
           prepare(memory, "UPDATE checked SET at = 0 WHERE repository = ?1 AND object = ?2 || ?3",
                   &memory->doubt, err);
}

static void close_database(struct verify_memory *memory)
{
    sqlite3_finalize(memory->note);
    sqlite3_finalize(memory->forget);
    sqlite3_finalize(memory->doubt);
    sqlite3_close(memory->database);
    memory->note = memory->forget = memory->doubt = NULL;
    memory->database = NULL;
}

/* The caller frees it. */
static char *journal_of(const struct verify_memory *memory)
{
    return mem_printf("%s-journal", memory->path);
}

static bool is_other_than_file(const char *path)
{
    struct stat info;

    return lstat(path, &info) == 0 && !S_ISREG(info.st_mode);
}

/* SQLite would wait for whoever writes into a FIFO. */
static bool check_files(const struct verify_memory *memory, struct error *err)
{
    char *journal = journal_of(memory);
    const char *other = is_other_than_file(memory->path) ? memory->path
                        : is_other_than_file(journal)    ? journal
                                                         : NULL;

    if (other != NULL)
        error_set(err, ERROR_SYSTEM, "could not use \"%s\": it is not a regular file", other);
    free(journal);
    return other == NULL;
}

static bool open_database(struct verify_memory *memory, struct error *err)
{
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOFOLLOW |
                      SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;

    if (!check_files(memory, err))
        return false;
    if (sqlite3_open_v2(memory->path, &memory->database, flags, NULL) != SQLITE_OK)
        return fail(memory, err);
    sqlite3_db_config(memory->database, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(memory->database, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    if (!is_sound(memory))
        return error_set(err, ERROR_INTEGRITY, "\"%s\" is damaged", memory->path);
    return set_up(memory, err);
}

/* With its journal, which would be played into the next one. */
static void throw_away(const struct verify_memory *memory)
{
    char *journal = journal_of(memory);

    unlink(memory->path);
    unlink(journal);
    free(journal);
}

bool verify_memory_open(const char *state_dir, struct verify_memory **memory, struct error *err)
{
    struct verify_memory *made = mem_calloc(1, sizeof *made);
    bool ok;

    made->path = files_join(state_dir, "verify.sqlite");
    made->flushed = clock_monotonic();
    ok = files_make_directories(state_dir, err) && open_database(made, err);
    if (!ok) {
        log_warning("%s; what had been verified is forgotten, and read again", err->message);
        error_clear(err);
        close_database(made);
        throw_away(made);
        ok = open_database(made, err);
    }
    if (!ok) {
        verify_memory_close(made);
        return false;
    }
    *memory = made;
    return true;
}

void verify_memory_close(struct verify_memory *memory)
{
    if (memory == NULL)
        return;
    close_database(memory);
    free(memory->path);
    free(memory);
}

static bool take_row(sqlite3_stmt *rows, size_t prefix, struct verify_memory_row *row)
{
    const char *object = (const char *)sqlite3_column_text(rows, 0);
    const void *sha256 = sqlite3_column_blob(rows, 2);

    if (object == NULL || strlen(object) < prefix || sha256 == NULL ||
        sqlite3_column_bytes(rows, 2) != DIGEST_SHA256_SIZE)
        return false;
    row->object = object + prefix;
    row->size = (uint64_t)sqlite3_column_int64(rows, 1);
    memcpy(row->sha256, sha256, DIGEST_SHA256_SIZE);
    row->checked = sqlite3_column_int64(rows, 3);
    return true;
}

bool verify_memory_each(struct verify_memory *memory, const char *repository, const char *prefix,
                        verify_memory_fn fn, void *context, struct error *err)
{
    const size_t length = strlen(prefix);
    char *after = mem_strdup(prefix);
    struct verify_memory_row row;
    sqlite3_stmt *rows;
    int status = SQLITE_ERROR;

    /* Names below "a/" lie before "a0", as '0' comes behind '/'. */
    after[length - 1] = '0';
    if (prepare(memory,
                "SELECT object, size, sha256, at FROM checked WHERE repository = ?1 AND object > "
                "?2 AND object < ?3 ORDER BY object",
                &rows, err)) {
        sqlite3_bind_text(rows, 1, repository, -1, SQLITE_STATIC);
        sqlite3_bind_text(rows, 2, prefix, -1, SQLITE_STATIC);
        sqlite3_bind_text(rows, 3, after, -1, SQLITE_STATIC);
        while ((status = sqlite3_step(rows)) == SQLITE_ROW)
            if (take_row(rows, length, &row))
                fn(&row, context);
        if (status != SQLITE_DONE)
            fail(memory, err);
        sqlite3_finalize(rows);
    }
    free(after);
    return status == SQLITE_DONE;
}

static bool finish(struct verify_memory *memory, sqlite3_stmt *statement, struct error *err)
{
    const bool ok = sqlite3_step(statement) == SQLITE_DONE || fail(memory, err);

    sqlite3_reset(statement);
    if (!ok)
        return false;
    return (++memory->waiting < FLUSH_ROWS && clock_monotonic() - memory->flushed < FLUSH_EVERY) ||
           verify_memory_flush(memory, err);
}

static void bind_name(sqlite3_stmt *statement, const char *repository, const char *prefix,
                      const char *object)
{
    sqlite3_bind_text(statement, 1, repository, -1, SQLITE_STATIC);
    sqlite3_bind_text(statement, 2, prefix, -1, SQLITE_STATIC);
    sqlite3_bind_text(statement, 3, object, -1, SQLITE_STATIC);
}

bool verify_memory_note(struct verify_memory *memory, const char *repository, const char *prefix,
                        const struct verify_memory_row *row, struct error *err)
{
    bind_name(memory->note, repository, prefix, row->object);
    sqlite3_bind_int64(memory->note, 4, (sqlite3_int64)row->size);
    sqlite3_bind_blob(memory->note, 5, row->sha256, DIGEST_SHA256_SIZE, SQLITE_STATIC);
    sqlite3_bind_int64(memory->note, 6, row->checked);
    return finish(memory, memory->note, err);
}

bool verify_memory_forget(struct verify_memory *memory, const char *repository, const char *prefix,
                          const char *object, struct error *err)
{
    bind_name(memory->forget, repository, prefix, object);
    return finish(memory, memory->forget, err);
}

bool verify_memory_doubt(struct verify_memory *memory, const char *repository, const char *prefix,
                         const char *object, struct error *err)
{
    bind_name(memory->doubt, repository, prefix, object);
    return finish(memory, memory->doubt, err);
}

bool verify_memory_flush(struct verify_memory *memory, struct error *err)
{
    memory->waiting = 0;
    memory->flushed = clock_monotonic();
    return execute(memory, "COMMIT; BEGIN", err);
}
