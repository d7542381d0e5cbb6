/* fuzz_config.c - a configuration file of any content is read or refused, and leaves nothing behind */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char path[] = "/fuzz.conf";
    struct error err = ERROR_INIT;
    struct config *config = NULL;

    if (!config_parse(path, (const char *)data, size, &config, &err)) {
        /* Whatever is wrong is the configuration's fault, and the message says in which file. */
        if (config || err.code != ERROR_CONFIG || !strstr(err.message, path))
            abort();
        return 0;
    }
    if (!config->cluster_name || !config->conninfo || config->state_dir[0] != '/' ||
        config->repository_count < 1 || config->backup.jobs < 1 || config->archive.timeout <= 0)
        abort();

    int sync = 0;
    for (size_t i = 0; i < config->repository_count; i++) {
        if (!config->repositories[i].url || config->repositories[i].timeout <= 0)
            abort();
        sync += config->repositories[i].copy == CONFIG_COPY_SYNC;
    }
    if (sync < config->archive.require)
        abort();
    config_free(config);
    return 0;
}
