/*
 * simulate.c - fills a repository with what a large database would leave in it, but for the data
 *
 *   simulate CONFIGURATION GIGABYTES HOURLY DAILY
 *
 * Into the first repository of the configuration, a directory made by `pgvigil init`: one full backup, and
 * after it DAILY backups a day apart and HOURLY ones an hour apart, the last of them just now. Manifests,
 * maps, lists of packs and backup.json are real, written by the product's own code. Of data packs and of
 * most WAL segments there are only names and sizes, as files that are one hole.
 *
 * The cluster is of tables in segments of 1 GiB, and for each of them two small files. A data pack holds
 * 500 frames of 256 KiB that came to 64 KiB, so that 10,000 GiB are 81,920 packs. Between two backups one
 * file in a hundred changes, 16 leaves of it, four blocks in each.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgvigil/backup_info.h"
#include "pgvigil/bytes.h"
#include "pgvigil/clock.h"
#include "pgvigil/files.h"
#include "pgvigil/log.h"
#include "pgvigil/manifest.h"
#include "pgvigil/map.h"
#include "pgvigil/mem.h"
#include "pgvigil/object.h"
#include "pgvigil/pack.h"
#include "support/seed.h"

#define SYSTEM_IDENTIFIER UINT64_C(7300000000000000001)
#define GIGABYTE (UINT64_C(1) << 30)
#define SMALL_SIZE (UINT64_C(5) * PACK_BLOCK)
#define SEGMENT_SIZE (16u * 1024 * 1024)
#define SEGMENTS_AN_HOUR 60
#define SEGMENT_STORED 4000000
#define FIRST_SEGMENT 16
#define REAL_SEGMENTS 3 /* the first and the last so many are real, as they are looked into */
#define WAL_MAGIC_15 0xD110

#define DATA_NUMBER 1000001u /* behind the numbers of map packs */
#define FRAME_STORED 65536u
#define FRAMES_A_PACK 500u
#define LEAF_FRAMES (MAP_LEAF_BLOCKS / (uint32_t)PACK_FRAME_BLOCKS)
#define CHANGED_FILES 100 /* one in so many */
#define CHANGED_LEAVES 16
#define CHANGED_BLOCKS 4
#define ROOT_SLOT UINT32_MAX

struct file {
    char *path;
    uint64_t size;
    uint64_t key;
    uint64_t first_frame; /* of the full backup */
    uint32_t leaf_count;
    uint32_t waiting; /* leaves whose places are not known yet */
    struct map_place *leaves;
    uint16_t *owners; /* of each leaf the backup that changed it last, 0: none */
    struct map_place root;
};

struct simulation {
    struct config *config;
    struct repository *repository;
    int64_t *runs;      /* of each backup */
    struct refs packs;  /* map packs of all backups, in order */
    size_t *first_data; /* of each backup: index of its first data pack in `data` */
    struct refs data;   /* data packs of all backups, in order */
    struct file *files;
    size_t file_count, large_count;
    uint64_t bytes, frames;
    unsigned char secret[DIGEST_SECRET_SIZE];
    uint64_t random;
    struct map_writer *maps;
    struct map_leaf leaf;
    struct buffer item;
    size_t backup;    /* that is being made */
    uint32_t changed; /* leaves, in it */
};

static void die(const struct error *err)
{
    fprintf(stderr, "simulate: %s\n", err->message);
    exit(1);
}

static void must(bool ok, const struct error *err)
{
    if (!ok)
        die(err);
}

static struct layout_pack pack_of_frame(const struct simulation *simulation, uint64_t frame)
{
    return (struct layout_pack){.run = simulation->runs[0],
                                .number = DATA_NUMBER + (uint32_t)(frame / FRAMES_A_PACK)};
}

/* -- files with names and sizes ------------------------------------------------------------------ */

static void make_hole(const struct simulation *simulation, const char *name, uint64_t size,
                      int64_t modified)
{
    const char *root = simulation->config->repositories[0].url + strlen("file://");
    char *full = repository_object_name(simulation->repository, name);
    char *path = files_join(root, full);
    const struct timespec times[2] = {{.tv_sec = (time_t)modified}, {.tv_sec = (time_t)modified}};
    char *slash = strrchr(path, '/');
    struct error err = ERROR_INIT;
    int fd;

    *slash = '\0';
    if (access(path, F_OK) != 0)
        must(files_make_directories(path, &err), &err);
    *slash = '/';
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)size) != 0 || futimens(fd, times) != 0) {
        error_set_errno(&err, "could not make \"%s\"", path);
        die(&err);
    }
    close(fd);
    free(path);
    free(full);
}

