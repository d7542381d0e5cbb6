/*
 * version.c - what differs between PostgreSQL's major versions
 */
#include "pgvigil/version.h"

#define FIRST_WITH_MANIFEST_VERSION_2 17
#define FIRST_WITH_WIDE_STATS_OBJECT 18

static const struct {
    uint16_t magic;
    int major;
} wal_magics[] = {
    {0xD110, 15},
    {0xD113, 16},
    {0xD116, 17},
    {0xD118, 18},
};

int version_of_wal_magic(uint16_t magic)
{
    for (size_t i = 0; i < sizeof wal_magics / sizeof wal_magics[0]; i++) {
        if (wal_magics[i].magic == magic) {
            return wal_magics[i].major;
        }
    }
    return 0;
}

bool version_check_server(int server_version_num, struct error *err)
{
    int major = server_version_num / 10000;

    if (major >= VERSION_MINIMUM && major <= VERSION_MAXIMUM) {
        return true;
    }
    error_set(err, ERROR_CONFIG, "PostgreSQL %d is not supported", major);
    if (major > VERSION_MAXIMUM) {
        return error_hint(err,
                          "this pgvigil knows PostgreSQL %d to %d; a newer pgvigil may know more",
                          VERSION_MINIMUM, VERSION_MAXIMUM);
    }
    return error_hint(err, "pgvigil supports PostgreSQL %d to %d", VERSION_MINIMUM,
                      VERSION_MAXIMUM);
}

int version_manifest(int major)
{
    return major >= FIRST_WITH_MANIFEST_VERSION_2 ? 2 : 1;
}

/* kind, database and object, the latter of 64 bits since version 18 */
size_t version_xact_stats_item_size(int major)
{
    return major >= FIRST_WITH_WIDE_STATS_OBJECT ? 16 : 12;
}
