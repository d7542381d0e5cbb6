/*
 * wal_union.c - the WAL of a repository and its siblings, taken together
 */
#include "pgvigil/wal_union.h"

#include <stdlib.h>
#include <string.h>

#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/repository_ask.h"
#include "pgvigil/workers.h"

/* -- segments ----------------------------------------------------------------------------------- */

struct listing {
    struct wal_union_member *members;
    struct error *errors; /* of each; ERROR_NONE: it was listed */
};

static bool list_one(struct workers *workers, int number, void *context, struct error *err)
{
    struct listing *listing = context;
    struct wal_union_member *member = &listing->members[number];

    (void)workers;
    (void)err;
    wal_archive_ranges(member->repository, 0, &member->ranges, &listing->errors[number]);
    return true;
}

static int compare_ranges(const void *a, const void *b)
{
    const struct wal_range *left = a, *right = b;

    if (left->timeline != right->timeline)
        return left->timeline < right->timeline ? -1 : 1;
    return (left->first > right->first) - (left->first < right->first);
}

/* What overlaps or follows each other becomes one. */
static void unite(struct wal_union *all)
{
    struct wal_ranges *ranges = &all->ranges;
    size_t count = 0, kept = 0;

    for (size_t i = 0; i < all->count; i++)
        count += all->members[i].ranges.count;
    ranges->ranges = mem_calloc(count + 1, sizeof(*ranges->ranges));
    for (size_t i = 0; i < all->count; i++)
        for (size_t j = 0; j < all->members[i].ranges.count; j++)
            ranges->ranges[ranges->count++] = all->members[i].ranges.ranges[j];
    qsort(ranges->ranges, count, sizeof(*ranges->ranges), compare_ranges);
    for (size_t i = 0; i < count; i++) {
        const struct wal_range range = ranges->ranges[i];
        struct wal_range *last = kept > 0 ? &ranges->ranges[kept - 1] : NULL;

        if (last == NULL || last->timeline != range.timeline || range.first > last->last + 1)
            ranges->ranges[kept++] = range;
        else if (range.last > last->last)
            last->last = range.last;
    }
    ranges->count = kept;
}

static bool take_size(struct wal_union *all, const struct wal_union_member *member,
                      struct error *err)
{
    const uint32_t size = member->ranges.segment_size;

    if (all->ranges.segment_size == 0)
        all->ranges.segment_size = size;
    return size == 0 || size == all->ranges.segment_size ||
           error_set(err, ERROR_INTEGRITY, "its segments have %u bytes, those elsewhere %u", size,
                     all->ranges.segment_size);
}

static bool take_listed(struct wal_union *all, size_t asked, struct error *errors,
                        struct error *err)
{
    bool ok = true;

    for (size_t i = 0; i < asked; i++) {
        struct wal_union_member *member = &all->members[i];

        if (ok && errors[i].code == ERROR_NONE && take_size(all, member, &errors[i])) {
            all->members[all->count++] = *member;
            continue;
        }
        wal_archive_free_ranges(&member->ranges);
        if (i == 0)
            *err = errors[i];
        ok = ok && i > 0 && repository_ask_leave_out(member->repository, "WAL", &errors[i], err);
    }
    return ok;
}

bool wal_union_list(struct repository *repository, struct wal_union *all, struct error *err)
{
    struct listing listing;
    size_t count = 0, i = 0;
    bool ok;

    for (struct repository *one = repository; one != NULL; one = repository_ask_next(one))
        count++;
    *all = (struct wal_union){.members = mem_calloc(count, sizeof(*all->members))};
    for (struct repository *one = repository; one != NULL; one = repository_ask_next(one))
        all->members[i++].repository = one;
    listing.members = all->members;
    listing.errors = mem_calloc(count, sizeof(*listing.errors));
    if (!workers_run((int)count, list_one, &listing, err))
        listing.errors[0] = *err;
    ok = take_listed(all, count, listing.errors, err);
    free(listing.errors);
    if (ok)
        unite(all);
    else
        wal_union_free(all);
    return ok;
}

