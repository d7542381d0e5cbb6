/*
 * control.c - global/pg_control
 */
#include "pgvigil/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgvigil/bytes.h"
#include "pgvigil/clock.h"
#include "pgvigil/crc32c.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "pgvigil/version.h"
#include "pgvigil/wal.h"

#define READ_AGAIN_FOR CLOCK_SECOND
#define READ_AGAIN_AFTER (CLOCK_SECOND / 100)

/* Where struct ControlFileData has its fields; the same in all supported versions but for the CRC.
 * */
enum {
    AT_SYSTEM_IDENTIFIER = 0,
    AT_CONTROL_VERSION = 8,
    AT_CATALOG_VERSION = 12,
    AT_STATE = 16,
    AT_CHECKPOINT = 32,
    AT_REDO = 40,
    AT_TIMELINE = 48,
    AT_CHECKPOINT_TIME = 104,
    AT_MINIMUM_RECOVERY_TIMELINE = 144,
    AT_MAX_CONNECTIONS = 180,
    AT_MAX_WORKER_PROCESSES = 184,
    AT_MAX_WAL_SENDERS = 188,
    AT_MAX_PREPARED_XACTS = 192,
    AT_MAX_LOCKS_PER_XACT = 196,
    AT_BLOCK_SIZE = 216,
    AT_RELATION_SEGMENT_BLOCKS = 220,
    AT_WAL_BLOCK_SIZE = 224,
    AT_WAL_SEGMENT_SIZE = 228,
    AT_CHECKSUM_VERSION = 252
};

/* PG_CONTROL_VERSION and the offset of the CRC, which is the last field. */
static const struct {
    uint32_t version;
    size_t crc_at;
} layouts[] = {
    {1300, 288}, /* 13 to 16 */
    {1700, 288},
    {1800, 292}, /* default_char_signedness came in before the nonce */
};

/* CATALOG_VERSION_NO of the released versions. */
static const struct {
    uint32_t catalog_version;
    int major;
} catalogs[] = {
    {202209061, 15},
    {202307071, 16},
    {202406281, 17},
    {202506291, 18},
};

static bool find_crc(uint32_t version, size_t *crc_at)
{
    for (size_t i = 0; i < sizeof layouts / sizeof layouts[0]; i++) {
        if (layouts[i].version == version) {
            *crc_at = layouts[i].crc_at;
            return true;
        }
    }
    return false;
}

static bool unknown_version(uint32_t version, struct error *err)
{
    if (version != 0 && version % 65536 == 0) {
        return error_set(err, ERROR_INTEGRITY,
                         "pg_control has the byte order of another processor architecture");
    }
    error_set(err, ERROR_INTEGRITY, "pg_control has the unknown version %u", version);
    return error_hint(err, "pgvigil supports PostgreSQL %d to %d", VERSION_MINIMUM,
                      VERSION_MAXIMUM);
}

static int major_of_catalog(uint32_t catalog_version)
{
    for (size_t i = 0; i < sizeof catalogs / sizeof catalogs[0]; i++) {
        if (catalogs[i].catalog_version == catalog_version) {
            return catalogs[i].major;
        }
    }
    return 0;
}

static void read_fields(const unsigned char *b, struct control *control)
{
    uint64_t seconds = bytes_get_u64(b + AT_CHECKPOINT_TIME);

    *control = (struct control){
        .system_identifier = bytes_get_u64(b + AT_SYSTEM_IDENTIFIER),
        .control_version = bytes_get_u32(b + AT_CONTROL_VERSION),
        .catalog_version = bytes_get_u32(b + AT_CATALOG_VERSION),
        .state = bytes_get_u32(b + AT_STATE),
        .checkpoint_lsn = bytes_get_u64(b + AT_CHECKPOINT),
        .redo_lsn = bytes_get_u64(b + AT_REDO),
        .timeline = bytes_get_u32(b + AT_TIMELINE),
        .minimum_recovery_timeline = bytes_get_u32(b + AT_MINIMUM_RECOVERY_TIMELINE),
        .checkpoint_time = (int64_t)(seconds * (uint64_t)CLOCK_SECOND),
        .wal_segment_size = bytes_get_u32(b + AT_WAL_SEGMENT_SIZE),
        .block_size = bytes_get_u32(b + AT_BLOCK_SIZE),
        .wal_block_size = bytes_get_u32(b + AT_WAL_BLOCK_SIZE),
        .relation_segment_blocks = bytes_get_u32(b + AT_RELATION_SEGMENT_BLOCKS),
        .checksum_version = bytes_get_u32(b + AT_CHECKSUM_VERSION),
        .max_connections = (int)bytes_get_u32(b + AT_MAX_CONNECTIONS),
        .max_worker_processes = (int)bytes_get_u32(b + AT_MAX_WORKER_PROCESSES),
        .max_wal_senders = (int)bytes_get_u32(b + AT_MAX_WAL_SENDERS),
        .max_prepared_xacts = (int)bytes_get_u32(b + AT_MAX_PREPARED_XACTS),
        .max_locks_per_xact = (int)bytes_get_u32(b + AT_MAX_LOCKS_PER_XACT),
    };
    control->major = major_of_catalog(control->catalog_version);
}

