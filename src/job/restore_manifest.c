/*
 * restore_manifest.c - writing backup_manifest
 */
#include "job/restore_manifest.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "pgvigil/bytes.h"
#include "pgvigil/clock.h"
#include "pgvigil/control.h"
#include "pgvigil/digest.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "pgvigil/version.h"
#include "pgvigil/wal.h"

#define MANIFEST_PATH "backup_manifest"
#define CHUNK_BYTES ((size_t)64 * 1024)

struct writing {
    int fd;
    struct buffer text;
    struct digest_sha256 *digest;
    size_t count; /* of files so far */
};

static bool flush(struct writing *writing, struct error *err)
{
    const bool ok =
        files_write_fd(writing->fd, MANIFEST_PATH, writing->text.data, writing->text.length, err);

    digest_sha256_update(writing->digest, writing->text.data, writing->text.length);
    buffer_clear(&writing->text);
    return ok;
}

/* Names that JSON would have to escape, or that may be no UTF-8, are given in hexadecimal. */
static void append_path(struct buffer *text, const char *path)
{
    bool plain = true;

    for (const char *at = path; *at; at++)
        plain = plain && *at >= ' ' && *at <= '~' && *at != '"' && *at != '\\';
    if (plain) {
        buffer_append_format(text, "\"Path\": \"%s\"", path);
        return;
    }
    buffer_append_string(text, "\"Encoded-Path\": \"");
    for (const char *at = path; *at; at++)
        buffer_append_format(text, "%02x", (unsigned)(unsigned char)*at);
    buffer_append_string(text, "\"");
}

static bool append_file(struct writing *writing, const char *path, uint64_t size, int64_t modified,
                        uint32_t crc, struct error *err)
{
    struct buffer *text = &writing->text;
    const time_t seconds = (time_t)(modified / CLOCK_SECOND);
    char time[64] = "1970-01-01 00:00:00", hex[9];
    unsigned char bytes[4];
    struct tm tm;

    if (gmtime_r(&seconds, &tm) != NULL)
        strftime(time, sizeof time, "%Y-%m-%d %H:%M:%S", &tm);
    /* The server gives the bytes as they lie in memory. */
    bytes_put_u32(bytes, crc);
    buffer_append_string(text, writing->count++ == 0 ? "\n{ " : ",\n{ ");
    append_path(text, path);
    buffer_append_format(text,
                         ", \"Size\": %" PRIu64 ", \"Last-Modified\": \"%s GMT\","
                         " \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"%s\" }",
                         size, time, digest_to_hex(bytes, sizeof bytes, hex));
    return text->length < CHUNK_BYTES || flush(writing, err);
}

/* What pg_verifybackup passes over, too. */
static bool is_listed(const char *path)
{
    return strncmp(path, "pg_wal/", strlen("pg_wal/")) != 0 &&
           strcmp(path, "postgresql.auto.conf") != 0;
}

static bool append_files(struct writing *writing, const struct restore_plan *plan,
                         const struct restore_manifest_files *others, struct error *err)
{
    for (size_t i = 0; i < plan->file_count; i++) {
        const struct restore_plan_file *file = &plan->files[i];
        const char *path =
            strcmp(file->path, RESTORE_TREE_CONTROL) == 0 ? CONTROL_PATH : file->path;

        if (is_listed(path) &&
            !append_file(writing, path, file->size, file->modified, file->crc32c, err))
            return false;
    }
    for (size_t i = 0; i < others->count; i++)
        if (!append_file(writing, others->files[i].path, others->files[i].size, clock_now(),
                         others->files[i].crc32c, err))
            return false;
    return true;
}

static bool write_text(struct writing *writing, const struct restore_plan *plan,
                       const struct restore_manifest_files *others,
                       const struct backup_info *backup, struct error *err)
{
    const int version = version_manifest(backup->version_num / 10000);
    char start[WAL_LSN_TEXT_SIZE], stop[WAL_LSN_TEXT_SIZE], hex[DIGEST_SHA256_HEX_SIZE];
    unsigned char sha256[DIGEST_SHA256_SIZE];

    buffer_append_format(&writing->text, "{ \"PostgreSQL-Backup-Manifest-Version\": %d,\n",
                         version);
    if (version >= 2)
        buffer_append_format(&writing->text, "\"System-Identifier\": %" PRIu64 ",\n",
                             backup->system_identifier);
    buffer_append_string(&writing->text, "\"Files\": [");
    if (!append_files(writing, plan, others, err))
        return false;
    buffer_append_format(&writing->text,
                         "\n],\n\"WAL-Ranges\": [\n{ \"Timeline\": %" PRIu32
                         ", \"Start-LSN\": \"%s\", \"End-LSN\": \"%s\" }\n],\n",
                         backup->timeline, wal_format_lsn(backup->start_lsn, start),
                         wal_format_lsn(backup->stop_lsn, stop));
    if (!flush(writing, err))
        return false;
    /* The checksum is that of all lines before its own. */
    digest_sha256_finish(writing->digest, sha256);
    buffer_append_format(&writing->text, "\"Manifest-Checksum\": \"%s\"}\n",
                         digest_to_hex(sha256, sizeof sha256, hex));
    return flush(writing, err);
}

bool restore_manifest_write(struct restore_tree *tree, const struct restore_plan *plan,
                            const struct restore_manifest_files *others,
                            const struct backup_info *backup, struct error *err)
{
    struct writing writing = {.fd = -1};
    uint64_t kept; /* none: the plan has no such file */
    bool ok;

    if (!restore_tree_make_file(tree, MANIFEST_PATH, 0, &kept, err) ||
        !restore_tree_open(tree, MANIFEST_PATH, &writing.fd, err))
        return false;
    writing.digest = digest_sha256_new();
    ok = write_text(&writing, plan, others, backup, err);
    digest_sha256_free(writing.digest);
    buffer_free(&writing.text);
    close(writing.fd);
    return ok;
}
