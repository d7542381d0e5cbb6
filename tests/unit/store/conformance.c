/*
 * conformance.c - what every store must do, run against each of them
 *
 * A new driver gets a line in `kinds`.
 */
#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "pgvigil/store.h"
#include "suites.h"
#include "support/memory_store.h"
#include "support/scratch.h"
#include "support/seed.h"

static struct store *store;
static char *scratch;
static struct error err;

static struct store *make_file(void)
{
    char *url = mem_printf("file://%s/deep/root", scratch);
    struct store *made = NULL;

    ck_assert_msg(
        store_open(&(const struct config_repository){.name = "r", .url = url}, &made, &err), "%s",
        err.message);
    free(url);
    return made;
}

static void break_file(void)
{
    char *root = mem_printf("%s/deep/root", scratch);

    ck_assert(files_remove_tree(root, &err));
    free(root);
}

static struct store *make_memory(void)
{
    return memory_store_new();
}

static void break_memory(void)
{
    memory_store_break(store, true);
}

/* A server that the environment names: the tests of tests/integration/test_s3.py start some. Each
 * test has a prefix of its own. */
static const char s3_url[] = "PGVIGIL_TEST_S3_URL";

static struct store *make_s3(void)
{
    static struct config_repository settings = {.name = "s3", .timeout = 60000000};
    struct store *made = NULL;
    static unsigned count;

    settings.url = mem_printf("%s/%d-%u", getenv(s3_url), (int)getpid(), count++);
    settings.endpoint = getenv("PGVIGIL_TEST_S3_ENDPOINT");
    settings.region = getenv("PGVIGIL_TEST_S3_REGION");
    settings.ca_file = getenv("PGVIGIL_TEST_S3_CA_FILE");
    ck_assert_msg(store_open(&settings, &made, &err), "%s", err.message);
    return made;
}

/* From a deadline that has passed on nothing can be asked. */
static void break_s3(void)
{
    store_set_deadline(store, 1);
}

static const struct kind {
    const char *name;
    struct store *(*make)(void);
    void (*break_place)(void); /* makes the place of `store` unusable */
    bool is_tree;              /* "a" and "a/b" exclude each other */
} kinds[] = {
    {"file", make_file, break_file, true},
    {"memory", make_memory, break_memory, false},
    {"s3", make_s3, break_s3, false},
};

/* The last one needs a server. */
static int kind_count(void)
{
    return (int)(sizeof(kinds) / sizeof(kinds[0])) - (getenv(s3_url) ? 0 : 1);
}

static void set_up(void)
{
    scratch = scratch_make();
    error_clear(&err);
}

static void tear_down(void)
{
    store_close(store);
    scratch_remove(scratch);
}

/* Each test runs once for each kind: this opens the one to run it against. */
static void use(int kind)
{
    store = kinds[kind].make();
    ck_assert_msg(store_create_place(store, &err), "%s: %s", kinds[kind].name, err.message);
}

static enum store_outcome put_bytes(const char *name, const void *data, size_t length)
{
    struct store_put *put;
    enum store_outcome outcome = STORE_TAKEN;

    ck_assert_msg(store_put_begin(store, name, STORE_DATA, &put, &err), "%s", err.message);
    ck_assert_msg(store_put_write(put, data, length, &err), "%s", err.message);
    ck_assert_msg(store_put_commit(put, &outcome, &err), "%s", err.message);
    return outcome;
}

static enum store_outcome put_text(const char *name, const char *text)
{
    return put_bytes(name, text, strlen(text));
}

static void check_text(const char *name, const char *text)
{
    struct buffer buffer = BUFFER_INIT;

    ck_assert_msg(store_get_buffer(store, name, 1000, &buffer, &err), "%s", err.message);
    ck_assert_str_eq(buffer_text(&buffer), text);
    buffer_free(&buffer);
}

