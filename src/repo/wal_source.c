/* wal_source.c - a WAL file on its way into the archive */
#include "repo/wal_source.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/buffer.h"
#include "pgvigil/clock.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"

#define CHUNK ((size_t)1024 * 1024)

enum trailer_kind wal_source_kind(enum wal_file_kind kind)
{
    switch (kind) {
    case WAL_PARTIAL:
        return TRAILER_PARTIAL;
    case WAL_BACKUP_HISTORY:
        return TRAILER_BACKUP_HISTORY;
    case WAL_HISTORY:
        return TRAILER_HISTORY;
    case WAL_SEGMENT:
    case WAL_NOT_A_WAL_FILE:
        break;
    }
    return TRAILER_WAL;
}

static bool source_changed(const struct wal_source *source, struct error *err)
{
    return error_set(err, ERROR_INTEGRITY,
                     "file \"%s\" changed while it was read: it no longer has %" PRIu64 " bytes",
                     source->path, source->length);
}

static bool source_check_deadline(const struct wal_source *source, struct error *err)
{
    if (source->deadline == 0 || clock_monotonic() < source->deadline)
        return true;
    error_set(err, ERROR_TIMEOUT, "could not archive \"%s\" in time", source->path);
    return error_hint(err, "PostgreSQL tries again; if the repository is always that slow, raise "
                           "\"timeout\" in section [archive]");
}

/* Past the page cache: the server is done with the file, and nobody will read it again soon. */
static bool source_read_at(const struct wal_source *source, void *data, size_t length,
                           uint64_t offset, struct error *err)
{
    size_t got;

    if (!files_pread_uncached(source->fd, source->path, data, length, offset, &got, err))
        return false;
    return got == length || source_changed(source, err);
}

/* Nothing behind its end either. */
static bool source_check_end(const struct wal_source *source, struct error *err)
{
    unsigned char byte;
    size_t got;

    if (!files_pread_uncached(source->fd, source->path, &byte, 1, source->length, &got, err))
        return false;
    return got == 0 || source_changed(source, err);
}

bool wal_source_read(const struct wal_source *source, store_sink sink, void *context,
                     struct error *err)
{
    unsigned char *chunk = mem_alloc(CHUNK);
    uint64_t offset = 0;
    bool ok = true;

    while (ok && offset < source->length) {
        uint64_t left = source->length - offset;
        size_t length = left < CHUNK ? (size_t)left : CHUNK;
        ok = source_check_deadline(source, err) &&
             source_read_at(source, chunk, length, offset, err) &&
             sink(chunk, length, context, err);
        offset += length;
    }
    free(chunk);
    return ok && source_check_end(source, err) && source_check_deadline(source, err);
}

static bool source_add(const void *data, size_t length, void *context, struct error *err)
{
    (void)err;
    digest_sha256_update(context, data, length);
    return true;
}

bool wal_source_digest(const struct wal_source *source, unsigned char sha256[DIGEST_SHA256_SIZE],
                       struct error *err)
{
    struct digest_sha256 *digest = digest_sha256_new();
    bool ok = wal_source_read(source, source_add, digest, err);

    if (ok)
        digest_sha256_finish(digest, sha256);
    digest_sha256_free(digest);
    return ok;
}

static bool source_is_zero(const unsigned char *bytes, size_t length)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0;
}

/* The mistake worth a message of its own: two clusters into one archive. */
static bool source_check_cluster(const struct wal_source *source, const unsigned char *page,
                                 uint64_t system_identifier, struct error *err)
{
    struct wal_page_header header;

    if (!wal_parse_page_header(page, &header, err))
        return error_context(err, "WAL segment \"%s\" cannot be archived", source->file);
    if (!(header.info & WAL_PAGE_LONG_HEADER) || header.system_identifier == system_identifier)
        return true;
    error_set(err, ERROR_INTEGRITY,
              "WAL segment \"%s\" belongs to another cluster (system identifier %" PRIu64
              ", expected %" PRIu64 ")",
              source->file, header.system_identifier, system_identifier);
    return error_hint(err, "was the data directory replaced or initialised anew, or is this the "
                           "configuration of another cluster?");
}

