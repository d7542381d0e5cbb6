/* fuzz_trailer.c - any 128 bytes: what decodes encodes to the same bytes */
#include <stdlib.h>
#include <string.h>

#include "pgvigil/bytes.h"
#include "pgvigil/crc32c.h"
#include "pgvigil/trailer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_bytes(const unsigned char *bytes)
{
    struct trailer trailer;
    struct error err = ERROR_INIT;
    unsigned char again[TRAILER_SIZE];

    if (!trailer_decode(bytes, &trailer, &err)) {
        if (err.code != ERROR_INTEGRITY || err.message[0] == '\0')
            abort();
        return;
    }
    trailer_encode(&trailer, again);
    if (memcmp(bytes, again, TRAILER_SIZE) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char bytes[TRAILER_SIZE];

    if (size < TRAILER_SIZE - 4)
        return 0;
    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes, data, size < TRAILER_SIZE ? size : TRAILER_SIZE);
    try_bytes(bytes);
    /* No fuzzer finds a CRC: give it the right one. */
    bytes_put_u32(bytes + TRAILER_SIZE - 4, crc32c(0, bytes, TRAILER_SIZE - 4));
    try_bytes(bytes);
    return 0;
}