static bool append(const void *data, size_t length, void *context, struct error *error)
{
    (void)error;
    ck_assert_uint_gt(length, 0);
    buffer_append(context, data, length);
    return true;
}

static bool append_name(const char *name, const struct store_info *info, void *context,
                        struct error *error)
{
    (void)error;
    ck_assert_uint_gt(info->modified, INT64_C(1500000000000000));
    buffer_append_format(context, "%s ", name);
    return true;
}

static void check_list(const char *prefix, const char *after, const char *expected)
{
    struct buffer names = BUFFER_INIT;

    ck_assert_msg(store_list(store, prefix, after, append_name, &names, &err), "%s", err.message);
    ck_assert_str_eq(buffer_text(&names), expected);
    buffer_free(&names);
}

static void check_absent(const char *name)
{
    struct store_info info;
    struct buffer buffer = BUFFER_INIT;

    error_clear(&err);
    ck_assert(!store_stat(store, name, &info, &err));
    ck_assert_int_eq(err.code, ERROR_NOT_FOUND);
    error_clear(&err);
    ck_assert(!store_get(store, name, 0, UINT64_MAX, append, &buffer, &err));
    ck_assert_int_eq(err.code, ERROR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(err.message, name));
    error_clear(&err);
    ck_assert(!store_get(store, name, 0, 0, append, &buffer, &err));
    ck_assert_int_eq(err.code, ERROR_NOT_FOUND);
    error_clear(&err);
    ck_assert(!store_sync(store, name, &err));
    ck_assert_int_eq(err.code, ERROR_NOT_FOUND);
    ck_assert_uint_eq(buffer.length, 0);
    error_clear(&err);
}

START_TEST(put_and_get)
{
    use(_i);
    check_list("", NULL, "");
    check_absent("dir/sub/object");
    ck_assert_int_eq(put_text("dir/sub/object", "content"), STORE_STORED);
    check_text("dir/sub/object", "content");
    ck_assert(store_sync(store, "dir/sub/object", &err));
    check_list("", NULL, "dir/sub/object ");
    ck_assert_int_eq(put_text("empty", ""), STORE_STORED);
    check_text("empty", "");
}
END_TEST

START_TEST(nothing_is_overwritten)
{
    use(_i);
    ck_assert_int_eq(put_text("a/b", "first"), STORE_STORED);
    ck_assert_int_eq(put_text("a/b", "second"), STORE_TAKEN);
    check_text("a/b", "first");
    ck_assert_int_eq(put_text("a/b", "first"), STORE_TAKEN);
    check_list("", NULL, "a/b ");
}
END_TEST

START_TEST(invisible_before_commit)
{
    struct store_put *put;
    enum store_outcome outcome;

    use(_i);
    ck_assert(store_put_begin(store, "a/b", STORE_DATA, &put, &err));
    check_absent("a/b");
    ck_assert(store_put_write(put, "half", 4, &err));
    check_absent("a/b");
    check_list("", NULL, "");
    ck_assert(store_put_write(put, NULL, 0, &err));
    ck_assert(store_put_write(put, "+half", 5, &err));
    ck_assert(store_put_commit(put, &outcome, &err));
    ck_assert_int_eq(outcome, STORE_STORED);
    check_text("a/b", "half+half");
}
END_TEST

START_TEST(abort_leaves_nothing)
{
    struct store_put *put;

    use(_i);
    ck_assert(store_put_begin(store, "a/b", STORE_DATA, &put, &err));
    ck_assert(store_put_write(put, "half", 4, &err));
    store_put_abort(put);
    check_absent("a/b");
    check_list("", NULL, "");
    ck_assert_int_eq(put_text("a/b", "whole"), STORE_STORED);
    check_text("a/b", "whole");
}
END_TEST

