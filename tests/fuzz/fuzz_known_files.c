/* fuzz_known_files.c - what a host remembers of its last backup, of any content, is read or refused */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz/state.h"
#include "pgvigil/known_files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool look(const struct known_file *file, void *context, struct error *err)
{
    const struct known_files_meta *meta = context;
    const struct scan_facts facts = file->facts;

    (void)err;
    if (strlen(file->path) > 4095)
        abort();
    if (known_files_trust(meta, file, &facts, &meta->clock) && !file->remembered)
        abort();
    return true;
}

/* Writing seals it, so that what is read is more than the seal. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *state = fuzz_state();
    struct buffer bytes = BUFFER_INIT;
    struct error err = ERROR_INIT;
    struct known_files *known;

    if (size < 16 + DIGEST_SECRET_SIZE) /* the seal's key is there */
        return 0;
    buffer_append(&bytes, data, size);
    if (!known_files_write(state, &bytes, &err))
        abort();
    buffer_free(&bytes);
    if (!known_files_read(state, &known, &err)) {
        if (err.code != ERROR_INTEGRITY)
            abort();
        return 0;
    }
    struct known_files_meta meta = *known_files_meta(known);

    if (!known_files_each(known, look, &meta, &err) && err.code != ERROR_INTEGRITY)
        abort();
    known_files_free(known);
    return 0;
}
