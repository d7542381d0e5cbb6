/* runs.c - begin notes and leases, read */
#include "pgvigil/runs.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/buffer.h"
#include "pgvigil/clock.h"
#include "pgvigil/layout.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/object.h"
#include "pgvigil/process.h"

#define NOTE_MAXIMUM ((size_t)64 * 1024)
#define PATIENCE (5 * 60 * CLOCK_SECOND)
#define PAUSE (CLOCK_SECOND / 2)

static bool runs_take(const char *name, const struct store_info *info, void *context,
                      struct error *err)
{
    struct runs *runs = context;
    struct runs_entry *last = runs->count > 0 ? &runs->entries[runs->count - 1] : NULL;
    struct layout_note note;

    (void)err;
    if (!layout_parse_note(name, &note))
        return true;
    if (!last || last->run != note.run) {
        runs->entries =
            mem_grow(runs->entries, runs->count, &runs->capacity, sizeof(*runs->entries));
        last = &runs->entries[runs->count++];
        *last = (struct runs_entry){
            .run = note.run, .lives = true, .began = info->modified, .seen = info->modified};
    }
    if (info->modified < last->began)
        last->began = info->modified;
    if (info->modified > last->seen)
        last->seen = info->modified;
    if (note.kind == LAYOUT_END)
        last->lives = false;
    if (note.kind == LAYOUT_CLAIM) {
        last->claims =
            mem_grow(last->claims, last->claim_count, &last->claim_capacity, sizeof(*last->claims));
        last->claims[last->claim_count++] = note.claimed;
    }
    return true;
}

static void runs_copy_text(const json_t *object, const char *key, char *text, size_t size)
{
    const char *value = json_string_value(json_object_get(object, key));

    snprintf(text, size, "%s", value ? value : "");
}

/* What cannot be understood is left unsaid, and the entry unreadable. */
static void runs_parse(const struct buffer *text, struct runs_entry *entry)
{
    json_t *object = json_loadb((const char *)text->data, text->length, 0, NULL);
    const json_t *base = json_object_get(object, "base");
    const char *base_text = json_string_value(base);

    entry->readable =
        json_is_object(object) &&
        (json_is_null(base) || (base_text != NULL && layout_parse_run(base_text, &entry->base)));
    runs_copy_text(object, "kind", entry->kind, sizeof(entry->kind));
    runs_copy_text(object, "host", entry->host, sizeof(entry->host));
    json_decref(object);
}

/* A damaged begin note, or one that is not there, hides on what the run builds. */
static bool runs_read_begin(struct repository *repository, struct runs_entry *entry,
                            struct error *err)
{
    struct buffer text = BUFFER_INIT;
    char name[LAYOUT_NAME_SIZE];
    bool ok = object_get_buffer(repository, layout_begin(entry->run, name), TRAILER_BEGIN,
                                OBJECT_PLAIN, NOTE_MAXIMUM, &text, NULL, err);

    if (ok)
        runs_parse(&text, entry);
    else if ((ok = err->code == ERROR_INTEGRITY || err->code == ERROR_NOT_FOUND))
        error_clear(err);
    buffer_free(&text);
    return ok;
}

bool runs_read(struct repository *repository, int64_t now, struct runs *runs, struct error *err)
{
    *runs = (struct runs){.entries = NULL};
    bool ok = repository_list(repository, LAYOUT_RUN_PREFIX, NULL, runs_take, runs, err);

    for (size_t i = 0; ok && i < runs->count; i++) {
        struct runs_entry *entry = &runs->entries[i];

        entry->lives = entry->lives && now - entry->seen < RUNS_PATIENCE;
        if (entry->lives)
            ok = runs_read_begin(repository, entry, err);
    }
    if (!ok)
        runs_free(runs);
    return ok;
}

void runs_free(struct runs *runs)
{
    for (size_t i = 0; i < runs->count; i++)
        free(runs->entries[i].claims);
    free(runs->entries);
    *runs = (struct runs){.entries = NULL};
}

static int runs_compare(const void *a, const void *b)
{
    const struct runs_entry *left = a, *right = b;

    return (left->run > right->run) - (left->run < right->run);
}

const struct runs_entry *runs_find(const struct runs *runs, int64_t run)
{
    const struct runs_entry wanted = {.run = run};

    if (runs->count == 0)
        return NULL;
    return bsearch(&wanted, runs->entries, runs->count, sizeof(*runs->entries), runs_compare);
}

static bool runs_holds(const struct runs_entry *entry, int64_t run)
{
    if (!entry->readable || entry->base == run)
        return true;
    for (size_t i = 0; i < entry->claim_count; i++)
        if (entry->claims[i] == run)
            return true;
    return false;
}

const struct runs_entry *runs_holder(const struct runs *runs, int64_t run)
{
    for (size_t i = 0; i < runs->count; i++)
        if (runs->entries[i].lives && runs_holds(&runs->entries[i], run))
            return &runs->entries[i];
    return NULL;
}

const struct runs_entry *runs_living(const struct runs *runs, const char *kind, int64_t but)
{
    for (size_t i = 0; i < runs->count; i++)
        if (runs->entries[i].lives && runs->entries[i].run != but &&
            (!runs->entries[i].readable || strcmp(runs->entries[i].kind, kind) == 0))
            return &runs->entries[i];
    return NULL;
}

bool runs_await_expire(struct repository *repository, const struct run *own, bool *over,
                       struct error *err)
{
    int64_t until = clock_monotonic() + PATIENCE, now = clock_now();

    /* The time that passes here is short beside that for which a run counts as living. */
    if (own && !run_began(own, &now, err))
        return false;
    for (bool said = false;; said = true) {
        const struct runs_entry *expire;
        char id[CLOCK_COMPACT_SIZE];
        struct runs runs;

        if (!process_check(err) || !runs_read(repository, now, &runs, err))
            return false;
        expire = runs_living(&runs, "expire", 0);
        *over = expire == NULL;
        if (expire && !said)
            log_info("waiting for the end of expire %s in repository \"%s\"",
                     layout_run_text(expire->run, id), repository->name);
        runs_free(&runs);
        if (*over || clock_monotonic() > until)
            return true;
        clock_sleep(PAUSE);
    }
}

bool runs_refuse_expire(const struct repository *repository, struct error *err)
{
    error_set(err, ERROR_BUSY, "an expire is at work in repository \"%s\"", repository->name);
    return error_hint(err, "try again later; one that was killed counts as being at work for two "
                           "hours");
}
