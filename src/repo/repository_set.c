/* repository_set.c - the repositories of one cluster as a whole */
#include "pgvigil/repository_set.h"

#include <stdlib.h>
#include <string.h>

#include "pgvigil/clock.h"
#include "pgvigil/mem.h"
#include "pgvigil/outage.h"
#include "pgvigil/workers.h"

void repository_set_drop(struct repository_set *set, size_t member, const struct error *why)
{
    struct repository_set_member *one = &set->members[member];

    one->error = *why;
    one->out = true;
    outage_note(set->config, one->config->name, why);
}

bool repository_set_why(const struct repository_set *set, size_t member, struct error *err)
{
    char *name = mem_printf("repository \"%s\"", set->members[member].config->name);

    *err = set->members[member].error;
    if (set->count > 1 && strstr(err->message, name) == NULL)
        error_context(err, "%s", name);
    free(name);
    return false;
}

bool repository_set_has(const struct repository_set *set, size_t member)
{
    return set->members[member].repository != NULL && !set->members[member].out;
}

bool repository_set_why_few(const struct repository_set *set, struct error *err)
{
    struct error why;
    bool first = true;

    for (size_t i = 0; i < set->count; i++) {
        if (repository_set_has(set, i))
            continue;
        repository_set_why(set, i, &why);
        if (first)
            *err = why;
        else
            error_detail(err, "%s%s%s", err->detail, err->detail[0] != '\0' ? "; " : "",
                         why.message);
        first = false;
    }
    return false;
}

/* Is it worth a minute's pause until the next try? */
static bool is_outage(const struct error *err)
{
    return err->code == ERROR_STORE || err->code == ERROR_SYSTEM || err->code == ERROR_TIMEOUT;
}

struct opening {
    struct repository_set *set;
    const bool *wanted;
    uint64_t system_identifier;
    int64_t deadline; /* of opening alone */
    int64_t whole;    /* of everything */
};

/* One that does not answer must not use up the time that the others need to be written to. */
static int64_t opening_deadline(const struct repository_set *set, int64_t deadline)
{
    int64_t now = clock_monotonic();

    return deadline == 0 || set->count < 2 || deadline <= now ? deadline
                                                              : now + (deadline - now) / 4;
}

static bool open_to_write(const struct opening *opening, struct repository_set_member *member)
{
    const int64_t deadline =
        outage_deadline(opening->set->config, member->config->name, opening->deadline);

    if (!repository_open_until(opening->set->config, member->config, deadline, &member->repository,
                               &member->error)) {
        member->repository = NULL;
        return false;
    }
    if (repository_check_recipients(member->repository, &member->error))
        return true;
    repository_close(member->repository);
    member->repository = NULL;
    return false;
}

/* What stands in the way of one, whether that passes or has to be mended, is no reason to keep WAL from
 * the others. */
static bool open_one(struct workers *workers, int number, void *context, struct error *err)
{
    const struct opening *opening = context;
    struct repository_set_member *member = &opening->set->members[number];

    (void)workers;
    if (!opening->wanted[number])
        return true;
    if (!open_to_write(opening, member)) {
        if (member->error.code == ERROR_CANCELLED)
            *err = member->error;
        return member->error.code != ERROR_CANCELLED;
    }
    store_set_deadline(member->repository->store, opening->whole);
    repository_select(member->repository, opening->system_identifier);
    error_clear(&member->error);
    return true;
}

/* Opens those wanted; the others stay as they are. */
static bool open_wanted(struct repository_set *set, const bool *wanted, uint64_t system_identifier,
                        int64_t deadline, struct error *err)
{
    struct opening opening = {.set = set,
                              .wanted = wanted,
                              .system_identifier = system_identifier,
                              .deadline = opening_deadline(set, deadline),
                              .whole = deadline};

    if (!workers_run((int)set->count, open_one, &opening, err))
        return false;
    for (size_t i = 0; i < set->count; i++) {
        const struct repository_set_member *member = &set->members[i];

        if (!wanted[i])
            continue;
        if (member->repository)
            outage_end(set->config, member->config->name);
        else if (is_outage(&member->error))
            outage_note(set->config, member->config->name, &member->error);
    }
    return true;
}

/* One place under two names would count as two that have a segment. */
static bool check_apart(const struct repository_set *set, struct error *err)
{
    for (size_t i = 0; i < set->count; i++)
        for (size_t j = 0; j < i; j++) {
            const struct repository *one = set->members[j].repository;
            const struct repository *other = set->members[i].repository;

            if (one == NULL || other == NULL || strcmp(one->id, other->id) != 0)
                continue;
            error_set(err, ERROR_CONFIG,
                      "repositories \"%s\" and \"%s\" are the same one, with id %s", one->name,
                      other->name, one->id);
            return error_hint(err,
                              "one copy is lost with its place: give each a \"url\" of its own, "
                              "and never copy a pgvigil.json");
        }
    return true;
}

