/*
 * backup_files.c - the files of one backup while they are read
 */
#include "job/backup_files.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgvigil/control.h"
#include "pgvigil/crc32c.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"

static const enum manifest_kind kind_of_entry[] = {
    [SCAN_DIRECTORY] = MANIFEST_DIRECTORY,
    [SCAN_FILE] = MANIFEST_FILE,
    [SCAN_RELATION] = MANIFEST_FILE,
    [SCAN_TABLESPACE] = MANIFEST_TABLESPACE,
};

static void add_scanned(struct backup_files *files, const struct scan_entry *entry, bool checksums)
{
    struct backup_file *file = &files->files[files->count++];

    file->path = entry->path;
    file->kind = kind_of_entry[entry->kind];
    file->link = entry->link;
    file->mode = entry->mode;
    file->modified = entry->modified;
    file->first_block = entry->first_block;
    file->relation = entry->kind == SCAN_RELATION;
    file->pages = checksums && file->relation;
    file->planned = file->kind == MANIFEST_FILE ? entry->size : 0;
    file->facts = entry->facts;
    if (strcmp(entry->path, CONTROL_PATH) == 0)
        files->control = file;
}

static void add_outside(struct backup_files *files, const char *path)
{
    struct backup_file *file = &files->files[files->count];
    struct stat status;

    if (stat(path, &status) != 0 || !S_ISREG(status.st_mode) || access(path, R_OK) != 0) {
        log_warning("configuration file \"%s\" cannot be read and is not in the backup", path);
        return;
    }
    file->path = path;
    file->kind = MANIFEST_CONFIG;
    file->mode = status.st_mode & 07777;
    file->modified = status.st_mtim.tv_sec * CLOCK_SECOND + status.st_mtim.tv_nsec / 1000;
    file->planned = (uint64_t)status.st_size;
    file->facts = scan_facts_of(&status);
    files->count++;
}

/* Splits `text` into paths outside the data directory, without repetition. Resolved, they are clean
 * (the manifest wants that), and a link that leads out of the data directory is seen for what it
 * is. */
static void find_outside(struct backup_files *files, const char *data_directory, const char *text)
{
    char inside[PATH_MAX], real[PATH_MAX];
    size_t capacity = 0, prefix;

    if (realpath(data_directory, inside) == NULL)
        inside[0] = '\0';
    prefix = strlen(inside);
    while (*text != '\0') {
        size_t length = strcspn(text, "\n");
        char *path = mem_strndup(text, length);
        bool wanted = path[0] == '/';

        text += length + (text[length] == '\n');
        if (wanted && realpath(path, real) != NULL) {
            wanted = strncmp(real, inside, prefix) != 0 || real[prefix] != '/';
            free(path);
            path = mem_strdup(real);
        }
        for (size_t i = 0; i < files->outside_count; i++)
            wanted = wanted && strcmp(files->outside[i], path) != 0;
        if (!wanted) {
            free(path);
            continue;
        }
        files->outside =
            mem_grow(files->outside, files->outside_count, &capacity, sizeof *files->outside);
        files->outside[files->outside_count++] = path;
    }
}

static int compare_to_path(const void *path, const void *file)
{
    return strcmp(path, ((const struct backup_file *)file)->path);
}

static struct backup_file *find_file(struct backup_files *files, const char *path)
{
    struct backup_file *outside = files->files + files->scan->count;

    if (path[0] != '/')
        return bsearch(path, files->files, files->scan->count, sizeof *files->files,
                       compare_to_path);
    for (; outside < files->files + files->count; outside++)
        if (strcmp(outside->path, path) == 0)
            return outside;
    return NULL;
}

struct attaching {
    struct backup_files *files;
    struct known_files_clock clock;
};

static bool attach(const struct known_file *known, void *context, struct error *err)
{
    const struct attaching *attaching = context;
    const struct backup_base *base = attaching->files->base;
    struct backup_file *file = find_file(attaching->files, known->path);

    (void)err;
    if (file == NULL || (file->kind != MANIFEST_FILE && file->kind != MANIFEST_CONFIG))
        return true;
    file->base.size = known->size;
    file->base.crc32c = known->crc32c;
    file->base.root = known->map;
    file->base.unchanged =
        base->known != NULL && file != attaching->files->control &&
        known_files_trust(known_files_meta(base->known), known, &file->facts, &attaching->clock);
    atomic_init(&file->base.known, known->size > 0);
    return true;
}