START_TEST(two_puts_of_one_name)
{
    struct store_put *first, *second;
    enum store_outcome outcome;

    use(_i);
    ck_assert(store_put_begin(store, "a", STORE_DATA, &first, &err));
    ck_assert(store_put_begin(store, "a", STORE_DATA, &second, &err));
    ck_assert(store_put_write(first, "first", 5, &err));
    ck_assert(store_put_write(second, "second", 6, &err));
    ck_assert(store_put_commit(second, &outcome, &err));
    ck_assert_int_eq(outcome, STORE_STORED);
    ck_assert(store_put_commit(first, &outcome, &err));
    ck_assert_int_eq(outcome, STORE_TAKEN);
    check_text("a", "second");
}
END_TEST

#define RACERS 16
#define ROUNDS 25

struct racer {
    pthread_barrier_t *barrier;
    int number;
    bool failed;
    enum store_outcome outcomes[ROUNDS];
    char message[1024];
};

static bool race_once(const struct racer *racer, int round, enum store_outcome *outcome,
                      struct error *error)
{
    struct store_put *put;
    char name[64], text[32];

    snprintf(name, sizeof(name), "race/%d/object", round);
    snprintf(text, sizeof(text), "by %d", racer->number);
    if (!store_put_begin(store, name, STORE_DATA, &put, error))
        return false;
    if (!store_put_write(put, text, strlen(text), error)) {
        store_put_abort(put);
        return false;
    }
    return store_put_commit(put, outcome, error);
}

static void *race(void *context)
{
    struct racer *racer = context;
    struct error error = ERROR_INIT;

    for (int round = 0; round < ROUNDS; round++) {
        pthread_barrier_wait(racer->barrier);
        if (!race_once(racer, round, &racer->outcomes[round], &error)) {
            racer->failed = true;
            snprintf(racer->message, sizeof(racer->message), "%s", error.message);
        }
    }
    return NULL;
}

