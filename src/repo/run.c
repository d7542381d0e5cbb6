/*
 * run.c - begin notes and leases
 *
 * The begin note is the first lease. Age is counted here by the clock that goes on while a machine
 * is suspended: whoever reads the lease elsewhere does not wait for this machine to wake up.
 */
#include "pgvigil/run.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "pgvigil/files.h"
#include "pgvigil/json_out.h"
#include "pgvigil/layout.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/object.h"
#include "pgvigil/process.h"
#include "repo/run_timing.h"

#define END_PATIENCE (10 * CLOCK_SECOND)
#define IDS_TRIED 3600 /* so many runs begun in the seconds before this one are not plausible */

struct run {
    struct repository *repository;
    int64_t id;
    struct run_timing timing;
    pthread_t thread;
    unsigned lease; /* number of the next one; the thread's alone */

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t wake;   /* by the monotonic clock */
    bool ending;
    int64_t renewed;      /* boot_time of the last renewal that is known to have succeeded */
    bool lapsed;          /* for good: a later renewal does not bring back what was deleted */
    struct error failure; /* of the last attempt, if it failed */
};

static int64_t boot_time(void)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * CLOCK_SECOND + now.tv_nsec / 1000;
}

static void put_run(json_t *object, const char *key, int64_t run)
{
    char text[CLOCK_COMPACT_SIZE];

    json_out_put(object, key, run > 0 ? json_out_text(layout_run_text(run, text)) : json_null());
}

static void put_now(json_t *object, const char *key)
{
    char text[CLOCK_TEXT_SIZE];

    json_out_put(object, key, json_out_text(clock_format(clock_now(), text)));
}

/* Stores and frees the object. */
static bool store_note(struct repository *repository, const char *name, enum trailer_kind kind,
                       json_t *object, enum store_outcome *outcome, struct error *err)
{
    struct buffer text = BUFFER_INIT;

    json_out_write(object, &text);
    json_decref(object);
    bool ok = object_put(repository, name, kind, OBJECT_PLAIN, 0, text.data, text.length, outcome,
                         NULL, err);
    buffer_free(&text);
    return ok;
}

static bool store_begin(struct repository *repository, int64_t id, const char *kind, int64_t base,
                        enum store_outcome *outcome, struct error *err)
{
    json_t *note = json_out_object();
    char name[LAYOUT_NAME_SIZE];

    put_run(note, "run", id);
    put_run(note, "base", base);
    put_now(note, "started");
    json_out_put(note, "kind", json_out_text(kind));
    json_out_put(note, "host", json_out_text(process_host_name()));
    json_out_put(note, "pid", json_integer(getpid()));
    json_out_put(note, "user", json_out_text(process_user_name()));
    json_out_put(note, "version", json_out_text(PACKAGE_VERSION));
    return store_note(repository, layout_begin(id, name), TRAILER_BEGIN, note, outcome, err);
}

/* Repositories that are out of reach do not see the claim, and an id must not mean two runs when they
 * are back: so this host does not use one twice either. Where that cannot be remembered only that is
 * lost. The file holds the newest id; whoever claims one has it locked. */
static int64_t claim_here(const struct repository *repository, int64_t wanted)
{
    char *path = files_join(repository->all->state_dir, "last-run");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    char text[32] = "";

    free(path);
    if (fd < 0)
        return wanted;
    if (flock(fd, LOCK_EX) == 0 && pread(fd, text, sizeof(text) - 1, 0) >= 0) {
        int64_t last = strtoll(text, NULL, 10);

        /* One far ahead is of a clock that was wrong. */
        if (last >= wanted && last < wanted + IDS_TRIED)
            wanted = last + 1;
        snprintf(text, sizeof(text), "%" PRId64 "\n", wanted);
        if (pwrite(fd, text, strlen(text), 0) < 0)
            log_debug("could not write \"last-run\" in \"%s\"", repository->all->state_dir);
    }
    close(fd);
    return wanted;
}

/* Takes the first id from now on that is free. */
static bool claim(struct run *run, const char *kind, int64_t base, struct error *err)
{
    int64_t first = claim_here(run->repository, clock_now() / CLOCK_SECOND);

    for (run->id = first; run->id < first + IDS_TRIED; run->id++) {
        enum store_outcome outcome;

        run->renewed = boot_time();
        if (!store_begin(run->repository, run->id, kind, base, &outcome, err))
            return error_context(err, "could not begin the %s", kind);
        if (outcome == STORE_STORED)
            return true;
    }
    return error_set(err, ERROR_EXISTS,
                     "could not begin the %s in repository \"%s\": no ID of the next hour is free",
                     kind, run->repository->name);
}

/* An attempt that failed may have stored its lease all the same: then the next number is free. The
 * lease that is found so may be of any age, so it is not taken for a renewal. */
static bool renew(struct run *run, struct error *err)
{
    enum store_outcome outcome = STORE_TAKEN;

    while (outcome == STORE_TAKEN) {
        json_t *lease = json_out_object();
        char name[LAYOUT_NAME_SIZE];

        put_run(lease, "run", run->id);
        put_now(lease, "renewed");
        if (!store_note(run->repository, layout_lease(run->id, run->lease, name), TRAILER_LEASE,
                        lease, &outcome, err))
            return false;
        run->lease++;
    }
    return true;
}

static struct timespec timespec_of(int64_t moment)
{
    return (struct timespec){.tv_sec = (time_t)(moment / CLOCK_SECOND),
                             .tv_nsec = (long)(moment % CLOCK_SECOND) * 1000};
}

