/* retry.c - a store that tries again */
#include "store/retry.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/clock.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"
#include "pgvigil/units.h"

#define FIRST_WAIT (CLOCK_SECOND / 4)
#define LONGEST_WAIT (16 * CLOCK_SECOND)
#define SHORTEST                                                                                   \
    (CLOCK_SECOND / 2) /* less is no attempt: its end would hide why the others failed */
#define ANNOUNCED (3 * CLOCK_SECOND) /* who waits longer than this wants to know for what */
#define NAP (CLOCK_SECOND / 5) /* so long until a signal is seen that came just before a sleep */

struct retry {
    struct store base;
    int64_t timeout;
    atomic_bool announced; /* that it is waited for: once is enough */
};

/* One request. */
struct attempts {
    struct store *store;
    int64_t start;
    int64_t wait; /* before the next one, as a maximum */
    int count;    /* of those that failed */
};

static struct attempts attempts_begin(struct store *store)
{
    store->inner->deadline = store->deadline;
    return (struct attempts){
        .store = store, .start = clock_monotonic(), .wait = FIRST_WAIT, .count = 0};
}

static int64_t attempts_end(const struct attempts *attempts)
{
    int64_t end = attempts->start + ((struct retry *)attempts->store)->timeout;
    int64_t deadline = attempts->store->deadline;

    return deadline != 0 && deadline < end ? deadline : end;
}

static bool attempts_sleep(int64_t until, struct error *err)
{
    while (clock_monotonic() < until) {
        int64_t left = until - clock_monotonic();

        if (!process_check(err))
            return false;
        clock_sleep(left < NAP ? left : NAP);
    }
    return process_check(err);
}

/* The waits of many hosts should differ; nothing else hangs on this. */
static int64_t attempts_spread(int64_t wait)
{
    return wait / 2 +
           (int64_t)((uint64_t)clock_monotonic() * UINT64_C(2654435761) % (uint64_t)(wait / 2 + 1));
}

static bool attempts_give_up(const struct attempts *attempts, struct error *err)
{
    char took[UNITS_TEXT_SIZE];
    char message[sizeof(err->message)];

    memcpy(message, err->message, sizeof(message));
    snprintf(err->message, sizeof(err->message), "%.*s, %d attempt%s in %s",
             (int)sizeof(message) - 64, message, attempts->count, attempts->count == 1 ? "" : "s",
             units_format_duration(clock_monotonic() - attempts->start, took));
    err->transient = false;
    if (err->hint[0] == '\0')
        error_hint(err, "it did not pass in the time that \"timeout\" allows; nothing is lost by "
                        "trying again later");
    return false;
}

static void attempts_announce(const struct attempts *attempts, const struct error *err)
{
    struct retry *retry = (struct retry *)attempts->store;
    const int64_t now = clock_monotonic();
    char text[CLOCK_TEXT_SIZE];

    if (now - attempts->start >= ANNOUNCED && !atomic_exchange(&retry->announced, true))
        log_warning("%s; trying again until %s", err->message,
                    clock_format_local(clock_now() + attempts_end(attempts) - now, text));
}

/* After a failure: is there another try? Waits for it. */
static bool attempts_again(struct attempts *attempts, struct error *err)
{
    char text[UNITS_TEXT_SIZE];

    attempts->count++;
    if (!err->transient)
        return attempts->count > 1 && err->code == ERROR_STORE ? attempts_give_up(attempts, err)
                                                               : false;

    int64_t wait = attempts_spread(attempts->wait);
    if (wait < err->retry_after)
        wait = err->retry_after;
    if (clock_monotonic() + wait + SHORTEST >= attempts_end(attempts))
        return attempts_give_up(attempts, err);
    log_debug("%s; trying again in %s", err->message, units_format_duration(wait, text));
    attempts_announce(attempts, err);
    attempts->wait = attempts->wait * 2 < LONGEST_WAIT ? attempts->wait * 2 : LONGEST_WAIT;
    if (!attempts_sleep(clock_monotonic() + wait, err))
        return false;
    error_clear(err);
    return true;
}

/* Is what lies under a name the body that was to be stored? */
struct comparison {
    const struct store_body *body;
    uint64_t offset;
    bool differs;
};

static bool retry_compare(const void *data, size_t length, void *context, struct error *err)
{
    struct comparison *comparison = context;
    const unsigned char *bytes = data;
    unsigned char ours[4096];

    while (length > 0) {
        size_t part = length < sizeof(ours) ? length : sizeof(ours);

        if (part > comparison->body->length - comparison->offset) {
            comparison->differs = true;
            return true;
        }
        if (!comparison->body->read(comparison->body, comparison->offset, ours, part, err))
            return false;
        comparison->differs = comparison->differs || memcmp(ours, bytes, part) != 0;
        comparison->offset += part;
        bytes += part;
        length -= part;
    }
    return true;
}