START_TEST(one_winner)
{
    struct racer racers[RACERS];
    pthread_t threads[RACERS];
    pthread_barrier_t barrier;

    use(_i);
    /* Of a place that does not refuse to overwrite nobody can ask this. */
    put_text("first", "x");
    if (store_exclusive(store) == STORE_EXCLUSIVE_NO)
        return;

    pthread_barrier_init(&barrier, NULL, RACERS);
    for (int i = 0; i < RACERS; i++) {
        racers[i] = (struct racer){.barrier = &barrier, .number = i};
        ck_assert_int_eq(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    for (int i = 0; i < RACERS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&barrier);

    for (int round = 0; round < ROUNDS; round++) {
        int winner = -1;
        char name[64], text[32];

        for (int i = 0; i < RACERS; i++) {
            ck_assert_msg(!racers[i].failed, "%s", racers[i].message);
            if (racers[i].outcomes[round] == STORE_STORED) {
                ck_assert_int_eq(winner, -1);
                winner = i;
            } else {
                ck_assert_int_eq(racers[i].outcomes[round], STORE_TAKEN);
            }
        }
        ck_assert_int_ge(winner, 0);
        snprintf(name, sizeof(name), "race/%d/object", round);
        snprintf(text, sizeof(text), "by %d", winner);
        check_text(name, text);
    }
}
END_TEST

static void check_range(const unsigned char *data, uint64_t size, uint64_t offset, uint64_t length)
{
    struct buffer got = BUFFER_INIT;
    uint64_t expected = offset >= size ? 0 : length < size - offset ? length : size - offset;

    ck_assert_msg(store_get(store, "object", offset, length, append, &got, &err), "%s",
                  err.message);
    ck_assert_uint_eq(got.length, expected);
    if (expected > 0)
        ck_assert(memcmp(got.data, data + offset, expected) == 0);
    buffer_free(&got);
}

START_TEST(ranges)
{
    const uint64_t size = 600000; /* no multiple of any buffer */
    const uint64_t edges[] = {0,
                              1,
                              4095,
                              4096,
                              4097,
                              262143,
                              262144,
                              262145,
                              524288,
                              size - 1,
                              size,
                              size + 1,
                              size * 2,
                              UINT64_C(1) << 62,
                              UINT64_C(1) << 63,
                              UINT64_MAX - 1,
                              UINT64_MAX};
    const size_t count = sizeof(edges) / sizeof(edges[0]);
    uint64_t state = seed_start("store ranges");
    unsigned char *data = mem_alloc(size);

    use(_i);
    seed_fill(&state, data, size);
    ck_assert_int_eq(put_bytes("object", data, size), STORE_STORED);
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < count; j++)
            check_range(data, size, edges[i], edges[j]);
    for (int round = 0; round < 100; round++) {
        uint64_t offset = seed_next(&state) % size;

        check_range(data, size, offset, seed_next(&state) % size);
    }
    free(data);
}
END_TEST

START_TEST(big_in_many_writes)
{
    const size_t size = 9 * 1024 * 1024 + 17;
    uint64_t state = seed_start("store big_in_many_writes");
    unsigned char *data = mem_alloc(size);
    struct buffer got = BUFFER_INIT;
    struct store_info info;
    struct store_put *put;
    enum store_outcome outcome;

    use(_i);
    for (size_t i = 0; i + 8 <= size; i += 8) {
        uint64_t value = seed_next(&state);

        memcpy(data + i, &value, 8);
    }
    memset(data + size - 1, 1, 1);
    ck_assert(store_put_begin(store, "big", STORE_DATA, &put, &err));
    for (size_t at = 0, piece; at < size; at += piece) {
        piece = seed_next(&state) % 300000 + 1;
        piece = piece < size - at ? piece : size - at;
        ck_assert_msg(store_put_write(put, data + at, piece, &err), "%s", err.message);
    }
    ck_assert(store_put_commit(put, &outcome, &err));
    ck_assert(store_get_buffer(store, "big", size, &got, &err));
    ck_assert_uint_eq(got.length, size);
    ck_assert(memcmp(got.data, data, size) == 0);
    ck_assert(store_stat(store, "big", &info, &err));
    ck_assert_uint_eq(info.size, size);
    buffer_free(&got);
    free(data);
}
END_TEST

static bool refuse(const void *data, size_t length, void *context, struct error *error)
{
    (void)data;
    (void)length;
    ++*(int *)context;
    return error_set(error, ERROR_CANCELLED, "no more");
}

START_TEST(sink_stops_get)
{
    int calls = 0;
    unsigned char *data = mem_calloc(1, 1000000);

    use(_i);
    put_bytes("object", data, 1000000);
    ck_assert(!store_get(store, "object", 0, UINT64_MAX, refuse, &calls, &err));
    ck_assert_int_eq(err.code, ERROR_CANCELLED);
    ck_assert_str_eq(err.message, "no more");
    ck_assert_int_eq(calls, 1);
    free(data);
}
END_TEST

START_TEST(stat)
{
    struct store_info info;
    struct timespec now;

    use(_i);
    put_text("a/b", "12345");
    ck_assert(store_stat(store, "a/b", &info, &err));
    ck_assert_uint_eq(info.size, 5);
    clock_gettime(CLOCK_REALTIME, &now);
    ck_assert_int_lt(llabs((long long)now.tv_sec - info.modified / 1000000), 60);
    check_absent("a/c");
    check_absent("a/b0");
    check_absent("a");     /* a prefix of names is no object */
    check_absent("a/b/c"); /* nor is anything below one */
    check_absent("b/c/d");
}
END_TEST

START_TEST(list_order)
{
    use(_i);
    put_text("a0", "");
    put_text("a/b/c", "");
    put_text("a/b-c", "");
    put_text("a/b.c", "");
    put_text("a-b/c", "");
    put_text("a-b0", "");
    put_text("a.b", "");
    put_text("B", "");
    put_text("_", "");
    put_text("a/b0", "");
    put_text("z/1/2/3/4/5", "");
    check_list("", NULL, "B _ a-b/c a-b0 a.b a/b-c a/b.c a/b/c a/b0 a0 z/1/2/3/4/5 ");
    check_list("a", NULL, "a-b/c a-b0 a.b a/b-c a/b.c a/b/c a/b0 a0 ");
    check_list("a/", NULL, "a/b-c a/b.c a/b/c a/b0 ");
    check_list("a/b", NULL, "a/b-c a/b.c a/b/c a/b0 ");
    check_list("a/b/", NULL, "a/b/c ");
    check_list("a/b/c", NULL, "a/b/c ");
    check_list("a-", NULL, "a-b/c a-b0 ");
    check_list("z/1/2", NULL, "z/1/2/3/4/5 ");
    check_list("a/b/cd", NULL, "");
    check_list("a0/", NULL, "");
    check_list("a0/x", NULL, "");
    check_list("q/r/s", NULL, "");
    check_list("", "", "B _ a-b/c a-b0 a.b a/b-c a/b.c a/b/c a/b0 a0 z/1/2/3/4/5 ");
    check_list("", "a-b0", "a.b a/b-c a/b.c a/b/c a/b0 a0 z/1/2/3/4/5 ");
    check_list("", "a/b", "a/b-c a/b.c a/b/c a/b0 a0 z/1/2/3/4/5 ");
    check_list("", "a/b/", "a/b/c a/b0 a0 z/1/2/3/4/5 ");
    check_list("", "a/b/c", "a/b0 a0 z/1/2/3/4/5 ");
    check_list("a/", "a/b.c", "a/b/c a/b0 ");
    check_list("a/", "B", "a/b-c a/b.c a/b/c a/b0 ");
    check_list("a/", "b", "");
    check_list("", "z/1/2/3/4/5", "");
    check_list("", "z/1/2/3/4/4", "z/1/2/3/4/5 ");
    check_list("", "z/1", "z/1/2/3/4/5 ");
}
END_TEST

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Random names of few characters, all prefixes and many `after`s, against the definition. */
START_TEST(list_like_its_definition)
{
    static const char characters[] = "-./0a";
    uint64_t state = seed_start("store list_like_its_definition");
    char *names[80];
    size_t count = 0;

    use(_i);
    while (count < 80) {
        char name[8];
        size_t length = seed_next(&state) % 6 + 1;
        struct store_put *put;
        enum store_outcome outcome;

        for (size_t i = 0; i < length; i++)
            name[i] = characters[seed_next(&state) % 5];
        name[length] = '\0';
        /* In a tree some names exclude others: what cannot be stored is left out. */
        if (!store_name_valid(name) || !store_put_begin(store, name, STORE_DATA, &put, &err))
            continue;
        if (store_put_commit(put, &outcome, &err)) {
            if (outcome == STORE_STORED)
                names[count++] = mem_strdup(name);
        } else {
            ck_assert_msg(kinds[_i].is_tree, "%s: %s", name, err.message);
        }
    }
    qsort(names, count, sizeof(names[0]), compare_names);

    for (size_t i = 0; i < count; i++) {
        for (size_t cut = 0; cut <= strlen(names[i]); cut++) {
            const char *after = names[seed_next(&state) % count];
            char prefix[8];
            struct buffer expected = BUFFER_INIT;

            memcpy(prefix, names[i], cut);
            prefix[cut] = '\0';
            for (size_t j = 0; j < count; j++)
                if (strncmp(names[j], prefix, cut) == 0 && strcmp(names[j], after) > 0)
                    buffer_append_format(&expected, "%s ", names[j]);
            check_list(prefix, after, buffer_text(&expected));
            buffer_free(&expected);
        }
    }
    for (size_t i = 0; i < count; i++)
        free(names[i]);
}
END_TEST

static bool remove_what_is_listed(const char *name, const struct store_info *info, void *context,
                                  struct error *error)
{
    (void)info;
    ++*(int *)context;
    return store_remove(store, name, error);
}

static bool refuse_name(const char *name, const struct store_info *info, void *context,
                        struct error *error)
{
    (void)name;
    (void)info;
    ++*(int *)context;
    return error_set(error, ERROR_CANCELLED, "no more");
}

START_TEST(list_callback)
{
    int calls = 0;

    use(_i);
    for (int i = 0; i < 50; i++) {
        char name[32];

        snprintf(name, sizeof(name), "%c/%02d", 'a' + i % 5, i);
        put_text(name, "x");
    }
    ck_assert(!store_list(store, "", NULL, refuse_name, &calls, &err));
    ck_assert_int_eq(err.code, ERROR_CANCELLED);
    ck_assert_int_eq(calls, 1);
    calls = 0;
    ck_assert(store_list(store, "", NULL, remove_what_is_listed, &calls, &err));
    ck_assert_int_eq(calls, 50);
    check_list("", NULL, "");
}
END_TEST

START_TEST(removal)
{
    use(_i);
    put_text("a/b", "x");
    put_text("a/c", "x");
    ck_assert(store_remove(store, "a/b", &err));
    check_absent("a/b");
    check_list("", NULL, "a/c ");
    ck_assert_msg(store_remove(store, "a/b", &err), "%s", err.message);
    ck_assert_msg(store_remove(store, "x/y/z", &err), "%s", err.message);
    ck_assert_msg(store_remove(store, "a/c/d", &err), "%s", err.message);
    ck_assert_msg(store_remove(store, "a", &err), "%s", err.message);
    check_text("a/c", "x");
    ck_assert_int_eq(err.code, ERROR_NONE);
    ck_assert(store_remove(store, "a/c", &err));
    check_list("", NULL, "");
    ck_assert_int_eq(put_text("a/b", "again"), STORE_STORED);
    check_text("a/b", "again");
}
END_TEST

static void check_code(bool result, enum error_code code, const char *what)
{
    ck_assert_msg(!result, "%s succeeded", what);
    ck_assert_msg(err.code == code, "%s: code %d: %s", what, (int)err.code, err.message);
    ck_assert_str_ne(err.message, "");
    error_clear(&err);
}

START_TEST(bad_names)
{
    static const char *const bad[] = {"", "/a", "a/", "a//b", "../a", "a/../b", ".tmp/x", "a b"};
    struct store_info info;
    struct store_put *put;
    struct buffer buffer = BUFFER_INIT;

    use(_i);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        check_code(store_put_begin(store, bad[i], STORE_DATA, &put, &err), ERROR_USAGE, bad[i]);
        check_code(store_get(store, bad[i], 0, 1, append, &buffer, &err), ERROR_USAGE, bad[i]);
        check_code(store_get_buffer(store, bad[i], 1, &buffer, &err), ERROR_USAGE, bad[i]);
        check_code(store_stat(store, bad[i], &info, &err), ERROR_USAGE, bad[i]);
        check_code(store_sync(store, bad[i], &err), ERROR_USAGE, bad[i]);
        check_code(store_remove(store, bad[i], &err), ERROR_USAGE, bad[i]);
    }
    check_code(store_list(store, "../", NULL, append_name, &buffer, &err), ERROR_USAGE, "../");
    check_code(store_list(store, "a//", NULL, append_name, &buffer, &err), ERROR_USAGE, "a//");
    check_code(store_list(store, ".t", NULL, append_name, &buffer, &err), ERROR_USAGE, ".t");
    check_list("", NULL, "");
}
END_TEST

