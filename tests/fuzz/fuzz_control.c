/* fuzz_control.c - a pg_control of any content is read or refused */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/bytes.h"
#include "pgvigil/control.h"
#include "pgvigil/crc32c.h"
#include "pgvigil/wal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse(const uint8_t *data, size_t size)
{
    struct error err = ERROR_INIT;
    struct control control;

    if (!control_parse(data, size, &control, &err)) {
        if (err.code != ERROR_INTEGRITY || err.message[0] == '\0')
            abort();
        return;
    }
    /* What others divide by. */
    if (!wal_segment_size_valid(control.wal_segment_size) || control.relation_segment_blocks == 0 ||
        control.block_size == 0 || control.state > CONTROL_IN_PRODUCTION)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t sealed[CONTROL_FILE_SIZE];
    size_t crc_at;

    parse(data, size);
    if (size < 296 || size > sizeof sealed)
        return 0;
    /* Once more with a checksum that holds, which chance does not find. */
    memcpy(sealed, data, size);
    crc_at = bytes_get_u32(sealed + 8) == 1800 ? 292 : 288;
    bytes_put_u32(sealed + crc_at, crc32c(0, sealed, crc_at));
    parse(sealed, size);
    return 0;
}
