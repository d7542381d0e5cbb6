/* workers.c - a fixed number of threads for one piece of work, and cancellation */
#include "pgvigil/workers.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "pgvigil/mem.h"
#include "pgvigil/process.h"

struct workers {
    workers_fn fn;
    void *context;
    atomic_bool cancelled;

    pthread_mutex_t mutex; /* guards first */
    struct error first;    /* what goes to the caller; ERROR_NONE while all is well */
};

struct worker {
    struct workers *workers;
    int number;
    pthread_t thread;
};

bool workers_cancelled(const struct workers *workers)
{
    return atomic_load(&workers->cancelled) || process_interrupted();
}

bool workers_check(const struct workers *workers, struct error *err)
{
    if (!process_check(err))
        return false;
    if (atomic_load(&workers->cancelled))
        return error_set(err, ERROR_CANCELLED, "cancelled, as another part of the work failed");
    return true;
}

/* Who was only told to stop must not hide who had a reason to. */
static void workers_fail(struct workers *workers, const struct error *err)
{
    pthread_mutex_lock(&workers->mutex);
    if (workers->first.code == ERROR_NONE ||
        (workers->first.code == ERROR_CANCELLED && err->code != ERROR_CANCELLED))
        workers->first = *err;
    pthread_mutex_unlock(&workers->mutex);
    atomic_store(&workers->cancelled, true);
}

static void *workers_main(void *argument)
{
    const struct worker *worker = argument;
    struct workers *workers = worker->workers;
    struct error err = ERROR_INIT;

    if (!workers->fn(workers, worker->number, workers->context, &err))
        workers_fail(workers, &err);
    return NULL;
}

bool workers_run(int count, workers_fn fn, void *context, struct error *err)
{
    struct workers workers = {.fn = fn, .context = context, .first = ERROR_INIT};
    int started = 0;

    if (count < 1)
        count = 1;
    struct worker *list = mem_calloc((size_t)count, sizeof(*list));

    atomic_init(&workers.cancelled, false);
    pthread_mutex_init(&workers.mutex, NULL);
    for (; started < count; started++) {
        struct worker *worker = &list[started];
        *worker = (struct worker){.workers = &workers, .number = started};
        int reason = pthread_create(&worker->thread, NULL, workers_main, worker);
        if (reason != 0) {
            struct error failure = ERROR_INIT;
            errno = reason;
            error_set_errno(&failure, "could not start thread %d of %d", started + 1, count);
            workers_fail(&workers, &failure);
            break;
        }
    }
    for (int i = 0; i < started; i++)
        pthread_join(list[i].thread, NULL);
    pthread_mutex_destroy(&workers.mutex);
    free(list);

    if (workers.first.code == ERROR_NONE)
        return true;
    *err = workers.first;
    return false;
}