START_TEST(longest_name)
{
    char name[STORE_NAME_MAXIMUM + 1];

    use(_i);
    for (size_t i = 0; i < STORE_NAME_MAXIMUM; i++)
        name[i] = i % 100 == 99 && i + 1 < STORE_NAME_MAXIMUM ? '/' : 'x';
    name[STORE_NAME_MAXIMUM] = '\0';
    ck_assert_int_eq(put_text(name, "far"), STORE_STORED);
    check_text(name, "far");
    char *listed = mem_printf("%s ", name);

    check_list("xxx", NULL, listed);
    free(listed);
    ck_assert(store_remove(store, name, &err));
}
END_TEST

/* An unusable place is never mistaken for an empty one. */
START_TEST(broken_place)
{
    struct store_info info;
    struct store_put *put;
    struct buffer buffer = BUFFER_INIT;

    use(_i);
    put_text("a/b", "x");
    kinds[_i].break_place();
    check_code(store_get(store, "a/b", 0, UINT64_MAX, append, &buffer, &err), ERROR_STORE, "get");
    check_code(store_get(store, "absent", 0, 1, append, &buffer, &err), ERROR_STORE, "get");
    check_code(store_stat(store, "a/b", &info, &err), ERROR_STORE, "stat");
    check_code(store_stat(store, "absent", &info, &err), ERROR_STORE, "stat");
    check_code(store_list(store, "", NULL, append_name, &buffer, &err), ERROR_STORE, "list");
    check_code(store_list(store, "a/", "a/b", append_name, &buffer, &err), ERROR_STORE, "list");
    /* What is stored in one request is not asked for before its end. */
    if (!store->driver->put_whole)
        check_code(store_put_begin(store, "a/b", STORE_DATA, &put, &err), ERROR_STORE, "put");
    check_code(store_sync(store, "a/b", &err), ERROR_STORE, "sync");
    check_code(store_remove(store, "a/b", &err), ERROR_STORE, "remove");
    ck_assert_uint_eq(buffer.length, 0);
}
END_TEST

