/*
 * backup_takeover.c - the packs of a backup that was interrupted, taken over by the next one
 */
#include "job/backup_takeover.h"

#include <stdlib.h>
#include <string.h>

#include "pgvigil/backup_info.h"
#include "pgvigil/clock.h"
#include "pgvigil/config.h"
#include "pgvigil/files.h"
#include "pgvigil/log.h"
#include "pgvigil/marks.h"
#include "pgvigil/mem.h"
#include "pgvigil/units.h"

/* Certificates are small. */
#define RECIPIENT_MAXIMUM ((size_t)1024 * 1024)

/* Whom packs are encrypted for now. Those for others would keep a key in use that is about to go. */
static void digest_recipients(const struct config *config, unsigned char sha256[DIGEST_SHA256_SIZE])
{
    const struct config_paths *paths = &config->encryption.recipients;
    struct buffer text = BUFFER_INIT;
    struct error ignored = ERROR_INIT; /* whoever encrypts will tell */

    for (size_t i = 0; i < paths->count; i++)
        files_read(paths->paths[i], RECIPIENT_MAXIMUM, &text, &ignored);
    digest_sha256(text.data, text.length, sha256);
    buffer_free(&text);
}

/* What this backup would have noted. */
static void describe(struct unfinished_meta *meta, struct repository_set *set,
                     const struct backup_base *base)
{
    *meta =
        (struct unfinished_meta){.system_identifier = repository_set_reader(set)->system_identifier,
                                 .alone = base->info == NULL};
    memcpy(meta->secret, base->secret, sizeof(meta->secret));
    digest_recipients(set->config, meta->recipients);
}

/* Without base each has a secret of its own, and the older one will do. */
static bool fits(const struct unfinished_meta *there, const struct unfinished_meta *wanted)
{
    return there->system_identifier == wanted->system_identifier && there->alone == wanted->alone &&
           memcmp(there->recipients, wanted->recipients, sizeof(there->recipients)) == 0 &&
           (there->alone || memcmp(there->secret, wanted->secret, sizeof(there->secret)) == 0);
}

/* What has been committed all the same is left to the base, which counts how much of it is in use. */
static void find_candidates(struct refs *packs, const struct refs *stored,
                            const struct backup_base *base)
{
    for (size_t i = 0; i < stored->count; i++)
        if (stored->packs[i].pack.run >= base->oldest_lent &&
            refs_find(&base->damaged, &stored->packs[i].pack) == NULL &&
            refs_find(&base->refs, &stored->packs[i].pack) == NULL)
            refs_add(packs, &stored->packs[i]);
}

static void drop_run(struct refs *packs, int64_t run)
{
    size_t kept = 0;

    for (size_t i = 0; i < packs->count; i++)
        if (packs->packs[i].pack.run != run)
            packs->packs[kept++] = packs->packs[i];
    packs->count = kept;
}

/* Calls it for each run that has packs among these. It may drop those of that run. */
typedef bool (*run_fn)(struct refs *packs, int64_t run, void *context, struct error *err);

static bool each_run(struct refs *packs, run_fn fn, void *context, struct error *err)
{
    int64_t last = -1;

    for (size_t i = 0; i < packs->count;) {
        const int64_t run = packs->packs[i].pack.run;
        const size_t before = packs->count;

        if (run != last && !fn(packs, run, context, err))
            return false;
        last = run;
        i += packs->count == before;
    }
    return true;
}

static bool claim(struct refs *packs, int64_t run, void *context, struct error *err)
{
    (void)packs;
    return run_claim(context, run, err);
}

/* A process may die between its commit and its last breath. */
static bool drop_committed(struct refs *packs, int64_t run, void *context, struct error *err)
{
    struct backup_info *info;

    if (backup_info_fetch(context, run, &info, err)) {
        backup_info_free(info);
        drop_run(packs, run);
        return true;
    }
    if (err->code != ERROR_NOT_FOUND)
        return false;
    error_clear(err);
    return true;
}

static bool drop_marked(struct refs *packs, int64_t run, void *context, struct error *err)
{
    (void)err;
    if (marks_expired(context, run))
        drop_run(packs, run);
    return true;
}

