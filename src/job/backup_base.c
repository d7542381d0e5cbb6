/*
 * backup_base.c - the earlier backup that a backup builds on
 */
#include "job/backup_base.h"

#include <stdlib.h>
#include <string.h>

#include "pgvigil/catalog.h"
#include "pgvigil/clock.h"
#include "pgvigil/history.h"
#include "pgvigil/known_damage.h"
#include "pgvigil/log.h"
#include "pgvigil/marks.h"
#include "pgvigil/mem.h"
#include "pgvigil/wal_archive.h"

#define DOUBTS_SHOWN 5
/* A backup takes no longer; by so much its lock ends later. */
#define LOCK_SLACK (24 * 60 * 60 * CLOCK_SECOND)
/* What is still used of a pack of which less than that is used is stored anew, so that the pack goes with
 * the backups before: what is stored stays within twice what is needed. */
#define LIVE_PERCENT 50

/* A reason to store everything. Being told to stop is none. */
static bool store_everything(const struct error *why, const char *what, struct error *err)
{
    struct error said = *why;

    if (why->code == ERROR_CANCELLED) {
        *err = *why;
        return false;
    }
    error_context(&said, "%s; everything is stored", what);
    log_error(LOG_WARNING, &said);
    return true;
}

static void drop(struct backup_base *base)
{
    backup_info_free(base->info);
    base->info = NULL;
}

/* Is this backup marked for deletion in this repository? */
static bool is_marked(struct repository *repository, int64_t run, bool *marked, struct error *err)
{
    struct marks *marks;

    if (!marks_read(repository, &marks, err))
        return false;
    *marked = marks_expired(marks, run);
    marks_free(marks);
    return true;
}

/* Is the same backup committed in this repository? */
static bool is_committed(struct repository *repository, const struct backup_info *info,
                         bool *committed, struct error *err)
{
    struct backup_info *there;

    *committed = backup_info_fetch(repository, info->run, &there, err);
    if (!*committed) {
        const bool answered = err->code == ERROR_NOT_FOUND || err->code == ERROR_INTEGRITY;

        if (answered)
            error_clear(err);
        return answered;
    }
    *committed = memcmp(there->manifest_sha256, info->manifest_sha256, DIGEST_SHA256_SIZE) == 0 &&
                 memcmp(there->refs_sha256, info->refs_sha256, DIGEST_SHA256_SIZE) == 0;
    backup_info_free(there);
    return true;
}

/* A backup, of which one repository has this record, may be built on if it is committed in all of them
 * and to be deleted from none. */
static bool may_build_on(struct repository_set *set, const struct backup_info *info, bool *may,
                         struct error *err)
{
    *may = true;
    for (size_t i = 0; *may && i < set->count; i++) {
        struct repository *repository = set->members[i].repository;
        bool marked;

        if (!repository_set_has(set, i))
            continue;
        if (!is_marked(repository, info->run, &marked, err) ||
            !is_committed(repository, info, may, err))
            return false;
        *may = *may && !marked;
    }
    return true;
}

/* What the cache holds is of the backup that this host took last: mostly the newest one, found without
 * reading the records of all others. */
static bool choose_known(struct backup_base *base, struct repository_set *set,
                         const char *state_dir, struct error *err)
{
    struct repository *reader = repository_set_reader(set);
    const struct known_files_meta *meta;
    bool may = false;

    if (!known_files_read(state_dir, &base->known, err)) {
        if (err->code == ERROR_INTEGRITY)
            log_error(LOG_WARNING, err);
        error_clear(err);
        return true;
    }
    meta = known_files_meta(base->known);
    if (meta->system_identifier == reader->system_identifier &&
        backup_info_fetch(reader, meta->run, &base->info, err) &&
        memcmp(base->info->manifest_sha256, meta->manifest_sha256, DIGEST_SHA256_SIZE) == 0 &&
        !may_build_on(set, base->info, &may, err))
        return false;
    error_clear(err);
    if (may)
        return true;
    known_files_free(base->known);
    base->known = NULL;
    drop(base);
    return true;
}