/* False when the run ends. The mutex is held. */
static bool wait_until(struct run *run, int64_t moment)
{
    struct timespec until = timespec_of(moment);

    while (!run->ending && clock_monotonic() < moment)
        pthread_cond_timedwait(&run->wake, &run->mutex, &until);
    return !run->ending;
}

/* The mutex is held. */
static void note_lapse(struct run *run)
{
    run->lapsed = run->lapsed || boot_time() - run->renewed > run->timing.lease;
}

static void *keep_lease(void *context)
{
    struct run *run = context;
    int64_t next = clock_monotonic() + run->timing.renewal;

    pthread_mutex_lock(&run->mutex);
    while (wait_until(run, next)) {
        struct error err = ERROR_INIT;
        int64_t started = boot_time();

        pthread_mutex_unlock(&run->mutex);
        bool ok = renew(run, &err);
        next = clock_monotonic() + (ok ? run->timing.renewal : run->timing.retry);
        pthread_mutex_lock(&run->mutex);
        run->failure = err;
        note_lapse(run);
        if (ok)
            run->renewed = started;
    }
    pthread_mutex_unlock(&run->mutex);
    return NULL;
}

/* Signals are for the main thread: the new one is started with all of them blocked. */
static bool start_thread(struct run *run, struct error *err)
{
    sigset_t all, before;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = pthread_create(&run->thread, NULL, keep_lease, run);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failure != 0)
        return error_set(err, ERROR_SYSTEM, "could not start a thread: %s", strerror(failure));
    return true;
}

static void free_run(struct run *run)
{
    pthread_cond_destroy(&run->wake);
    pthread_mutex_destroy(&run->mutex);
    free(run);
}

bool run_begin_timed(struct repository *repository, const char *kind, int64_t base,
                     const struct run_timing *timing, struct run **run, struct error *err)
{
    struct run *begun = mem_calloc(1, sizeof(*begun));
    pthread_condattr_t attributes;

    begun->repository = repository;
    begun->timing = *timing;
    begun->lease = 1;
    pthread_mutex_init(&begun->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&begun->wake, &attributes);
    pthread_condattr_destroy(&attributes);
    if (!claim(begun, kind, base, err) || !start_thread(begun, err)) {
        free_run(begun);
        return false;
    }
    *run = begun;
    return true;
}

bool run_begin(struct repository *repository, const char *kind, int64_t base, struct run **run,
               struct error *err)
{
    static const struct run_timing timing = {
        .lease = RUN_LEASE, .renewal = RUN_RENEWAL, .retry = 60 * CLOCK_SECOND};

    return run_begin_timed(repository, kind, base, &timing, run, err);
}

int64_t run_id(const struct run *run)
{
    return run->id;
}

bool run_began(const struct run *run, int64_t *moment, struct error *err)
{
    char name[LAYOUT_NAME_SIZE];
    char *full = repository_object_name(run->repository, layout_begin(run->id, name));
    struct store_info info = {.modified = 0};
    bool ok = store_stat(run->repository->store, full, &info, err);

    free(full);
    *moment = info.modified;
    return ok;
}

bool run_claim(struct run *run, int64_t claimed, struct error *err)
{
    json_t *note = json_out_object();
    char name[LAYOUT_NAME_SIZE];
    enum store_outcome ignored; /* claimed already */

    put_run(note, "run", run->id);
    put_run(note, "claimed", claimed);
    return store_note(run->repository, layout_claim(run->id, claimed, name), TRAILER_CLAIM, note,
                      &ignored, err);
}

bool run_check(struct run *run, struct error *err)
{
    char id[CLOCK_COMPACT_SIZE];

    pthread_mutex_lock(&run->mutex);
    note_lapse(run);
    bool lapsed = run->lapsed;
    struct error failure = run->failure;
    pthread_mutex_unlock(&run->mutex);
    if (!lapsed)
        return true;
    error_set(err, ERROR_STORE, "the lease of run %s in repository \"%s\" has lapsed",
              layout_run_text(run->id, id), run->repository->name);
    if (failure.code != ERROR_NONE)
        error_detail(err, "the last attempt to renew it failed: %s", failure.message);
    return error_hint(err, "what it builds on may have been deleted in the meantime; begin anew");
}

static void store_end(struct run *run)
{
    json_t *note = json_out_object();
    char name[LAYOUT_NAME_SIZE];
    enum store_outcome ignored;
    struct error err = ERROR_INIT;

    put_run(note, "run", run->id);
    put_now(note, "ended");
    if (!store_note(run->repository, layout_end(run->id, name), TRAILER_END, note, &ignored,
                    &err)) {
        error_context(&err, "could not note that the run has ended");
        error_hint(&err, "until its lease lapses, expire leaves alone what it may use");
        log_error(err.code == ERROR_CANCELLED ? LOG_DEBUG : LOG_WARNING, &err);
    }
}

/* The thread may be in the middle of an attempt to reach a repository that is gone. */
static void stop_thread(struct run *run)
{
    pthread_mutex_lock(&run->mutex);
    run->ending = true;
    pthread_cond_signal(&run->wake);
    pthread_mutex_unlock(&run->mutex);
    pthread_join(run->thread, NULL);
}

/* What is done has been done: nobody is to wait for the end of that for long. */
void run_end(struct run *run)
{
    if (!run)
        return;

    struct store *store = run->repository->store;
    int64_t deadline = store->deadline, patience = clock_monotonic() + END_PATIENCE;

    store_set_deadline(store, deadline != 0 && deadline < patience ? deadline : patience);
    stop_thread(run);
    store_end(run);
    store_set_deadline(store, deadline);
    free_run(run);
}