static void add_data_pack(struct simulation *simulation, struct layout_pack pack, uint32_t blocks)
{
    struct refs_pack line = {
        .pack = pack,
        .size = (blocks + PACK_FRAME_BLOCKS - 1) / PACK_FRAME_BLOCKS * FRAME_STORED + TRAILER_SIZE,
        .kind = REFS_DATA,
        .blocks = blocks,
        .live = blocks};
    char name[LAYOUT_NAME_SIZE];

    seed_fill(&simulation->random, line.sha256, sizeof line.sha256);
    make_hole(simulation, layout_pack(&pack, name), line.size, pack.run + 600);
    refs_add(&simulation->data, &line);
}

/* -- WAL ------------------------------------------------------------------------------------------ */

static void put_segment(struct simulation *simulation, uint64_t number)
{
    unsigned char *segment = mem_calloc(1, SEGMENT_SIZE);
    char file[WAL_NAME_SIZE], name[LAYOUT_NAME_SIZE];
    struct error err = ERROR_INIT;
    enum store_outcome outcome;

    bytes_put_u16(segment, WAL_MAGIC_15);
    bytes_put_u16(segment + 2, WAL_PAGE_LONG_HEADER);
    bytes_put_u32(segment + 4, 1);
    bytes_put_u64(segment + 8, number * SEGMENT_SIZE);
    bytes_put_u64(segment + 24, SYSTEM_IDENTIFIER);
    bytes_put_u32(segment + 32, SEGMENT_SIZE);
    bytes_put_u32(segment + 36, WAL_PAGE_SIZE);
    wal_segment_name(1, number, SEGMENT_SIZE, file);
    must(object_put(simulation->repository, layout_wal_segment(file, name), TRAILER_WAL,
                    OBJECT_ZSTD, 1, segment, SEGMENT_SIZE, &outcome, NULL, &err),
         &err);
    free(segment);
}

static uint64_t segment_at(const struct simulation *simulation, int64_t moment)
{
    return FIRST_SEGMENT + (uint64_t)(moment - simulation->runs[0]) / (3600 / SEGMENTS_AN_HOUR);
}

static void make_wal(struct simulation *simulation, int64_t until)
{
    const uint64_t last = segment_at(simulation, until);

    for (uint64_t number = FIRST_SEGMENT; number <= last; number++) {
        char file[WAL_NAME_SIZE], name[LAYOUT_NAME_SIZE];

        if (number < FIRST_SEGMENT + REAL_SEGMENTS || number + REAL_SEGMENTS > last) {
            put_segment(simulation, number);
            continue;
        }
        wal_segment_name(1, number, SEGMENT_SIZE, file);
        make_hole(simulation, layout_wal_segment(file, name), SEGMENT_STORED,
                  simulation->runs[0] +
                      (int64_t)(number - FIRST_SEGMENT) * (3600 / SEGMENTS_AN_HOUR));
    }
}

/* -- maps ----------------------------------------------------------------------------------------- */

static void add_item(struct simulation *simulation, struct file *file, uint32_t slot,
                     const struct buffer *item)
{
    struct error err = ERROR_INIT;

    must(map_writer_add(simulation->maps, item->data, item->length, file, slot, &err), &err);
}

static void add_root(struct simulation *simulation, struct file *file)
{
    const struct map_root root = {.key = file->key,
                                  .file_size = file->size,
                                  .leaf_count = file->leaf_count,
                                  .leaves = file->leaves};
    struct buffer item = BUFFER_INIT; /* another one: this may happen while a leaf is being added */

    map_encode_root(&root, &item);
    add_item(simulation, file, ROOT_SLOT, &item);
    buffer_free(&item);
}

static struct simulation *the_simulation;

static bool placed(void *owner, uint32_t slot, const struct map_place *place, struct error *err)
{
    struct file *file = owner;

    (void)err;
    if (slot == ROOT_SLOT) {
        file->root = *place;
        return true;
    }
    file->leaves[slot] = *place;
    if (--file->waiting == 0)
        add_root(the_simulation, file);
    return true;
}

static void add_run(struct map_leaf *leaf, struct pack_frame frame, uint32_t first, uint32_t count)
{
    if (count > 0)
        leaf->run[leaf->runs++] =
            (struct map_run){.frame = frame, .first = (uint16_t)first, .count = (uint16_t)count};
}

