/* wal_push.c - one WAL file into a repository */
#include "repo/wal_push.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/clock.h"
#include "pgvigil/debt.h"
#include "pgvigil/layout.h"
#include "pgvigil/mem.h"
#include "pgvigil/object.h"
#include "pgvigil/workers.h"
#include "repo/wal_source.h"

/* One file on its way into one repository. */
struct push {
    struct repository *repository;
    const struct wal_source *source;
    int level;
    enum trailer_kind kind;
    char object[LAYOUT_NAME_SIZE];
    unsigned char raw_sha256[DIGEST_SHA256_SIZE];
};

static bool push_conflict(const struct push *push, const struct trailer *existing,
                          struct error *err)
{
    char archived[DIGEST_SHA256_HEX_SIZE], here[DIGEST_SHA256_HEX_SIZE];

    error_set(err, ERROR_INTEGRITY,
              "%s \"%s\" is already in repository \"%s\" with another content",
              trailer_kind_name(push->kind), push->source->file, push->repository->name);
    error_detail(
        err, "archived: %" PRIu64 " bytes, SHA-256 %s; this file: %" PRIu64 " bytes, SHA-256 %s",
        existing->raw_length, digest_to_hex(existing->raw_sha256, DIGEST_SHA256_SIZE, archived),
        push->source->length, digest_to_hex(push->raw_sha256, DIGEST_SHA256_SIZE, here));
    return error_hint(err, "does another server with the same system identifier (a clone, an old "
                           "primary) archive here? Nothing was changed; find out which of the two "
                           "the database needs before removing either");
}

/* The name is taken: by the same content? Then it may be that of a push that was killed before it
 * could make the object safe, so that is done (again) here. */
static bool push_confirm(const struct push *push, const struct trailer *existing,
                         enum wal_outcome *outcome, struct error *err)
{
    if (existing->raw_length != push->source->length ||
        memcmp(existing->raw_sha256, push->raw_sha256, DIGEST_SHA256_SIZE) != 0)
        return push_conflict(push, existing, err);

    char *full = repository_object_name(push->repository, push->object);
    bool ok = store_sync(push->repository->store, full, err);

    free(full);
    *outcome = WAL_ALREADY_THERE;
    return ok;
}

/* *found is false when the name is free. */
static bool push_look(const struct push *push, struct trailer *existing, bool *found,
                      struct error *err)
{
    *found = object_trailer(push->repository, push->object, push->kind, existing, err);
    if (*found)
        return true;
    if (err->code == ERROR_NOT_FOUND) {
        error_clear(err);
        return true;
    }
    if (err->code == ERROR_INTEGRITY)
        error_hint(err, "nothing is overwritten: move the damaged object away, and the next try "
                        "stores it anew");
    return false;
}

struct push_feed {
    struct object_writer *writer;
    struct digest_sha256 *digest; /* of a partial segment: its name was made of it */
};

static bool push_write(const void *data, size_t length, void *context, struct error *err)
{
    struct push_feed *feed = context;

    if (feed->digest)
        digest_sha256_update(feed->digest, data, length);
    return object_writer_write(feed->writer, data, length, err);
}

/* A partial segment was read once before, for its name. */
static bool push_check_unchanged(const struct push *push, struct push_feed *feed, struct error *err)
{
    unsigned char sha256[DIGEST_SHA256_SIZE];

    if (!feed->digest)
        return true;
    digest_sha256_finish(feed->digest, sha256);
    return memcmp(sha256, push->raw_sha256, sizeof(sha256)) == 0 ||
           error_set(err, ERROR_INTEGRITY, "file \"%s\" changed while it was read",
                     push->source->path);
}

static bool push_write_object(struct push *push, enum store_outcome *outcome, struct error *err)
{
    struct push_feed feed = {.writer = NULL};
    struct trailer written;
    bool ok;

    if (!object_writer_begin(push->repository, push->object, push->kind, OBJECT_ZSTD, push->level,
                             &feed.writer, err))
        return false;
    feed.digest = push->kind == TRAILER_PARTIAL ? digest_sha256_new() : NULL;
    ok = wal_source_read(push->source, push_write, &feed, err) &&
         push_check_unchanged(push, &feed, err);
    digest_sha256_free(feed.digest);
    if (!ok) {
        object_writer_abort(feed.writer);
        return false;
    }
    if (!object_writer_commit(feed.writer, outcome, &written, err))
        return false;
    memcpy(push->raw_sha256, written.raw_sha256, DIGEST_SHA256_SIZE);
    return true;
}

/* Somebody was quicker, or a push before this one was killed: what is there? */
static bool push_compare(struct push *push, enum wal_outcome *outcome, struct error *err)
{
    struct trailer existing;
    bool found;

    if (!push_look(push, &existing, &found, err))
        return false;
    if (!found)
        return error_set(err, ERROR_STORE,
                         "object \"%s\" in repository \"%s\" vanished while it was compared",
                         push->object, push->repository->name);
    return push_confirm(push, &existing, outcome, err);
}

static bool push_prepare(struct push *push, uint64_t system_identifier, struct error *err)
{
    if (!wal_source_check(push->source, system_identifier, err))
        return false;
    if (push->kind == TRAILER_PARTIAL && !wal_source_digest(push->source, push->raw_sha256, err))
        return false;
    layout_wal_file(&push->source->name, push->source->file, push->raw_sha256, push->object);
    return true;
}

/* An outage is one repository's matter; a conflict, or our own trouble, is everybody's. */
static bool push_tolerate(struct repository_set *set, size_t member, struct error *err)
{
    if (err->code != ERROR_STORE)
        return false;
    repository_set_drop(set, member, err);
    error_clear(err);
    return true;
}