static bool retry_is_ours(struct store *store, const char *name, const struct store_body *body,
                          enum store_outcome *outcome, struct error *err)
{
    struct comparison comparison = {.body = body};

    if (!store_get(store, name, 0, UINT64_MAX, retry_compare, &comparison, err))
        return false;
    if (!comparison.differs && comparison.offset == body->length)
        *outcome = STORE_STORED;
    return true;
}

static bool retry_put_whole(struct store *store, const char *name, enum store_use use,
                            const struct store_body *body, enum store_outcome *outcome,
                            struct error *err)
{
    struct attempts attempts = attempts_begin(store);

    while (!store_put_body(store->inner, name, use, body, outcome, err))
        if (!attempts_again(&attempts, err))
            return false;
    return attempts.count == 0 || *outcome == STORE_STORED ||
           retry_is_ours(store, name, body, outcome, err);
}

/* A get on its way. */
struct progress_of_get {
    store_sink sink;
    void *context;
    uint64_t given;
    bool refused; /* by the receiver */
};

static bool retry_pass(const void *data, size_t length, void *context, struct error *err)
{
    struct progress_of_get *get = context;

    get->given += length;
    if (get->sink(data, length, get->context, err))
        return true;
    get->refused = true;
    return false;
}

static bool retry_get(struct store *store, const char *name, uint64_t offset, uint64_t length,
                      store_sink sink, void *context, struct error *err)
{
    struct attempts attempts = attempts_begin(store);
    struct progress_of_get get = {.sink = sink, .context = context};

    while (!store_get(store->inner, name, offset + get.given,
                      length == UINT64_MAX ? length : length - get.given, retry_pass, &get, err))
        if (get.refused || !attempts_again(&attempts, err))
            return false;
    return true;
}

static bool retry_stat(struct store *store, const char *name, struct store_info *info,
                       struct error *err)
{
    struct attempts attempts = attempts_begin(store);

    while (!store_stat(store->inner, name, info, err))
        if (!attempts_again(&attempts, err))
            return false;
    return true;
}

struct progress_of_list {
    store_list_fn fn;
    void *context;
    char last[STORE_NAME_MAXIMUM + 1];
    bool refused;
};

static bool retry_pass_name(const char *name, const struct store_info *info, void *context,
                            struct error *err)
{
    struct progress_of_list *list = context;

    snprintf(list->last, sizeof(list->last), "%s", name);
    if (list->fn(name, info, list->context, err))
        return true;
    list->refused = true;
    return false;
}

static bool retry_list(struct store *store, const char *prefix, const char *after, store_list_fn fn,
                       void *context, struct error *err)
{
    struct attempts attempts = attempts_begin(store);
    struct progress_of_list list = {.fn = fn, .context = context};

    while (!store_list(store->inner, prefix, list.last[0] != '\0' ? list.last : after,
                       retry_pass_name, &list, err))
        if (list.refused || !attempts_again(&attempts, err))
            return false;
    return true;
}

static bool retry_sync(struct store *store, const char *name, struct error *err)
{
    struct attempts attempts = attempts_begin(store);

    while (!store_sync(store->inner, name, err))
        if (!attempts_again(&attempts, err))
            return false;
    return true;
}

static bool retry_remove(struct store *store, const char *name, struct error *err)
{
    struct attempts attempts = attempts_begin(store);

    while (!store_remove(store->inner, name, err))
        if (!attempts_again(&attempts, err))
            return false;
    return true;
}

static bool retry_remove_many(struct store *store, const char *const *names, size_t count,
                              struct error *err)
{
    struct attempts attempts = attempts_begin(store);

    while (!store_remove_many(store->inner, names, count, err))
        if (!attempts_again(&attempts, err))
            return false;
    return true;
}

static bool retry_create_place(struct store *store, struct error *err)
{
    struct attempts attempts = attempts_begin(store);

    while (!store_create_place(store->inner, err))
        if (!attempts_again(&attempts, err))
            return false;
    return true;
}

static void retry_close(struct store *store)
{
    store_close(store->inner);
    free(store->url);
    free(store);
}

static const struct store_driver retry_driver = {
    .scheme = "retry",
    .put_whole = retry_put_whole,
    .get = retry_get,
    .stat = retry_stat,
    .list = retry_list,
    .sync = retry_sync,
    .remove = retry_remove,
    .remove_many = retry_remove_many,
    .create_place = retry_create_place,
    .close = retry_close,
};

struct store *retry_new(struct store *inner, int64_t timeout)
{
    struct retry *retry = mem_calloc(1, sizeof(*retry));

    retry->base.driver = &retry_driver;
    retry->base.url = mem_strdup(inner->url);
    retry->base.inner = inner;
    retry->timeout = timeout;
    return &retry->base;
}