/* Where blocks lie that backup `owner` has stored of its `slot`th leaf. */
static struct pack_frame changed_frame(const struct simulation *simulation, uint32_t slot)
{
    return (struct pack_frame){.pack = {.run = simulation->runs[simulation->backup],
                                        .number = DATA_NUMBER + slot / FRAMES_A_PACK},
                               .offset = slot % FRAMES_A_PACK * FRAME_STORED,
                               .length = FRAME_STORED};
}

/* `changed`: the frame of blocks [0, CHANGED_BLOCKS) of the leaf, or NULL. */
static void add_leaf(struct simulation *simulation, struct file *file, uint32_t number,
                     const struct pack_frame *changed)
{
    const uint64_t blocks = (file->size + PACK_BLOCK - 1) / PACK_BLOCK;
    const uint64_t left = blocks - (uint64_t)number * MAP_LEAF_BLOCKS;
    struct map_leaf *leaf = &simulation->leaf;
    uint32_t at = 0;

    leaf->key = file->key;
    leaf->number = number;
    leaf->blocks = (uint16_t)(left < MAP_LEAF_BLOCKS ? left : MAP_LEAF_BLOCKS);
    leaf->runs = 0;
    for (size_t i = 0; i < leaf->blocks; i++)
        leaf->digests[i] = seed_next(&simulation->random);
    if (changed) {
        add_run(leaf, *changed, 0, CHANGED_BLOCKS);
        at = CHANGED_BLOCKS;
    }
    while (at < leaf->blocks) {
        const uint64_t frame =
            file->first_frame + (uint64_t)number * LEAF_FRAMES + at / PACK_FRAME_BLOCKS;
        const uint32_t first = at % (uint32_t)PACK_FRAME_BLOCKS;
        const uint32_t room = (uint32_t)PACK_FRAME_BLOCKS - first;
        const uint32_t count = leaf->blocks - at < room ? leaf->blocks - at : room;

        add_run(leaf,
                (struct pack_frame){.pack = pack_of_frame(simulation, frame),
                                    .offset = (uint32_t)(frame % FRAMES_A_PACK) * FRAME_STORED,
                                    .length = FRAME_STORED},
                first, count);
        at += count;
    }
    buffer_clear(&simulation->item);
    map_encode_leaf(leaf, &simulation->item);
    add_item(simulation, file, number, &simulation->item);
}

/* -- backups -------------------------------------------------------------------------------------- */

static void store_full(struct simulation *simulation)
{
    for (uint64_t frame = 0; frame < simulation->frames; frame += FRAMES_A_PACK) {
        const uint64_t left = simulation->frames - frame;

        add_data_pack(simulation, pack_of_frame(simulation, frame),
                      (uint32_t)(left < FRAMES_A_PACK ? left : FRAMES_A_PACK) *
                          (uint32_t)PACK_FRAME_BLOCKS);
    }
    for (size_t i = 0; i < simulation->file_count; i++) {
        struct file *file = &simulation->files[i];

        file->waiting = file->leaf_count;
        for (uint32_t j = 0; j < file->leaf_count; j++)
            add_leaf(simulation, file, j, NULL);
    }
}

static size_t data_pack_of(const struct simulation *simulation, size_t backup, uint64_t frame)
{
    return simulation->first_data[backup] + frame / FRAMES_A_PACK;
}

static void change_leaf(struct simulation *simulation, struct file *file, uint32_t number)
{
    const struct pack_frame frame = changed_frame(simulation, simulation->changed);
    const uint64_t old = file->first_frame + (uint64_t)number * LEAF_FRAMES;

    /* Which pack an earlier change lies in is not remembered: any of that backup loses blocks. */
    if (file->owners[number] == 0)
        simulation->data.packs[data_pack_of(simulation, 0, old)].live -= CHANGED_BLOCKS;
    else
        simulation->data.packs[simulation->first_data[file->owners[number]]].live -= CHANGED_BLOCKS;
    file->owners[number] = (uint16_t)simulation->backup;
    simulation->changed++;
    add_leaf(simulation, file, number, &frame);
}

