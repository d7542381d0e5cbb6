/* fuzz_manifest.c - a file of any content is a manifest or is refused; of a manifest every row can be
 * had, and nothing is given out that manifest_path_valid would not take */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "pgvigil/files.h"
#include "pgvigil/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char path[64];

static void remove_file(void)
{
    unlink(path);
}

static bool see_file(const struct manifest_file *file, void *context, struct error *err)
{
    size_t *count = context;

    (void)err;
    ++*count;
    if (!manifest_path_valid(file->kind == MANIFEST_CONFIG ? file->path + 1 : file->path) ||
        (file->size == 0) != (file->map.frame.pack.number == 0))
        abort();
    return true;
}

/* In memory where there is such a place: SQLite opens by name. */
static void write_input(const uint8_t *data, size_t size)
{
    struct error err = ERROR_INIT;

    if (path[0] == '\0') {
        snprintf(path, sizeof(path), "%s/pgvigil-fuzz-%d",
                 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (int)getpid());
        atexit(remove_file);
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || !files_write_fd(fd, path, data, size, &err))
        abort();
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = ERROR_INIT;
    struct manifest *manifest = NULL;
    size_t by_path = 0, by_map = 0;

    write_input(data, size);
    if (!manifest_open_file(path, &manifest, &err)) {
        if (manifest || err.code != ERROR_INTEGRITY)
            abort();
        return 0;
    }
    if (!manifest_meta(manifest)->backup_label || !manifest_meta(manifest)->tablespace_map)
        abort();
    if (!manifest_each(manifest, MANIFEST_BY_PATH, see_file, &by_path, &err) ||
        !manifest_each(manifest, MANIFEST_BY_MAP, see_file, &by_map, &err) || by_path != by_map)
        abort();
    manifest_free(manifest);
    return 0;
}