static size_t count_open(const struct repository_set *set)
{
    size_t open = 0;

    for (size_t i = 0; i < set->count; i++)
        open += repository_set_has(set, i);
    return open;
}

/* Chooses whom to ask at first: true for some if others are skipped. */
static bool choose(struct repository_set *set, enum repository_set_patience patience, bool *wanted)
{
    bool skipped = false;

    for (size_t i = 0; i < set->count; i++) {
        struct repository_set_member *member = &set->members[i];

        wanted[i] = patience == REPOSITORY_SET_ASK_ALL ||
                    !outage_is_recent(set->config, member->config->name);
        if (wanted[i])
            continue;
        skipped = true;
        outage_error(set->config, member->config->name, &member->error);
    }
    return skipped;
}

static bool open_enough(struct repository_set *set, enum repository_set_patience patience,
                        uint64_t system_identifier, int64_t deadline, size_t enough,
                        struct error *err)
{
    bool *wanted = mem_calloc(set->count, sizeof(*wanted));
    bool skipped = choose(set, patience, wanted);
    bool ok = open_wanted(set, wanted, system_identifier, deadline, err);

    if (ok && skipped && count_open(set) < enough) {
        for (size_t i = 0; i < set->count; i++)
            wanted[i] = !wanted[i];
        ok = open_wanted(set, wanted, system_identifier, deadline, err);
    }
    free(wanted);
    ok = ok && check_apart(set, err);
    return ok && (count_open(set) > 0 || repository_set_why_few(set, err));
}

bool repository_set_open(const struct config *config, enum repository_set_patience patience,
                         uint64_t system_identifier, int64_t deadline, int enough,
                         struct repository_set *set, struct error *err)
{
    *set = (struct repository_set){.config = config};
    set->members = mem_calloc(config->repository_count, sizeof(*set->members));
    for (size_t i = 0; i < config->repository_count; i++)
        if (config->repositories[i].copy == CONFIG_COPY_SYNC)
            set->members[set->count++] =
                (struct repository_set_member){.config = &config->repositories[i], .place = -1};
    if (open_enough(set, patience, system_identifier, deadline, (size_t)enough, err)) {
        error_clear(err);
        return true;
    }
    repository_set_close(set);
    return false;
}

/* The only one joined is its own joint. */
static bool is_own(const struct repository_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->members[i].repository && set->members[i].repository == set->joint)
            return true;
    return false;
}

static void part(struct repository_set *set)
{
    if (set->joint && !is_own(set))
        repository_close(set->joint);
    set->joint = NULL;
    for (size_t i = 0; i < set->count; i++)
        set->members[i].place = -1;
}

void repository_set_close(struct repository_set *set)
{
    part(set);
    for (size_t i = 0; i < set->count; i++) {
        if (set->members[i].repository)
            set->members[i].repository->sibling = NULL;
        repository_close(set->members[i].repository);
    }
    free(set->members);
    *set = (struct repository_set){.config = NULL};
}

struct repository *repository_set_reader(struct repository_set *set)
{
    struct repository *first = NULL, *last = NULL;

    for (size_t i = 0; i < set->count; i++) {
        if (!repository_set_has(set, i))
            continue;
        if (last)
            last->sibling = set->members[i].repository;
        last = set->members[i].repository;
        last->sibling = NULL;
        first = first ? first : last;
    }
    return first;
}

void repository_set_join(struct repository_set *set, const bool *chosen)
{
    struct repository **joined = mem_calloc(set->count, sizeof(struct repository *));
    int count = 0;

    part(set);
    for (size_t i = 0; i < set->count; i++)
        if (repository_set_has(set, i) && (!chosen || chosen[i])) {
            set->members[i].place = count;
            joined[count++] = set->members[i].repository;
        }
    set->joint = count == 1 ? joined[0] : repository_join(joined, (size_t)count);
    free(joined);
}

size_t repository_set_drop_failed(struct repository_set *set)
{
    struct error why;

    for (size_t i = 0; set->joint && !is_own(set) && i < set->count; i++)
        if (repository_set_has(set, i) && set->members[i].place >= 0 &&
            repository_joined_failure(set->joint, (size_t)set->members[i].place, &why))
            repository_set_drop(set, i, &why);
    return count_open(set);
}

enum store_outcome repository_set_outcome(const struct repository_set *set, size_t member,
                                          enum store_outcome joint)
{
    return is_own(set) ? joint
                       : repository_joined_outcome(set->joint, (size_t)set->members[member].place);
}