static void store_changes(struct simulation *simulation)
{
    const size_t count = (simulation->large_count + CHANGED_FILES - 1) / CHANGED_FILES;
    const size_t from = (simulation->backup * count) % simulation->large_count;

    for (size_t i = 0; i < count && from + i < simulation->large_count; i++) {
        struct file *file = &simulation->files[from + i];

        file->waiting = CHANGED_LEAVES;
        for (uint32_t j = 0; j < CHANGED_LEAVES; j++)
            change_leaf(simulation, file,
                        (uint32_t)((j * 31 + simulation->backup * 7) % file->leaf_count));
    }
    for (uint32_t i = 0; i < simulation->changed; i += FRAMES_A_PACK) {
        const uint32_t left = simulation->changed - i;

        add_data_pack(simulation, changed_frame(simulation, i).pack,
                      (left < FRAMES_A_PACK ? left : FRAMES_A_PACK) * CHANGED_BLOCKS);
    }
}

static void add_row(struct manifest_writer *writer, const char *path, enum manifest_kind kind,
                    const struct file *file, int64_t run)
{
    const struct manifest_file row = {.path = path,
                                      .kind = kind,
                                      .size = file ? file->size : 0,
                                      .modified = (run - 7200) * CLOCK_SECOND,
                                      .mode = kind == MANIFEST_DIRECTORY ? 0700 : 0600,
                                      .map =
                                          file ? file->root : (struct map_place){.item_length = 0}};
    struct error err = ERROR_INIT;

    must(manifest_writer_add(writer, &row, &err), &err);
}

static void store_manifest(struct simulation *simulation, struct backup_info *info)
{
    static const char *const directories[] = {"base", "base/5", "global", "pg_tblspc", "pg_wal"};
    static char label[] = "START WAL LOCATION: simulated\n", none[] = "";
    struct manifest_meta meta = {.backup_label = label, .tablespace_map = none};
    struct manifest_writer *writer;
    struct error err = ERROR_INIT;

    memcpy(meta.secret, simulation->secret, sizeof meta.secret);
    must(manifest_writer_new(simulation->config->state_dir, &writer, &err), &err);
    for (size_t i = 0; i < sizeof directories / sizeof *directories; i++)
        add_row(writer, directories[i], MANIFEST_DIRECTORY, NULL, info->run);
    for (size_t i = 0; i < simulation->file_count; i++)
        add_row(writer, simulation->files[i].path, MANIFEST_FILE, &simulation->files[i], info->run);
    must(manifest_writer_store(writer, &meta, simulation->repository, info->run,
                               info->manifest_sha256, &err),
         &err);
    manifest_writer_free(writer);
}

static void store_refs(struct simulation *simulation, struct backup_info *info)
{
    struct refs refs = REFS_INIT;
    struct error err = ERROR_INIT;

    for (size_t i = 0; i < simulation->packs.count; i++)
        refs_add(&refs, &simulation->packs.packs[i]);
    for (size_t i = 0; i < simulation->data.count; i++)
        if (simulation->data.packs[i].live > 0)
            refs_add(&refs, &simulation->data.packs[i]);
    refs_sort(&refs);
    for (size_t i = 0; i < refs.count; i++)
        info->pack_bytes += refs.packs[i].size;
    must(refs_store(simulation->repository, info->run, &refs, info->refs_sha256, &err), &err);
    refs_free(&refs);
}

static void store_backup(struct simulation *simulation)
{
    static char text[] = "/simulated";
    const int64_t run = simulation->runs[simulation->backup];
    const uint64_t segment = segment_at(simulation, run);
    struct backup_info info = {.run = run,
                               .system_identifier = SYSTEM_IDENTIFIER,
                               .version_num = 150018,
                               .timeline = 1,
                               .start_lsn = segment * SEGMENT_SIZE + 0x28,
                               .stop_lsn = segment * SEGMENT_SIZE + 0x128,
                               .start_time = run * CLOCK_SECOND,
                               .stop_time = (run + 30) * CLOCK_SECOND,
                               .wal_segment_size = SEGMENT_SIZE,
                               .host = text,
                               .data_directory = text,
                               .file_count = simulation->file_count,
                               .database_bytes = simulation->bytes};
    struct pack_set *set = pack_set_new(simulation->repository, run);
    struct error err = ERROR_INIT;

    must(map_writer_new(set, 1, placed, &simulation->maps, &err), &err);
    simulation->changed = 0;
    simulation->first_data[simulation->backup] = simulation->data.count;
    if (simulation->backup == 0)
        store_full(simulation);
    else
        store_changes(simulation);
    must(map_writer_finish(simulation->maps, &err), &err);
    for (size_t i = 0; i < pack_set_refs(set)->count; i++)
        refs_add(&simulation->packs, &pack_set_refs(set)->packs[i]);
    store_manifest(simulation, &info);
    store_refs(simulation, &info);
    must(backup_info_store(simulation->repository, &info, &err), &err);
    map_writer_free(simulation->maps);
    pack_set_free(set);
}

