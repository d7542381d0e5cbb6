/*
 * fuzz_cms.c - any bytes as CMS structures, one behind the other
 *
 * The corpus has structures for the key below, so that what is changed in them gets as far as the
 * cipher. Cut into pieces or not, in a room lent or not, the outcome must be the same; nothing is given
 * out that is larger than it may be.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgvigil/cms_stream.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"

#define MAXIMUM 4096

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Made for this alone. */
static const char private_key[] =
    "-----BEGIN PRIVATE KEY-----\n"
    "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgjgco1crXdhtSUhGa\n"
    "PDJKDSO3rcvJ2qQAzzP0GdDjl5yhRANCAASp0U1rxfv/P1YOs1p1iY0R//5OSFmS\n"
    "29T/AHnZSScShbDtmu5WJOTNI0kzd8vPLO4BAbWDAaGJcUuOkxik0eky\n"
    "-----END PRIVATE KEY-----\n";

static struct keys_identity *identity;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    char path[] = "/tmp/fuzz-cms-XXXXXX", *paths[] = {path};
    struct error err = ERROR_INIT;
    int fd = mkstemp(path);

    (void)argc;
    (void)argv;
    if (fd < 0 || !files_write_fd(fd, path, private_key, strlen(private_key), &err) ||
        !keys_load_identity(paths, 1, NULL, &identity, &err))
        abort();
    close(fd);
    unlink(path);
    return 0;
}

static bool take(const void *data, size_t length, void *context, struct error *err)
{
    (void)err;
    if (length > MAXIMUM + CMS_OVERHEAD)
        abort();
    buffer_append(context, data, length);
    return true;
}

/* In a room lent. */
static bool lengthen(const void *data, size_t length, void *context, struct error *err)
{
    struct buffer *room = context;

    (void)err;
    if (length > MAXIMUM + CMS_OVERHEAD || data != room->data + room->length)
        abort();
    room->length += length;
    return true;
}

static bool decrypt(const uint8_t *data, size_t size, size_t piece, struct buffer *room,
                    struct buffer *out, struct error *err)
{
    struct cms_stream *stream =
        cms_stream_new(identity, MAXIMUM, room, room ? lengthen : take, out);
    bool ok = true;

    for (size_t at = 0; ok && at < size; at += piece)
        ok = cms_stream_feed(stream, data + at, size - at < piece ? size - at : piece, err);
    ok = ok && cms_stream_finish(stream, err);
    cms_stream_free(stream);
    return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buffer whole = BUFFER_INIT, pieces = BUFFER_INIT;
    struct error err = ERROR_INIT, again = ERROR_INIT;
    bool ok = decrypt(data, size, size > 0 ? size : 1, NULL, &whole, &err);

    if (decrypt(data, size, 7, &pieces, &pieces, &again) != ok || whole.length != pieces.length ||
        (whole.length > 0 && memcmp(whole.data, pieces.data, whole.length) != 0))
        abort();
    if (!ok &&
        (err.code != again.code || (err.code != ERROR_INTEGRITY && err.code != ERROR_CONFIG)))
        abort();
    buffer_free(&whole);
    buffer_free(&pieces);
    return 0;
}
