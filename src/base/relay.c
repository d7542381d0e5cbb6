/* relay.c - one thread that takes the pieces of a stream while their owner goes on */
#include "pgvigil/relay.h"

#include <pthread.h>
#include <stdlib.h>

#include "pgvigil/mem.h"

enum relay_thread { RELAY_NOT_STARTED, RELAY_RUNNING, RELAY_REFUSED };

struct relay {
    relay_fn fn;
    void *context;
    size_t handed; /* bytes, as long as no thread is wanted */
    enum relay_thread thread;
    pthread_t id;

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t changed;
    const void *data; /* the piece under way, or NULL */
    size_t length;
    bool ending;
    struct error error; /* the first; ERROR_NONE while all is well */
};

static void *relay_main(void *argument)
{
    struct relay *relay = argument;

    pthread_mutex_lock(&relay->mutex);
    for (;;) {
        struct error err = ERROR_INIT;
        bool ok;

        while (relay->data == NULL && !relay->ending)
            pthread_cond_wait(&relay->changed, &relay->mutex);
        if (relay->data == NULL)
            break;
        pthread_mutex_unlock(&relay->mutex);
        ok = relay->fn(relay->data, relay->length, relay->context, &err);
        pthread_mutex_lock(&relay->mutex);
        if (!ok)
            relay->error = err;
        relay->data = NULL;
        pthread_cond_broadcast(&relay->changed);
    }
    pthread_mutex_unlock(&relay->mutex);
    return NULL;
}

struct relay *relay_new(relay_fn fn, void *context)
{
    struct relay *relay = mem_calloc(1, sizeof(*relay));

    relay->fn = fn;
    relay->context = context;
    pthread_mutex_init(&relay->mutex, NULL);
    pthread_cond_init(&relay->changed, NULL);
    return relay;
}

bool relay_wait(struct relay *relay, struct error *err)
{
    pthread_mutex_lock(&relay->mutex);
    while (relay->data != NULL)
        pthread_cond_wait(&relay->changed, &relay->mutex);
    pthread_mutex_unlock(&relay->mutex);
    if (relay->error.code == ERROR_NONE)
        return true;
    *err = relay->error;
    return false;
}

/* Where there can be no further thread, the work is done without. */
static bool relay_start(struct relay *relay)
{
    if (relay->thread == RELAY_NOT_STARTED)
        relay->thread = pthread_create(&relay->id, NULL, relay_main, relay) == 0 ? RELAY_RUNNING
                                                                                 : RELAY_REFUSED;
    return relay->thread == RELAY_RUNNING;
}

static bool relay_work(struct relay *relay, const void *data, size_t length, struct error *err)
{
    if (relay->fn(data, length, relay->context, &relay->error))
        return true;
    *err = relay->error;
    return false;
}

bool relay_hand(struct relay *relay, const void *data, size_t length, struct error *err)
{
    if (!relay_wait(relay, err))
        return false;
    if (relay->handed < RELAY_INLINE)
        relay->handed += length;
    if (relay->handed < RELAY_INLINE || !relay_start(relay))
        return relay_work(relay, data, length, err);
    pthread_mutex_lock(&relay->mutex);
    relay->data = data;
    relay->length = length;
    pthread_cond_broadcast(&relay->changed);
    pthread_mutex_unlock(&relay->mutex);
    return true;
}

void relay_free(struct relay *relay)
{
    if (relay == NULL)
        return;
    pthread_mutex_lock(&relay->mutex);
    relay->ending = true;
    pthread_cond_broadcast(&relay->changed);
    pthread_mutex_unlock(&relay->mutex);
    if (relay->thread == RELAY_RUNNING)
        pthread_join(relay->id, NULL);
    pthread_cond_destroy(&relay->changed);
    pthread_mutex_destroy(&relay->mutex);
    free(relay);
}