/* -- all of it ------------------------------------------------------------------------------------ */

static void add_file(struct simulation *simulation, char *path, uint64_t size)
{
    struct file *file = &simulation->files[simulation->file_count++];

    *file = (struct file){.path = path,
                          .size = size,
                          .key = map_key(path, simulation->secret),
                          .first_frame = simulation->frames,
                          .leaf_count = map_leaf_count(size)};
    file->leaves = mem_calloc(file->leaf_count, sizeof *file->leaves);
    file->owners = mem_calloc(file->leaf_count, sizeof *file->owners);
    simulation->frames += (size + PACK_FRAME_RAW - 1) / PACK_FRAME_RAW;
    simulation->bytes += size;
}

/* The large ones first. Ten segments make a table. */
static void make_files(struct simulation *simulation, size_t gigabytes)
{
    simulation->files = mem_calloc(gigabytes * 3 + 1, sizeof *simulation->files);
    for (size_t i = 0; i < gigabytes; i++)
        add_file(simulation,
                 i % 10 == 0 ? mem_printf("base/5/%zu", 20000 + i / 10)
                             : mem_printf("base/5/%zu.%zu", 20000 + i / 10, i % 10),
                 GIGABYTE);
    simulation->large_count = gigabytes;
    for (size_t i = 0; i < gigabytes * 2; i++)
        add_file(simulation, mem_printf("base/5/%zu", 1000000 + i), SMALL_SIZE);
    add_file(simulation, mem_strdup("global/pg_control"), PACK_BLOCK);
}

static void free_all(struct simulation *simulation)
{
    for (size_t i = 0; i < simulation->file_count; i++) {
        free(simulation->files[i].path);
        free(simulation->files[i].leaves);
        free(simulation->files[i].owners);
    }
    free(simulation->files);
    free(simulation->runs);
    free(simulation->first_data);
    refs_free(&simulation->packs);
    refs_free(&simulation->data);
    buffer_free(&simulation->item);
    repository_close(simulation->repository);
    config_free(simulation->config);
}

static size_t number_argument(const char *text, size_t minimum, size_t maximum)
{
    char *end;
    const unsigned long number = strtoul(text, &end, 10);

    if (*text != '\0' && *end == '\0' && number >= minimum && number <= maximum)
        return number;
    fprintf(stderr, "simulate: not a number from %zu to %zu: %s\n", minimum, maximum, text);
    exit(2);
}

int main(int argc, char **argv)
{
    struct simulation simulation = {.random = seed_start("simulate")};
    const int64_t now = clock_now() / CLOCK_SECOND;
    struct error err = ERROR_INIT;
    size_t hourly, daily;

    if (argc != 5) {
        fprintf(stderr, "usage: simulate CONFIGURATION GIGABYTES HOURLY DAILY\n");
        return 2;
    }
    umask(077);
    the_simulation = &simulation;
    hourly = number_argument(argv[3], 1, 1000);
    daily = number_argument(argv[4], 0, 1000);
    must(config_load(argv[1], &simulation.config, &err), &err);
    must(repository_open(simulation.config, &simulation.config->repositories[0],
                         &simulation.repository, &err),
         &err);
    repository_select(simulation.repository, SYSTEM_IDENTIFIER);
    seed_fill(&simulation.random, simulation.secret, sizeof simulation.secret);
    make_files(&simulation, number_argument(argv[2], 1, 100000));

    simulation.runs = mem_calloc(1 + daily + hourly, sizeof *simulation.runs);
    simulation.first_data = mem_calloc(1 + daily + hourly, sizeof *simulation.first_data);
    for (size_t i = 0; i <= daily; i++)
        simulation.runs[i] = now - 60 - (int64_t)hourly * 3600 - (int64_t)(daily + 1 - i) * 86400;
    for (size_t i = 0; i < hourly; i++)
        simulation.runs[1 + daily + i] = now - 60 - (int64_t)(hourly - 1 - i) * 3600;
    for (simulation.backup = 0; simulation.backup <= daily + hourly; simulation.backup++)
        store_backup(&simulation);
    make_wal(&simulation, now);

    printf("%zu backups, %zu data packs, %zu map packs\n", 1 + daily + hourly,
           simulation.data.count, simulation.packs.count);
    free_all(&simulation);
    return 0;
}
