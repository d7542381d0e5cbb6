/* marks.c - keep notes, and marks for deletion */
#include "pgvigil/marks.h"

#include <stdlib.h>

#include "pgvigil/clock.h"
#include "pgvigil/json_out.h"
#include "pgvigil/layout.h"
#include "pgvigil/mem.h"
#include "pgvigil/object.h"
#include "pgvigil/process.h"

/* One switch of one run: its newest note. */
struct mark {
    int64_t run;
    uint32_t number;
    int64_t stored;
};

struct mark_list {
    struct mark *marks; /* ascending by run */
    size_t count;
    size_t capacity;
};

struct marks {
    struct mark_list kept, expired;
};

/* Lists give a run's notes one after the other, but 10 before 2. */
static bool marks_take(const char *name, const struct store_info *info, void *context,
                       struct error *err)
{
    struct mark_list *list = context;
    struct mark *last = list->count > 0 ? &list->marks[list->count - 1] : NULL;
    struct layout_mark found;

    (void)err;
    if (!layout_parse_mark(name, &found))
        return true;
    if (!last || last->run != found.run) {
        list->marks = mem_grow(list->marks, list->count, &list->capacity, sizeof(*list->marks));
        last = &list->marks[list->count++];
        *last = (struct mark){.run = found.run};
    }
    if (found.number > last->number) {
        last->number = found.number;
        last->stored = info->modified;
    }
    return true;
}

static bool marks_list(struct repository *repository, enum layout_mark_kind kind,
                       struct mark_list *list, struct error *err)
{
    char prefix[LAYOUT_NAME_SIZE];

    return repository_list(repository, layout_mark_prefix(kind, prefix), NULL, marks_take, list,
                           err);
}

bool marks_read(struct repository *repository, struct marks **marks, struct error *err)
{
    struct marks *read = mem_calloc(1, sizeof(*read));

    if (!marks_list(repository, LAYOUT_KEEP, &read->kept, err) ||
        !marks_list(repository, LAYOUT_EXPIRE, &read->expired, err)) {
        marks_free(read);
        return false;
    }
    *marks = read;
    return true;
}

void marks_free(struct marks *marks)
{
    if (!marks)
        return;
    free(marks->kept.marks);
    free(marks->expired.marks);
    free(marks);
}

static int marks_compare(const void *a, const void *b)
{
    const struct mark *left = a, *right = b;

    return (left->run > right->run) - (left->run < right->run);
}

static const struct mark *marks_find(const struct mark_list *list, int64_t run)
{
    const struct mark wanted = {.run = run};

    if (list->count == 0)
        return NULL;
    return bsearch(&wanted, list->marks, list->count, sizeof(*list->marks), marks_compare);
}

static bool marks_on(const struct mark *mark)
{
    return mark && mark->number % 2 == 1;
}

bool marks_kept(const struct marks *marks, int64_t run)
{
    return marks_on(marks_find(&marks->kept, run));
}

bool marks_expired(const struct marks *marks, int64_t run)
{
    return marks_on(marks_find(&marks->expired, run));
}

int64_t marks_expired_at(const struct marks *marks, int64_t run)
{
    const struct mark *mark = marks_find(&marks->expired, run);

    return marks_on(mark) ? mark->stored : 0;
}

int64_t *marks_runs(const struct marks *marks, size_t *count)
{
    const struct mark_list *kept = &marks->kept, *expired = &marks->expired;
    int64_t *runs = mem_calloc(kept->count + expired->count + 1, sizeof(*runs));
    size_t i = 0, j = 0;

    *count = 0;
    while (i < kept->count || j < expired->count) {
        bool left =
            j == expired->count || (i < kept->count && kept->marks[i].run <= expired->marks[j].run);
        int64_t run = left ? kept->marks[i].run : expired->marks[j].run;

        i += i < kept->count && kept->marks[i].run == run;
        j += j < expired->count && expired->marks[j].run == run;
        runs[(*count)++] = run;
    }
    return runs;
}

static bool marks_store(struct repository *repository, const struct layout_mark *mark,
                        enum marks_note note, enum store_outcome *outcome, struct error *err)
{
    static const char *const words[] = {[MARKS_KEEP] = "keep",
                                        [MARKS_UNKEEP] = "unkeep",
                                        [MARKS_EXPIRE] = "expire",
                                        [MARKS_UNEXPIRE] = "unexpire"};
    char name[LAYOUT_NAME_SIZE], run[CLOCK_COMPACT_SIZE], now[CLOCK_TEXT_SIZE];
    struct buffer text = BUFFER_INIT;
    json_t *object = json_out_object();

    json_out_put(object, "run", json_out_text(layout_run_text(mark->run, run)));
    json_out_put(object, "note", json_out_text(words[note]));
    json_out_put(object, "noted", json_out_text(clock_format(clock_now(), now)));
    json_out_put(object, "host", json_out_text(process_host_name()));
    json_out_put(object, "user", json_out_text(process_user_name()));
    json_out_write(object, &text);
    json_decref(object);
    bool ok = object_put(repository, layout_mark(mark, name),
                         mark->kind == LAYOUT_KEEP ? TRAILER_KEEP : TRAILER_EXPIRE, OBJECT_PLAIN, 0,
                         text.data, text.length, outcome, NULL, err);
    buffer_free(&text);
    return ok;
}

/* Who stored it may not have come to its fsync, or have been killed before. */
static bool marks_sync(struct repository *repository, const struct layout_mark *mark,
                       struct error *err)
{
    char name[LAYOUT_NAME_SIZE];
    char *full = repository_object_name(repository, layout_mark(mark, name));
    bool ok = store_sync(repository->store, full, err);

    free(full);
    return ok;
}

bool marks_write(struct repository *repository, int64_t run, enum marks_note note,
                 enum marks_outcome *outcome, struct error *err)
{
    bool on = note == MARKS_KEEP || note == MARKS_EXPIRE;
    struct layout_mark mark = {.kind = note == MARKS_KEEP || note == MARKS_UNKEEP ? LAYOUT_KEEP
                                                                                  : LAYOUT_EXPIRE,
                               .run = run};
    enum store_outcome stored;
    struct mark_list list = {.marks = NULL};
    bool ok = marks_list(repository, mark.kind, &list, err);
    const struct mark *newest = ok ? marks_find(&list, run) : NULL;

    mark.number = newest ? newest->number : 0;
    free(list.marks);
    if (!ok)
        return false;
    *outcome = MARKS_AS_IT_WAS;
    if ((mark.number % 2 == 1) == on)
        return mark.number == 0 || marks_sync(repository, &mark, err);
    if (mark.number == UINT32_MAX)
        return error_set(err, ERROR_INTEGRITY,
                         "the numbers of notes in repository \"%s\" are used up", repository->name);
    mark.number++;
    if (!marks_store(repository, &mark, note, &stored, err))
        return false;
    if (stored == STORE_TAKEN) /* somebody else turned it the same way at this moment */
        return marks_sync(repository, &mark, err);
    *outcome = MARKS_TURNED;
    return true;
}
