/* fuzz_unfinished.c - what is remembered of an interrupted backup, of any content, is read as far as it is sound */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "fuzz/state.h"
#include "pgvigil/bytes.h"
#include "pgvigil/files.h"
#include "pgvigil/map_cache.h"
#include "pgvigil/unfinished.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Cuts the input into records (a byte of kind, two of length, the content) and seals each, so that what is
 * read is more than the seals. */
static void seal_records(const uint8_t *data, size_t size, const unsigned char *secret,
                         struct buffer *out)
{
    struct bytes_reader reader = {.at = data, .left = size};

    while (reader.left > 3) {
        const size_t start = out->length, kind = *bytes_take(&reader, 1);
        const size_t wanted = bytes_take_u16(&reader);
        const size_t length = wanted < reader.left ? wanted : reader.left;

        buffer_append_u32(out, (uint32_t)kind);
        buffer_append_u32(out, (uint32_t)length);
        if (length > 0)
            buffer_append(out, bytes_take(&reader, length), length);
        buffer_append_u64(out, digest_block(out->data + start, out->length - start, secret));
    }
}

static void append(const char *state, const struct buffer *bytes)
{
    char *path = files_join(state, MAP_CACHE_DIRECTORY "/unfinished");
    int fd = open(path, O_WRONLY | O_APPEND);

    if (fd < 0 ||
        (bytes->length > 0 && write(fd, bytes->data, bytes->length) != (ssize_t)bytes->length))
        abort();
    close(fd);
    free(path);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct map_leaf leaf;
    const struct unfinished_meta meta = {.system_identifier = 7};
    const char *state = fuzz_state();
    struct error err = ERROR_INIT;
    struct buffer records = BUFFER_INIT;
    struct unfinished *unfinished;

    if (!unfinished_new(state, &meta, &unfinished, &err))
        abort();
    unfinished_close(unfinished);
    seal_records(data, size, meta.secret, &records);
    append(state, &records);
    buffer_free(&records);
    if (!unfinished_open(state, &unfinished, &err))
        abort();
    for (size_t at = 0; at + 19 < size && at < 4096;
         at++) /* behind a record's start, a leaf's key and number */
        if (unfinished_find(unfinished, bytes_get_u64(data + at + 4), bytes_get_u32(data + at + 12),
                            &leaf) &&
            (leaf.blocks == 0 || leaf.runs > leaf.blocks))
            abort();
    unfinished_close(unfinished);
    return 0;
}
