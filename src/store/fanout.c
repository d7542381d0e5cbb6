/* fanout.c - one store that writes into several at once */
#include "store/fanout.h"

#include <pthread.h>
#include <stdlib.h>

#include "pgvigil/mem.h"
#include "pgvigil/workers.h"

struct member {
    struct store *store;
    enum store_outcome outcome; /* of its last put */
    bool out;
    struct error error; /* if out */
};

struct fanout {
    struct store base;
    pthread_mutex_t lock; /* guards the members' outcomes and errors */
    size_t count;
    struct member *members;
};

/* One object on its way into all members. */
struct spread {
    struct fanout *fanout;
    const char *name;
    enum store_use use;
    const struct store_body *body;
};

static bool fanout_is_out(struct fanout *fanout, size_t member)
{
    pthread_mutex_lock(&fanout->lock);
    bool out = fanout->members[member].out;
    pthread_mutex_unlock(&fanout->lock);
    return out;
}

/* Into one member. Its failure is its own; only the end of the process is everybody's. */
static bool fanout_put_one(struct workers *workers, int number, void *context, struct error *err)
{
    const struct spread *spread = context;
    struct fanout *fanout = spread->fanout;
    struct member *member = &fanout->members[number];
    enum store_outcome outcome;
    struct error failure = ERROR_INIT;

    (void)workers;
    if (fanout_is_out(fanout, (size_t)number))
        return true;

    bool ok =
        store_put_body(member->store, spread->name, spread->use, spread->body, &outcome, &failure);

    if (!ok && failure.code == ERROR_CANCELLED) {
        *err = failure;
        return false;
    }
    pthread_mutex_lock(&fanout->lock);
    if (ok) {
        member->outcome = outcome;
    } else if (!member->out) {
        member->out = true;
        member->error = failure;
    }
    pthread_mutex_unlock(&fanout->lock);
    return true;
}

static bool fanout_sum_up(struct fanout *fanout, enum store_outcome *outcome, struct error *err)
{
    bool any = false;

    *outcome = STORE_STORED;
    pthread_mutex_lock(&fanout->lock);
    for (size_t i = 0; i < fanout->count; i++) {
        const struct member *member = &fanout->members[i];

        if (member->out) {
            *err = any ? *err : member->error;
            continue;
        }
        any = true;
        if (member->outcome == STORE_TAKEN)
            *outcome = STORE_TAKEN;
    }
    pthread_mutex_unlock(&fanout->lock);
    if (any)
        error_clear(err);
    return any;
}

static bool fanout_put_whole(struct store *store, const char *name, enum store_use use,
                             const struct store_body *body, enum store_outcome *outcome,
                             struct error *err)
{
    struct fanout *fanout = (struct fanout *)store;
    struct spread spread = {.fanout = fanout, .name = name, .use = use, .body = body};

    return workers_run((int)fanout->count, fanout_put_one, &spread, err) &&
           fanout_sum_up(fanout, outcome, err);
}

bool fanout_failure(const struct store *store, size_t member, struct error *err)
{
    struct fanout *fanout = (struct fanout *)(uintptr_t)store;
    bool out = fanout_is_out(fanout, member);

    if (out)
        *err = fanout->members[member].error;
    return out;
}

enum store_outcome fanout_outcome(const struct store *store, size_t member)
{
    return ((const struct fanout *)store)->members[member].outcome;
}

static void fanout_close(struct store *store)
{
    struct fanout *fanout = (struct fanout *)store;

    pthread_mutex_destroy(&fanout->lock);
    free(fanout->members);
    free(store->url);
    free(store);
}

static const struct store_driver fanout_driver = {
    .scheme = "fanout",
    .put_whole = fanout_put_whole,
    .close = fanout_close,
};

struct store *fanout_new(struct store *const *members, size_t count, const char *url)
{
    struct fanout *fanout = mem_calloc(1, sizeof(*fanout));

    fanout->base.driver = &fanout_driver;
    fanout->base.url = mem_strdup(url);
    fanout->count = count;
    fanout->members = mem_calloc(count, sizeof(*fanout->members));
    for (size_t i = 0; i < count; i++)
        fanout->members[i].store = members[i];
    pthread_mutex_init(&fanout->lock, NULL);
    return &fanout->base;
}