/* What the CRC cannot tell: a file that is whole but that no supported server wrote. */
static bool check_fields(const struct control *control, struct error *err)
{
    if (control->catalog_version < catalogs[0].catalog_version) {
        error_set(err, ERROR_INTEGRITY, "pg_control is of a PostgreSQL before version %d (%u)",
                  VERSION_MINIMUM, control->catalog_version);
        return error_hint(err, "pgvigil supports PostgreSQL %d to %d", VERSION_MINIMUM,
                          VERSION_MAXIMUM);
    }
    if (control->state > CONTROL_IN_PRODUCTION || control->relation_segment_blocks == 0 ||
        control->block_size == 0 || !wal_segment_size_valid(control->wal_segment_size)) {
        return error_set(err, ERROR_INTEGRITY, "pg_control has values that no server writes");
    }
    return true;
}

bool control_parse(const void *bytes, size_t length, struct control *control, struct error *err)
{
    const unsigned char *b = bytes;
    size_t crc_at;

    if (length < AT_STATE) {
        return error_set(err, ERROR_INTEGRITY, "pg_control has only %zu bytes", length);
    }
    if (!find_crc(bytes_get_u32(b + AT_CONTROL_VERSION), &crc_at)) {
        return unknown_version(bytes_get_u32(b + AT_CONTROL_VERSION), err);
    }
    if (length < crc_at + 4) {
        return error_set(err, ERROR_INTEGRITY, "pg_control has only %zu bytes", length);
    }
    if (crc32c(0, b, crc_at) != bytes_get_u32(b + crc_at)) {
        return error_set(err, ERROR_INTEGRITY, "the checksum of pg_control is wrong");
    }
    read_fields(b, control);
    return check_fields(control, err);
}

static bool not_a_data_directory(const char *directory, const char *why, struct error *err)
{
    error_set(err, ERROR_NOT_FOUND, "directory \"%s\" is not a PostgreSQL data directory: %s",
              directory, why);
    return error_hint(err, "the server's setting data_directory says where it is");
}

/* Says why pg_control could not be opened, in the terms of whoever named the directory. */
static bool open_failure(const char *directory, const char *path, int reason, struct error *err)
{
    struct stat status;

    if (reason != ENOENT && reason != ENOTDIR) {
        errno = reason;
        error_set_errno(err, "could not open file \"%s\"", path);
        if (reason == EACCES) {
            error_hint(err, "run pgvigil as the user that owns the data directory");
        }
        return false;
    }
    if (stat(directory, &status) != 0) {
        return not_a_data_directory(directory, "it does not exist", err);
    }
    if (!S_ISDIR(status.st_mode)) {
        return not_a_data_directory(directory, "it is not a directory", err);
    }
    return not_a_data_directory(directory, "it has no file " CONTROL_PATH, err);
}

static bool read_once(const char *directory, const char *path,
                      unsigned char bytes[CONTROL_FILE_SIZE], size_t *length, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        return open_failure(directory, path, errno, err);
    }
    bool ok = files_read_fd(fd, path, bytes, CONTROL_FILE_SIZE, length, err);
    close(fd);
    return ok;
}

/* Only a wrong checksum or a short file can be a write seen half-way. */
static bool may_be_torn(const unsigned char *bytes, size_t length)
{
    size_t crc_at;

    return length < CONTROL_FILE_SIZE ||
           (find_crc(bytes_get_u32(bytes + AT_CONTROL_VERSION), &crc_at) &&
            crc32c(0, bytes, crc_at) != bytes_get_u32(bytes + crc_at));
}

static bool read_until_whole(const char *directory, const char *path, struct control *control,
                             unsigned char bytes[CONTROL_FILE_SIZE], size_t *length,
                             struct error *err)
{
    int64_t give_up = clock_monotonic() + READ_AGAIN_FOR;

    for (;;) {
        if (!read_once(directory, path, bytes, length, err)) {
            return false;
        }
        if (control_parse(bytes, *length, control, err)) {
            return true;
        }
        if (!may_be_torn(bytes, *length) || clock_monotonic() >= give_up) {
            return error_context(err, "could not use file \"%s\"", path);
        }
        clock_sleep(READ_AGAIN_AFTER);
    }
}

bool control_read(const char *data_directory, struct control *control,
                  unsigned char bytes[CONTROL_FILE_SIZE], size_t *length, struct error *err)
{
    unsigned char own[CONTROL_FILE_SIZE];
    size_t own_length;
    char *path = files_join(data_directory, CONTROL_PATH);
    bool ok = read_until_whole(data_directory, path, control, bytes ? bytes : own,
                               length ? length : &own_length, err);

    free(path);
    return ok;
}