/* Finds each file of the base again. */
static bool attach_base(struct backup_files *files, struct error *err)
{
    struct attaching attaching = {.files = files};

    memcpy(files->secret, files->base->secret, sizeof files->secret);
    if (files->base->info == NULL)
        return true;
    known_files_clock_read(&attaching.clock);
    return backup_base_each(files->base, attach, &attaching, err);
}

bool backup_files_new(const char *data_directory, struct scan *scan, bool checksums,
                      const char *outside, struct backup_base *base, struct backup_files **files,
                      struct error *err)
{
    struct backup_files *new = mem_calloc(1, sizeof *new);

    new->base = base;
    new->scan = scan;
    pthread_mutex_init(&new->mutex, NULL);
    find_outside(new, data_directory, outside);
    new->files = mem_calloc(scan->count + new->outside_count, sizeof *new->files);
    for (size_t i = 0; i < scan->count; i++)
        add_scanned(new, &scan->entries[i], checksums);
    for (size_t i = 0; i < new->outside_count; i++)
        add_outside(new, new->outside[i]);
    for (size_t i = 0; i < new->count; i++)
        new->files[i].files = new;
    if (new->control == NULL)
        error_set(err, ERROR_INTEGRITY, "there is no \"%s\" in \"%s\"", CONTROL_PATH,
                  data_directory);
    if (new->control == NULL || !attach_base(new, err)) {
        backup_files_free(new);
        return false;
    }
    *files = new;
    return true;
}

void backup_files_free(struct backup_files *files)
{
    if (files == NULL)
        return;
    for (size_t i = 0; i < files->count; i++) {
        free(files->files[i].chunks);
        free(files->files[i].leaves);
    }
    for (size_t i = 0; i < files->outside_count; i++)
        free(files->outside[i]);
    free(files->outside);
    free(files->files);
    scan_free(files->scan);
    pthread_mutex_destroy(&files->mutex);
    free(files);
}

static uint32_t chunk_count(const struct backup_file *file)
{
    return (uint32_t)((file->planned + BACKUP_CHUNK_BYTES - 1) / BACKUP_CHUNK_BYTES);
}

static void start_file(struct backup_file *file)
{
    uint32_t leaves = map_leaf_count(file->planned);

    file->chunks = mem_calloc(chunk_count(file), sizeof *file->chunks);
    file->leaves = mem_calloc(leaves, sizeof *file->leaves);
    atomic_init(&file->chunks_left, chunk_count(file));
    atomic_init(&file->parts_left, leaves + 1);
}

static bool to_be_read(const struct backup_file *file)
{
    return (file->kind == MANIFEST_FILE || file->kind == MANIFEST_CONFIG) && file->planned > 0 &&
           !file->base.unchanged;
}

bool backup_files_next(struct backup_files *files, struct backup_piece *piece)
{
    bool found = false;

    pthread_mutex_lock(&files->mutex);
    while (!found && files->next_file < files->count) {
        struct backup_file *file = &files->files[files->next_file];

        if (file != files->control && to_be_read(file) && files->next_chunk < chunk_count(file)) {
            if (files->next_chunk == 0)
                start_file(file);
            *piece = (struct backup_piece){.file = file, .chunk = files->next_chunk++};
            found = true;
        } else {
            files->next_file++;
            files->next_chunk = 0;
        }
    }
    pthread_mutex_unlock(&files->mutex);
    return found;
}

struct backup_piece backup_files_control(struct backup_files *files)
{
    files->control->planned = CONTROL_FILE_SIZE;
    start_file(files->control);
    return (struct backup_piece){.file = files->control, .chunk = 0};
}

/* Are all leaves where those of the base's root are, in a pack that may be built on? */
static bool has_base_root(const struct backup_file *file)
{
    const struct backup_file_base *base = &file->base;

    return atomic_load(&base->known) && base->size == file->size &&
           atomic_load(&file->leaves_kept) == map_leaf_count(file->size) &&
           backup_base_lends(file->files->base, &base->root.frame.pack);
}

/* All leaves of the file lie somewhere and its size is known: its root can be written. */
static bool add_root(struct backup_file *file, struct error *err)
{
    struct backup_files *files = file->files;
    struct map_root root = {.key = map_key(file->path, files->secret),
                            .file_size = file->size,
                            .leaf_count = map_leaf_count(file->size),
                            .leaves = file->leaves};
    struct buffer item = BUFFER_INIT;
    bool ok = true;

    if (has_base_root(file)) {
        file->root = file->base.root;
    } else if (root.leaf_count > 0) {
        map_encode_root(&root, &item);
        ok = map_writer_add(files->maps, item.data, item.length, file, BACKUP_ROOT_SLOT, err);
        buffer_free(&item);
    }
    free(file->leaves);
    file->leaves = NULL;
    return ok;
}