/* What each member has under the name, found out side by side. */
struct push_survey {
    struct repository_set *set;
    const struct push *push;
    struct push_found {
        struct trailer existing;
        bool there;
        struct error error;
    } * found; /* one for each member */
};

static bool push_survey_one(struct workers *workers, int number, void *context, struct error *err)
{
    const struct push_survey *survey = context;
    struct push_found *found = &survey->found[number];
    struct push push = *survey->push;

    (void)workers;
    (void)err;
    if (!repository_set_has(survey->set, (size_t)number))
        return true;
    push.repository = survey->set->members[number].repository;
    push_look(&push, &found->existing, &found->there, &found->error);
    return true;
}

/* One that does not answer must leave time for the others to be written to: half of it. */
static void push_set_deadline(const struct repository_set *set, const struct wal_source *source,
                              int parts)
{
    int64_t now = clock_monotonic(), left = source->deadline - now;

    if (source->deadline == 0 || set->count < 2)
        return;
    for (size_t i = 0; i < set->count; i++)
        if (repository_set_has(set, i))
            store_set_deadline(set->members[i].repository->store, now + left / parts);
}

/* A file that is there already is compared without compressing it first. */
static bool push_compare_found(struct push *push, const struct push_found *found, bool *digested,
                               struct error *err)
{
    enum wal_outcome outcome;

    if (!*digested && !wal_source_digest(push->source, push->raw_sha256, err))
        return false;
    *digested = true;
    return push_confirm(push, &found->existing, &outcome, err);
}

static bool push_judge_found(struct repository_set *set, struct push *push,
                             const struct push_survey *survey, bool *lacking, struct error *err)
{
    bool digested = push->kind == TRAILER_PARTIAL;

    for (size_t i = 0; i < set->count; i++) {
        const struct push_found *found = &survey->found[i];

        if (!repository_set_has(set, i))
            continue;
        push->repository = set->members[i].repository;
        *err = found->error;
        lacking[i] = err->code == ERROR_NONE && !found->there;
        if ((err->code != ERROR_NONE ||
             (found->there && !push_compare_found(push, found, &digested, err))) &&
            !push_tolerate(set, i, err))
            return false;
    }
    return true;
}

/* Chooses the members that do not have it yet; *any: there are some. */
static bool push_look_everywhere(struct repository_set *set, struct push *push, bool *lacking,
                                 bool *any, struct error *err)
{
    struct push_survey survey = {
        .set = set, .push = push, .found = mem_calloc(set->count, sizeof(*survey.found))};

    push_set_deadline(set, push->source, 2);
    bool ok = workers_run((int)set->count, push_survey_one, &survey, err) &&
              push_judge_found(set, push, &survey, lacking, err);

    push_set_deadline(set, push->source, 1);
    free(survey.found);
    *any = false;
    for (size_t i = 0; i < set->count; i++)
        *any = *any || lacking[i];
    return ok;
}

/* One that was away may have got what it is owed from another server: this one would go on from there. */
static bool push_check_owed(struct repository_set *set, const struct push *push,
                            const bool *lacking, struct error *err)
{
    for (size_t i = 0; push->kind == TRAILER_WAL && i < set->count; i++)
        if (lacking[i] && !debt_check_parted(set, i, push->source, err))
            return false;
    return true;
}

/* After the joint put: in those that had the name meanwhile, is it the same? */
static bool push_settle(struct repository_set *set, struct push *push, enum store_outcome joint,
                        struct error *err)
{
    enum wal_outcome ignored;

    repository_set_drop_failed(set);
    for (size_t i = 0; joint == STORE_TAKEN && i < set->count; i++) {
        if (!repository_set_has(set, i) || set->members[i].place < 0 ||
            repository_set_outcome(set, i, joint) == STORE_STORED)
            continue;
        push->repository = set->members[i].repository;
        if (!push_compare(push, &ignored, err) && !push_tolerate(set, i, err))
            return false;
    }
    return true;
}

/* One read, one compression, into all that lack it. */
static bool push_store(struct repository_set *set, struct push *push, const bool *lacking,
                       struct error *err)
{
    enum store_outcome stored;

    repository_set_join(set, lacking);
    push->repository = set->joint;
    if (push_write_object(push, &stored, err))
        return push_settle(set, push, stored, err);
    /* Nobody took it. One that is joined alone is left out here. */
    repository_set_drop_failed(set);
    for (size_t i = 0; i < set->count; i++)
        if (repository_set_has(set, i) && set->members[i].place >= 0)
            return push_tolerate(set, i, err);
    return true;
}

bool wal_push(struct repository_set *set, const struct wal_source *source, int level,
              enum wal_outcome *outcome, char object[LAYOUT_NAME_SIZE], struct error *err)
{
    struct push push = {
        .source = source,
        .level = level,
        .kind = wal_source_kind(source->name.kind),
    };
    bool *lacking = mem_calloc(set->count, sizeof(*lacking));
    uint64_t identifier = 0;
    bool any = false;

    for (size_t i = 0; i < set->count; i++)
        if (repository_set_has(set, i))
            identifier = set->members[i].repository->system_identifier;

    bool ok = push_prepare(&push, identifier, err) &&
              push_look_everywhere(set, &push, lacking, &any, err) &&
              push_check_owed(set, &push, lacking, err) &&
              (!any || push_store(set, &push, lacking, err));

    *outcome = any ? WAL_STORED : WAL_ALREADY_THERE;
    memcpy(object, push.object, LAYOUT_NAME_SIZE);
    free(lacking);
    return ok;
}