static bool source_check_segment(const struct wal_source *source, uint64_t system_identifier,
                                 struct error *err)
{
    unsigned char page[WAL_PAGE_SIZE];

    if (!wal_segment_size_valid(source->length)) {
        error_set(err, ERROR_INTEGRITY,
                  "WAL segment \"%s\" cannot be archived: it has %" PRIu64 " "
                  "bytes, which is no size of a segment",
                  source->file, source->length);
        return error_hint(err, "a segment has 1 MB to 1 GB, a power of two; the file may have been "
                               "cut off");
    }
    if (!source_read_at(source, page, sizeof(page), 0, err))
        return false;
    if (source_is_zero(page, sizeof(page)))
        return error_set(err, ERROR_INTEGRITY,
                         "WAL segment \"%s\" cannot be archived: it begins with zeros, no WAL was "
                         "ever written to it",
                         source->file);
    if (!source_check_cluster(source, page, system_identifier, err))
        return false;
    return wal_check_segment(&source->name, source->length, page, system_identifier, err) ||
           error_context(err, "WAL segment \"%s\" cannot be archived", source->file);
}

/* Reads a small file whole. */
static bool source_read_text(const struct wal_source *source, size_t maximum, struct buffer *text,
                             struct error *err)
{
    if (source->length == 0 || source->length > maximum)
        return error_set(err, ERROR_INTEGRITY,
                         "file \"%s\" cannot be archived: it has %" PRIu64
                         " bytes, expected are 1 to %zu",
                         source->file, source->length, maximum);
    buffer_reserve(text, (size_t)source->length);
    if (!source_read_at(source, text->data, (size_t)source->length, 0, err))
        return false;
    text->length = (size_t)source->length;
    return source_check_end(source, err);
}

static bool source_check_history(const struct wal_source *source, struct error *err)
{
    struct buffer text = BUFFER_INIT;
    struct history history;
    bool ok = source_read_text(source, WAL_SOURCE_HISTORY_MAXIMUM, &text, err);

    if (ok) {
        ok = history_parse(source->name.timeline, (const char *)text.data, text.length, &history,
                           err);
        if (ok)
            history_free(&history);
        else
            error_context(err, "file \"%s\" cannot be archived", source->file);
    }
    buffer_free(&text);
    return ok;
}

/* What do_pg_backup_stop in src/backend/access/transam/xlog.c writes: lines of text, of which the
 * label may be in any encoding. */
static bool source_is_backup_history(const struct buffer *text)
{
    static const char start[] = "START WAL LOCATION: ";

    if (text->length < sizeof(start) || memcmp(text->data, start, sizeof(start) - 1) != 0)
        return false;
    return memchr(text->data, '\0', text->length) == NULL;
}

static bool source_check_backup_history(const struct wal_source *source, struct error *err)
{
    struct buffer text = BUFFER_INIT;
    bool ok = source_read_text(source, WAL_SOURCE_BACKUP_HISTORY_MAXIMUM, &text, err);

    if (ok && !source_is_backup_history(&text))
        ok = error_set(err, ERROR_INTEGRITY,
                       "file \"%s\" cannot be archived: it is not what PostgreSQL writes at the "
                       "end of a backup",
                       source->file);
    buffer_free(&text);
    return ok;
}

bool wal_source_check(const struct wal_source *source, uint64_t system_identifier,
                      struct error *err)
{
    switch (source->name.kind) {
    case WAL_SEGMENT:
    case WAL_PARTIAL:
        return source_check_segment(source, system_identifier, err);
    case WAL_HISTORY:
        return source_check_history(source, err);
    case WAL_BACKUP_HISTORY:
        return source_check_backup_history(source, err);
    case WAL_NOT_A_WAL_FILE:
        break;
    }
    return error_set(err, ERROR_USAGE, "\"%s\" is not the name of a WAL file", source->file);
}
