#include "support/archive.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgvigil/bytes.h"
#include "pgvigil/control.h"
#include "pgvigil/crc32c.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "support/memory_store.h"
#include "support/scratch.h"
#include "support/seed.h"

#define MAGIC_OF_15 0xD110
#define CONTROL_CRC_AT 288

struct repository *archive_repository(void)
{
    struct repository *repository = mem_calloc(1, sizeof(*repository));

    repository->name = "test";
    repository->store = memory_store_new();
    repository->cluster = mem_strdup("main");
    repository_select(repository, ARCHIVE_SYSTEM);
    return repository;
}

void archive_free_repository(struct repository *repository)
{
    repository_close(repository);
}

void archive_replace(struct repository *repository, const char *name, const void *data,
                     size_t length)
{
    char *full = repository_object_name(repository, name);
    struct error err = ERROR_INIT;
    enum store_outcome outcome;
    struct store_put *put;

    ck_assert(store_remove(repository->store, full, &err));
    ck_assert(store_put_begin(repository->store, full, STORE_DATA, &put, &err));
    ck_assert(store_put_write(put, data, length, &err));
    ck_assert(store_put_commit(put, &outcome, &err));
    ck_assert_int_eq(outcome, STORE_STORED);
    free(full);
}

void archive_read(struct repository *repository, const char *name, struct buffer *bytes)
{
    char *full = repository_object_name(repository, name);
    struct error err = ERROR_INIT;

    buffer_clear(bytes);
    ck_assert_msg(store_get_buffer(repository->store, full, SIZE_MAX / 2, bytes, &err), "%s",
                  err.message);
    free(full);
}

void archive_segment(struct buffer *bytes, uint32_t segment_size, uint32_t timeline,
                     uint64_t number, uint64_t system_identifier, uint64_t seed)
{
    unsigned char header[40] = {0};
    uint64_t state = seed;

    bytes_put_u16(header, MAGIC_OF_15);
    bytes_put_u16(header + 2, WAL_PAGE_LONG_HEADER);
    bytes_put_u32(header + 4, timeline);
    bytes_put_u64(header + 8, number * segment_size);
    bytes_put_u64(header + 24, system_identifier);
    bytes_put_u32(header + 32, segment_size);
    bytes_put_u32(header + 36, WAL_PAGE_SIZE);

    buffer_clear(bytes);
    buffer_reserve(bytes, segment_size);
    memset(bytes->data, 0, segment_size);
    bytes->length = segment_size;
    memcpy(bytes->data, header, sizeof(header));
    for (size_t at = sizeof(header); at + 8 <= segment_size; at += 16)
        bytes_put_u64(bytes->data + at, seed_next(&state));
}

char *archive_file(const char *directory, const char *name, const void *data, size_t length)
{
    char *path = files_join(directory, name);
    FILE *file = fopen(path, "w");

    /* Not durably: that would take longer than what is tested. */
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(data, 1, length, file), length);
    ck_assert_int_eq(fclose(file), 0);
    return path;
}

bool archive_store_source(struct repository *repository, const struct wal_source *source,
                          enum wal_outcome *outcome, struct error *err)
{
    char *state = scratch_make();
    const struct config_repository settings = {.name = (char *)(uintptr_t)repository->name};
    const struct config config = {.state_dir = state};
    struct repository_set_member member = {
        .config = &settings, .repository = repository, .place = -1};
    struct repository_set set = {.config = &config, .members = &member, .count = 1};
    char object[LAYOUT_NAME_SIZE];
    bool ok = wal_archive_store(&set, source, 1, outcome, object, err);

    if (ok && member.out) {
        *err = member.error;
        ok = false;
    }
    scratch_remove(state);
    return ok;
}

bool archive_store(struct repository *repository, const char *file, const void *data, size_t length,
                   enum wal_outcome *outcome, struct error *err)
{
    char *directory = scratch_make();
    char *path = archive_file(directory, file, data, length);
    struct wal_source source = {.file = file, .path = path, .length = length};

    wal_parse_name(file, &source.name);
    source.fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(source.fd, 0);
    bool ok = archive_store_source(repository, &source, outcome, err);

    close(source.fd);
    free(path);
    scratch_remove(directory);
    return ok;
}

void archive_store_segment(struct repository *repository, uint32_t timeline, uint64_t number)
{
    struct buffer bytes = BUFFER_INIT;
    struct error err = ERROR_INIT;
    enum wal_outcome outcome;
    char name[WAL_NAME_SIZE];

    archive_segment(&bytes, ARCHIVE_SEGMENT_SIZE, timeline, number, repository->system_identifier,
                    (uint64_t)timeline << 32 | number);
    wal_segment_name(timeline, number, ARCHIVE_SEGMENT_SIZE, name);
    ck_assert_msg(archive_store(repository, name, bytes.data, bytes.length, &outcome, &err), "%s",
                  err.message);
    buffer_free(&bytes);
}

void archive_store_history(struct repository *repository, uint32_t timeline, const char *text)
{
    struct error err = ERROR_INIT;
    enum wal_outcome outcome;
    char name[WAL_NAME_SIZE];

    ck_assert_msg(archive_store(repository, wal_history_name(timeline, name), text, strlen(text),
                                &outcome, &err),
                  "%s", err.message);
}

void archive_control(const char *directory, uint64_t system_identifier)
{
    unsigned char bytes[CONTROL_FILE_SIZE] = {0};
    struct error err = ERROR_INIT;
    char *global = files_join(directory, "global");

    bytes_put_u64(bytes, system_identifier);
    bytes_put_u32(bytes + 8, 1300);
    bytes_put_u32(bytes + 12, 202209061);
    bytes_put_u32(bytes + 16, CONTROL_IN_PRODUCTION);
    bytes_put_u32(bytes + 48, 1);
    bytes_put_u32(bytes + 216, 8192);
    bytes_put_u32(bytes + 220, 131072);
    bytes_put_u32(bytes + 224, WAL_PAGE_SIZE);
    bytes_put_u32(bytes + 228, ARCHIVE_SEGMENT_SIZE);
    bytes_put_u32(bytes + CONTROL_CRC_AT, crc32c(0, bytes, CONTROL_CRC_AT));
    ck_assert_msg(files_make_directories(global, &err), "%s", err.message);
    free(archive_file(global, "pg_control", bytes, sizeof(bytes)));
    free(global);
}

/* One repository comes from the text; more of them, which a file cannot have yet, from here. */
struct config *archive_config(const char *root, size_t count)
{
    struct error err = ERROR_INIT;
    struct config *config;
    char *text = mem_printf("[cluster]\nname = main\npgdata = %s/data\nstate_dir = %s/state\n"
                            "[repository r1]\nurl = file://%s/r1\n",
                            root, root, root);

    ck_assert_msg(config_parse("test.conf", text, strlen(text), &config, &err), "%s", err.message);
    free(text);
    config->repositories = mem_realloc(config->repositories, count * sizeof(*config->repositories));
    while (config->repository_count < count) {
        size_t number = ++config->repository_count;
        config->repositories[number - 1] = (struct config_repository){
            .name = mem_printf("r%zu", number), .url = mem_printf("file://%s/r%zu", root, number)};
    }
    return config;
}
