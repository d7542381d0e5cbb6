/* fuzz_map.c - items of maps of any content are read or refused; what is read is written the same */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/map.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_same(const struct buffer *again, const uint8_t *data, size_t size)
{
    if (again->length != size || memcmp(again->data, data, size) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct map_leaf leaf;
    struct error err = ERROR_INIT;
    struct buffer again = BUFFER_INIT;
    struct map_root root;

    if (map_decode_leaf(data, size, &leaf, &err)) {
        map_encode_leaf(&leaf, &again);
        check_same(&again, data, size);
    }
    if (map_decode_root(data, size, &root, &err)) {
        buffer_clear(&again);
        map_encode_root(&root, &again);
        check_same(&again, data, size);
        map_free_root(&root);
    }
    buffer_free(&again);
    return 0;
}