/* Does the cluster's history pass through it? */
static bool lies_on(const struct history *history, const struct backup_info *info)
{
    return info->stop_lsn <= history_switch_lsn(history, info->timeline);
}

/* The newest one everywhere, of those on the history or of the others. */
static bool choose_newest(struct backup_base *base, struct repository_set *set,
                          struct catalog *catalog, const struct history *history, bool on_history,
                          struct error *err)
{
    for (size_t i = catalog->count; base->info == NULL && i-- > 0;) {
        bool may;

        if (lies_on(history, catalog->backups[i]) != on_history)
            continue;
        if (!may_build_on(set, catalog->backups[i], &may, err))
            return false;
        if (may) {
            base->info = catalog->backups[i];
            memmove(&catalog->backups[i], &catalog->backups[i + 1],
                    (catalog->count - i - 1) * sizeof(catalog->backups[i]));
            catalog->count--;
        }
    }
    return true;
}

static bool choose_from_catalog(struct backup_base *base, struct repository_set *set,
                                uint32_t timeline, struct error *err)
{
    struct repository *reader = repository_set_reader(set);
    struct history history = {.entries = NULL};
    struct catalog *catalog;
    bool known, ok;

    if (!catalog_read(reader, &catalog, err))
        return false;
    ok = wal_archive_history(reader, timeline, &history, &known, err) &&
         choose_newest(base, set, catalog, &history, true, err) &&
         (base->info != NULL || choose_newest(base, set, catalog, &history, false, err));
    history_free(&history);
    catalog_free(catalog);
    return ok;
}

bool backup_base_choose(struct backup_base *base, struct repository_set *set, const char *state_dir,
                        const struct control *control, struct error *err)
{
    struct error why = ERROR_INIT;

    if (choose_known(base, set, state_dir, &why) &&
        (base->info != NULL || choose_from_catalog(base, set, control->timeline, &why)))
        return true;
    drop(base);
    return store_everything(&why, "no backup to build on could be chosen", err);
}

/* A pack is locked for twice the duration from its storing on, which is not before its run began; what
 * is stored now, for one duration. */
static int64_t oldest_lent(const struct repository_set *set)
{
    int64_t oldest = 0;

    for (size_t i = 0; i < set->count; i++) {
        const struct config_lock *lock = &set->members[i].config->object_lock;
        const int64_t slack = lock->duration / 4 < LOCK_SLACK ? lock->duration / 4 : LOCK_SLACK;
        const int64_t run = (clock_now() + slack - lock->duration) / CLOCK_SECOND;

        if (lock->mode != CONFIG_LOCK_NONE && repository_set_has(set, i) && run > oldest)
            oldest = run;
    }
    return oldest;
}

/* What one repository is known to have damaged; or not to have. */
static void take_damage(const struct repository *repository, struct refs *damaged,
                        struct refs *missing)
{
    struct known_damage damage;

    known_damage_read(repository, &damage);
    for (size_t i = 0; i < damage.count; i++) {
        struct refs_pack pack = {.size = 0};

        if (layout_parse_pack(damage.findings[i].object, &pack.pack))
            refs_add(damage.findings[i].fault == VERIFY_MISSING ? missing : damaged, &pack);
    }
    known_damage_free(&damage);
}

/* A pack that is damaged anywhere cannot be built on there, as nothing mends it but a repair. One that is
 * missing is copied from another repository before the commit: only if none has it there is nothing to
 * build on. */
static void find_damaged(struct backup_base *base, const struct repository_set *set)
{
    struct refs missing = REFS_INIT;
    size_t members = 0, in_a_row = 0;

    for (size_t i = 0; i < set->count; i++)
        if (repository_set_has(set, i)) {
            take_damage(set->members[i].repository, &base->damaged, &missing);
            members++;
        }
    refs_sort(&missing);
    for (size_t i = 0; i < missing.count; i++) {
        const struct refs_pack *pack = &missing.packs[i];

        in_a_row =
            i > 0 && layout_compare_packs(&pack[-1].pack, &pack->pack) == 0 ? in_a_row + 1 : 1;
        if (in_a_row == members)
            refs_add(&base->damaged, pack);
    }
    refs_free(&missing);
    refs_sort(&base->damaged);
}