static bool drop_lacking(struct refs *packs, struct repository *repository, struct error *err)
{
    bool *lacking = mem_calloc(packs->count + 1, sizeof(*lacking));
    size_t count, kept = 0;
    bool ok = refs_find_lacking(repository, packs, lacking, &count, err);

    for (size_t i = 0; ok && i < packs->count; i++)
        if (!lacking[i])
            packs->packs[kept++] = packs->packs[i];
    if (ok)
        packs->count = kept;
    free(lacking);
    return ok;
}

/* Marks first: what is there, and not marked, stays. */
static bool prove_in(struct refs *packs, struct repository *repository, struct error *err)
{
    struct marks *marks;
    bool ok;

    if (!each_run(packs, drop_committed, repository, err) || !marks_read(repository, &marks, err))
        return false;
    ok = each_run(packs, drop_marked, marks, err) && drop_lacking(packs, repository, err);
    marks_free(marks);
    return ok;
}

static bool prove(struct refs *packs, struct repository_set *set, struct run *run,
                  struct error *err)
{
    bool ok = each_run(packs, claim, run, err);

    repository_set_drop_failed(set);
    for (size_t i = 0; ok && i < set->count; i++)
        ok = !repository_set_has(set, i) || prove_in(packs, set->members[i].repository, err);
    return ok;
}

static void say(const struct refs *packs)
{
    char bytes[UNITS_TEXT_SIZE], run[CLOCK_COMPACT_SIZE];
    uint64_t sum = 0;

    for (size_t i = 0; i < packs->count; i++)
        sum += packs->packs[i].size;
    log_info("goes on where backup %s was interrupted: %zu pack%s, %s, there already",
             layout_run_text(packs->packs[packs->count - 1].pack.run, run), packs->count,
             packs->count == 1 ? "" : "s", units_format_size(sum, bytes));
}

void backup_takeover_close(struct backup_takeover *takeover)
{
    refs_free(&takeover->packs);
    unfinished_close(takeover->unfinished);
    takeover->unfinished = NULL;
}

/* Opens what is remembered, if it is of use, and finds out which packs are. */
static bool take_over(struct backup_takeover *takeover, struct repository_set *set, struct run *run,
                      const struct backup_base *base, const struct unfinished_meta *wanted,
                      struct error *err)
{
    if (!unfinished_open(set->config->state_dir, &takeover->unfinished, err)) {
        if (err->code != ERROR_NOT_FOUND)
            return false;
        error_clear(err);
        return true;
    }
    if (fits(unfinished_meta(takeover->unfinished), wanted)) {
        find_candidates(&takeover->packs, unfinished_packs(takeover->unfinished), base);
        if (!prove(&takeover->packs, set, run, err))
            return false;
    }
    if (takeover->packs.count == 0)
        backup_takeover_close(takeover);
    return true;
}

/* What cannot be noted can only not be taken over. */
static void begin_new(struct backup_takeover *takeover, const char *state_dir,
                      const struct unfinished_meta *meta)
{
    struct error err = ERROR_INIT;

    if (unfinished_new(state_dir, meta, &takeover->unfinished, &err))
        return;
    error_context(&err, "if this backup is interrupted, the next one stores everything again");
    log_error(LOG_WARNING, &err);
}

bool backup_takeover_open(struct backup_takeover *takeover, struct repository_set *set,
                          struct run *run, struct backup_base *base, struct error *err)
{
    struct unfinished_meta meta;
    struct error why = ERROR_INIT;

    if (base->info == NULL && !digest_random(base->secret, sizeof(base->secret), err))
        return false;
    describe(&meta, set, base);
    if (!take_over(takeover, set, run, base, &meta, &why)) {
        if (why.code == ERROR_CANCELLED) {
            *err = why;
            return false;
        }
        error_context(&why, "what an interrupted backup has stored cannot be taken over");
        log_error(LOG_WARNING, &why);
        refs_free(&takeover->packs);
    }
    if (takeover->packs.count > 0)
        say(&takeover->packs);
    /* What could not be taken over this time may be the next. */
    if (takeover->unfinished == NULL)
        begin_new(takeover, set->config->state_dir, &meta);
    else
        memcpy(base->secret, unfinished_meta(takeover->unfinished)->secret, sizeof(base->secret));
    return true;
}
