/* fuzz_refs.c - a list of packs of any content is read or refused; what is read is written the same */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/refs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = ERROR_INIT;
    struct buffer again = BUFFER_INIT;
    struct refs refs;

    if (!refs_parse((const char *)data, size, &refs, &err)) {
        if (refs.packs || err.code != ERROR_INTEGRITY || !strstr(err.message, "line "))
            abort();
        return 0;
    }
    for (size_t i = 0; i < refs.count; i++)
        if (refs_find(&refs, &refs.packs[i].pack) != &refs.packs[i])
            abort();
    refs_encode(&refs, &again);
    if (again.length != size || memcmp(again.data, data, size) != 0)
        abort();
    buffer_free(&again);
    refs_free(&refs);
    return 0;
}