static void say_what_is_damaged(const struct backup_base *base)
{
    char run[CLOCK_COMPACT_SIZE];
    size_t count = 0;

    for (size_t i = 0; i < base->refs.count; i++)
        count += refs_find(&base->damaged, &base->refs.packs[i].pack) != NULL;
    if (count > 0)
        log_info("backup %s has %zu of its %zu packs damaged or missing, as verify found: what was "
                 "in them is stored anew",
                 layout_run_text(base->info->run, run), count, base->refs.count);
}

static bool read_base(struct backup_base *base, struct repository *reader, const char *state_dir,
                      struct error *err)
{
    const struct backup_info *info = base->info;

    if (!refs_fetch(reader, info->run, info->refs_sha256, &base->refs, err))
        return false;
    if (base->known != NULL) {
        memcpy(base->secret, known_files_meta(base->known)->secret, sizeof(base->secret));
        return true;
    }
    if (!manifest_fetch(reader, info->run, info->manifest_sha256, state_dir, &base->manifest, err))
        return false;
    memcpy(base->secret, manifest_meta(base->manifest)->secret, sizeof(base->secret));
    return true;
}

bool backup_base_open(struct backup_base *base, struct repository_set *set, const char *state_dir,
                      struct error *err)
{
    struct error why = ERROR_INIT;
    bool may;

    base->oldest_lent = oldest_lent(set);
    find_damaged(base, set);
    if (base->info == NULL)
        return true;
    if (may_build_on(set, base->info, &may, &why)) {
        if (may && read_base(base, repository_set_reader(set), state_dir, &why)) {
            say_what_is_damaged(base);
            return true;
        }
        if (!may)
            error_set(&why, ERROR_STORE, "it was deleted, or marked for deletion, a moment ago");
    }
    drop(base);
    return store_everything(&why, "the last backup cannot be built on", err);
}

void backup_base_close(struct backup_base *base)
{
    const unsigned doubts = atomic_load(&base->doubts);

    if (doubts > DOUBTS_SHOWN)
        log_warning("the maps of %u files could not be read; these files are stored whole", doubts);
    drop(base);
    refs_free(&base->refs);
    refs_free(&base->damaged);
    known_files_free(base->known);
    manifest_free(base->manifest);
    base->known = NULL;
    base->manifest = NULL;
}

struct giving {
    known_files_fn fn;
    void *context;
};

static bool give_row(const struct manifest_file *row, void *context, struct error *err)
{
    const struct giving *giving = context;
    const struct known_file file = {
        .path = row->path, .size = row->size, .crc32c = row->crc32c, .map = row->map};

    return row->size == 0 || giving->fn(&file, giving->context, err);
}

bool backup_base_each(const struct backup_base *base, known_files_fn fn, void *context,
                      struct error *err)
{
    struct giving giving = {.fn = fn, .context = context};

    if (base->known != NULL)
        return known_files_each(base->known, fn, context, err);
    return manifest_each(base->manifest, MANIFEST_BY_PATH, give_row, &giving, err);
}

bool backup_base_lends(const struct backup_base *base, const struct layout_pack *pack)
{
    const struct refs_pack *found = refs_find(&base->refs, pack);

    return found != NULL && pack->run >= base->oldest_lent &&
           refs_find(&base->damaged, pack) == NULL &&
           (uint64_t)found->live * 100 >= (uint64_t)found->blocks * LIVE_PERCENT;
}

void backup_base_doubt(struct backup_base *base, const char *path, const struct error *why)
{
    struct error said = *why;

    if (atomic_fetch_add(&base->doubts, 1) >= DOUBTS_SHOWN)
        return;
    error_context(&said, "file \"%s\" is stored whole, as its map cannot be read", path);
    log_error(LOG_WARNING, &said);
}