START_TEST(breaks_before_commit)
{
    struct store_put *put;
    enum store_outcome outcome;

    use(_i);
    ck_assert(store_put_begin(store, "a/b", STORE_DATA, &put, &err));
    ck_assert(store_put_write(put, "x", 1, &err));
    kinds[_i].break_place();
    check_code(store_put_commit(put, &outcome, &err), ERROR_STORE, "commit");
}
END_TEST

START_TEST(create_place_again)
{
    use(_i);
    put_text("a/b", "x");
    ck_assert_msg(store_create_place(store, &err), "%s", err.message);
    check_text("a/b", "x");
}
END_TEST

Suite *conformance_suite(void)
{
    Suite *suite = suite_create("conformance");
    TCase *tests = tcase_create("conformance");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 20);
    tcase_add_loop_test(tests, put_and_get, 0, kind_count());
    tcase_add_loop_test(tests, nothing_is_overwritten, 0, kind_count());
    tcase_add_loop_test(tests, invisible_before_commit, 0, kind_count());
    tcase_add_loop_test(tests, abort_leaves_nothing, 0, kind_count());
    tcase_add_loop_test(tests, two_puts_of_one_name, 0, kind_count());
    tcase_add_loop_test(tests, one_winner, 0, kind_count());
    tcase_add_loop_test(tests, ranges, 0, kind_count());
    tcase_add_loop_test(tests, big_in_many_writes, 0, kind_count());
    tcase_add_loop_test(tests, sink_stops_get, 0, kind_count());
    tcase_add_loop_test(tests, stat, 0, kind_count());
    tcase_add_loop_test(tests, list_order, 0, kind_count());
    tcase_add_loop_test(tests, list_like_its_definition, 0, kind_count());
    tcase_add_loop_test(tests, list_callback, 0, kind_count());
    tcase_add_loop_test(tests, removal, 0, kind_count());
    tcase_add_loop_test(tests, bad_names, 0, kind_count());
    tcase_add_loop_test(tests, longest_name, 0, kind_count());
    tcase_add_loop_test(tests, broken_place, 0, kind_count());
    tcase_add_loop_test(tests, breaks_before_commit, 0, kind_count());
    tcase_add_loop_test(tests, create_place_again, 0, kind_count());
    suite_add_tcase(suite, tests);
    return suite;
}