static bool account_parts(struct backup_file *file, uint32_t parts, struct error *err)
{
    if (atomic_fetch_sub(&file->parts_left, parts) > parts)
        return true;
    return add_root(file, err);
}

bool backup_files_placed(void *owner, uint32_t slot, const struct map_place *place,
                         struct error *err)
{
    struct backup_file *file = owner;

    if (slot == BACKUP_ROOT_SLOT) {
        file->root = *place;
        return true;
    }
    file->leaves[slot] = *place;
    return account_parts(file, 1, err);
}

bool backup_files_leaf_kept(struct backup_file *file, uint32_t number,
                            const struct map_place *place, struct error *err)
{
    atomic_fetch_add(&file->leaves_kept, 1);
    return backup_files_placed(file, number, place, err);
}

void backup_files_begin_kept(struct backup_file *file)
{
    file->size = file->base.size;
    file->crc32c = file->base.crc32c;
    start_file(file);
    free(file->chunks);
    file->chunks = NULL;
}

bool backup_files_end_kept(struct backup_file *file, struct error *err)
{
    return account_parts(file, 1, err);
}

/* Size and CRC of the whole from those of the chunks, up to the first short one. */
static uint32_t sum_up(struct backup_file *file)
{
    uint32_t produced = 0;
    bool ended = false;

    file->size = 0;
    file->crc32c = 0;
    file->gone = file->chunks[0].state == BACKUP_CHUNK_VANISHED;
    for (uint32_t i = 0; i < chunk_count(file); i++) {
        const struct backup_chunk *chunk = &file->chunks[i];

        produced += map_leaf_count(chunk->length);
        if (ended)
            continue;
        file->crc32c = crc32c_combine(file->crc32c, chunk->crc32c, chunk->length);
        file->size += chunk->length;
        ended = chunk->length < BACKUP_CHUNK_BYTES;
    }
    free(file->chunks);
    file->chunks = NULL;
    return produced;
}

bool backup_files_chunk_done(const struct backup_piece *piece, const struct backup_chunk *chunk,
                             struct error *err)
{
    struct backup_file *file = piece->file;
    uint32_t planned_leaves = map_leaf_count(file->planned);

    file->chunks[piece->chunk] = *chunk;
    if (atomic_fetch_sub(&file->chunks_left, 1) > 1)
        return true;
    return account_parts(file, planned_leaves - sum_up(file) + 1, err);
}

void backup_files_drop_unlogged(struct backup_files *files, int directory)
{
    for (size_t i = 0; i < files->count; i++) {
        struct backup_file *file = &files->files[i];
        const char *name = strrchr(file->path, '/');
        char *init;

        if (!file->relation || file->gone || name == NULL || strstr(name, "_init") != NULL)
            continue;
        name += 1 + strspn(name + 1, "0123456789");
        init = mem_printf("%.*s_init", (int)(name - file->path), file->path);
        file->gone = faccessat(directory, init, F_OK, 0) == 0;
        free(init);
    }
}

bool backup_files_remember(const struct backup_files *files, const struct backup_info *info,
                           const struct known_files_clock *clock, const char *state_dir,
                           struct error *err)
{
    struct known_files_meta meta = {.run = info->run,
                                    .system_identifier = info->system_identifier,
                                    .started = info->start_time,
                                    .clock = *clock};
    struct buffer out = BUFFER_INIT;
    bool ok;

    memcpy(meta.manifest_sha256, info->manifest_sha256, sizeof meta.manifest_sha256);
    memcpy(meta.secret, files->secret, sizeof meta.secret);
    known_files_begin(&meta, &out);
    for (size_t i = 0; i < files->count; i++) {
        const struct backup_file *file = &files->files[i];
        const struct known_file known = {.path = file->path,
                                         .size = file->size,
                                         .crc32c = file->crc32c,
                                         .map = file->root,
                                         .remembered = !file->suspect,
                                         .facts = file->facts};

        if (!file->gone && file->size > 0)
            known_files_add(&known, &out);
    }
    ok = known_files_write(state_dir, &out, err);
    buffer_free(&out);
    return ok;
}