void wal_union_free(struct wal_union *all)
{
    for (size_t i = 0; i < all->count; i++)
        wal_archive_free_ranges(&all->members[i].ranges);
    free(all->members);
    wal_archive_free_ranges(&all->ranges);
    *all = (struct wal_union){.members = NULL};
}

struct repository *wal_union_holder(const struct wal_union *all, struct repository *preferred,
                                    uint32_t timeline, uint64_t segment)
{
    struct repository *holder = NULL;

    for (size_t i = 0; i < all->count; i++) {
        const struct wal_union_member *member = &all->members[i];

        if (wal_archive_in_ranges(&member->ranges, timeline, segment) &&
            (holder == NULL || member->repository == preferred ||
             (holder != preferred && atomic_load(&holder->was_silent))))
            holder = member->repository;
    }
    return holder != NULL ? holder : preferred;
}

/* -- timelines ---------------------------------------------------------------------------------- */

struct timelines {
    uint32_t *timelines;
    size_t count;
};

static bool add_timelines(struct repository *repository, void *context, struct error *err)
{
    struct timelines *all = context;
    uint32_t *more;
    size_t count;

    if (!wal_archive_timelines(repository, &more, &count, err))
        return false;
    all->timelines = mem_realloc(all->timelines, (all->count + count + 1) * sizeof(*more));
    for (size_t i = 0; i < count; i++)
        all->timelines[all->count++] = more[i];
    free(more);
    return true;
}

bool wal_union_timelines(struct repository *repository, uint32_t **timelines, size_t *count,
                         struct error *err)
{
    struct timelines all = {.timelines = NULL};
    bool ok = repository_ask_each(repository, "WAL", add_timelines, &all, err);

    if (!ok) {
        free(all.timelines);
        all = (struct timelines){.timelines = NULL};
    }
    *timelines = all.timelines;
    *count = all.count;
    return ok;
}

struct history_wanted {
    const struct repository *first;
    uint32_t timeline;
    struct history *history;
};

static bool refuse_silent(const struct repository *repository, struct error *err)
{
    return error_set(err, ERROR_STORE, "repository \"%s\" did not answer before", repository->name);
}

static bool fetch_history(struct repository *repository, void *context, struct error *err)
{
    const struct history_wanted *wanted = context;
    char file[WAL_NAME_SIZE];
    bool known;

    if (repository != wanted->first && atomic_load(&repository->was_silent))
        return refuse_silent(repository, err);
    if (!wal_archive_history(repository, wanted->timeline, wanted->history, &known, err))
        return false;
    if (known)
        return true;
    history_free(wanted->history);
    return error_set(err, ERROR_NOT_FOUND, "there is no \"%s\" in repository \"%s\"",
                     wal_history_name(wanted->timeline, file), repository->name);
}

bool wal_union_history(struct repository *repository, uint32_t timeline, struct history *history,
                       bool *known, struct error *err)
{
    struct history_wanted wanted = {.first = repository, .timeline = timeline, .history = history};

    *known = timeline > 1 && repository_ask(repository, fetch_history, &wanted, err);
    if (*known || (timeline > 1 && err->code != ERROR_NOT_FOUND))
        return *known;
    /* Another one was asked before the first, which may have it. */
    if (timeline > 1 && atomic_load(&repository->was_silent))
        return refuse_silent(repository, err);
    error_clear(err);
    return history_parse(timeline, NULL, 0, history, err);
}

struct any_wanted {
    uint32_t timeline;
    bool *any;
};

static bool has_any(struct repository *repository, void *context, struct error *err)
{
    const struct any_wanted *wanted = context;

    return *wanted->any ||
           wal_archive_has_later(repository, wanted->timeline, NULL, wanted->any, err);
}

bool wal_union_has_any(struct repository *repository, uint32_t timeline, bool *any,
                       struct error *err)
{
    struct any_wanted wanted = {.timeline = timeline, .any = any};

    *any = false;
    return repository_ask_each(repository, "WAL", has_any, &wanted, err);
}
