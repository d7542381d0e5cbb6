#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/mem.h"
#include "pgvigil/pack.h"
#include "pgvigil/trailer.h"
#include "suites.h"
#include "support/memory_store.h"
#include "support/seed.h"

static struct repository repository;
static struct error err;

static void set_up(void)
{
    repository = (struct repository){
        .name = "test", .store = memory_store_new(), .cluster = mem_strdup("main")};
    repository_select(&repository, 7);
    error_clear(&err);
}

static void tear_down(void)
{
    free(repository.prefix);
    free(repository.cluster);
    store_close(repository.store);
}

/* Fills more than one pack with what does not compress, and reads all of it back. */
START_TEST(frames_across_packs)
{
    enum { FRAMES = 300 };
    struct pack_set *set = pack_set_new(&repository, 1000);
    struct decompress_context *context = decompress_new();
    unsigned char *raw = mem_alloc(PACK_FRAME_RAW), *back = mem_alloc(PACK_FRAME_RAW);
    struct pack_frame frames[FRAMES];
    struct pack_writer *writer;
    struct buffer pack = BUFFER_INIT;
    const struct refs *refs;

    seed_start("pack");
    ck_assert(pack_writer_new(set, REFS_DATA, 1, &writer, &err));
    for (uint64_t i = 0; i < FRAMES; i++) {
        uint64_t state = i;

        seed_fill(&state, raw, PACK_FRAME_RAW);
        ck_assert(pack_writer_add(writer, raw, PACK_FRAME_RAW, 32, &frames[i], &err));
    }
    ck_assert(pack_writer_flush(writer, &err));
    ck_assert(pack_writer_flush(writer, &err)); /* nothing left: nothing stored */
    refs = pack_set_refs(set);
    ck_assert_uint_eq(refs->count, 3);
    for (uint64_t i = 0; i < FRAMES; i += 13) {
        uint64_t state = i;
        size_t length;

        ck_assert(pack_fetch(&repository, refs_find(refs, &frames[i].pack), &pack, &err));
        ck_assert(pack_read_frame(&pack, &frames[i], context, back, PACK_FRAME_RAW, &length, &err));
        seed_fill(&state, raw, PACK_FRAME_RAW);
        ck_assert_uint_eq(length, PACK_FRAME_RAW);
        ck_assert_mem_eq(raw, back, PACK_FRAME_RAW);
    }
    for (size_t i = 0; i < refs->count; i++)
        ck_assert_uint_le(refs->packs[i].size, PACK_SIZE);
    buffer_free(&pack);
    pack_writer_free(writer);
    pack_set_free(set);
    decompress_free(context);
    free(raw);
    free(back);
}
END_TEST

static struct pack_frame store_one(struct pack_set *set)
{
    struct pack_frame frame;
    struct pack_writer *writer;

    ck_assert(pack_writer_new(set, REFS_DATA, 1, &writer, &err));
    ck_assert(pack_writer_add(writer, "hello", 5, 1, &frame, &err));
    ck_assert_msg(pack_writer_flush(writer, &err), "%s", err.message);
    pack_writer_free(writer);
    return frame;
}

/* A pack that is whole in itself but not the one the backup was made of. */
START_TEST(another_pack_is_refused)
{
    struct pack_set *set = pack_set_new(&repository, 1000);
    struct buffer bytes = BUFFER_INIT;
    struct refs_pack pack;

    store_one(set);
    pack = pack_set_refs(set)->packs[0];
    pack.sha256[0] ^= 1;
    ck_assert(!pack_fetch(&repository, &pack, &bytes, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    pack = pack_set_refs(set)->packs[0];
    pack.pack.number++;
    ck_assert(!pack_fetch(&repository, &pack, &bytes, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY); /* absence is damage: the backup needs it */
    buffer_free(&bytes);
    pack_set_free(set);
}
END_TEST

START_TEST(frame_outside_its_pack)
{
    struct decompress_context *context = decompress_new();
    unsigned char raw[16], few[8] = {0};
    struct buffer pack = BUFFER_INIT;
    struct pack_frame frame = {.pack = {.run = 1, .number = 1}, .offset = 4, .length = 5};
    size_t length;

    buffer_append(&pack, few, sizeof few);
    ck_assert(!pack_read_frame(&pack, &frame, context, raw, sizeof raw, &length, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    frame.offset = UINT32_MAX;
    ck_assert(!pack_read_frame(&pack, &frame, context, raw, sizeof raw, &length, &err));
    buffer_free(&pack);
    decompress_free(context);
}
END_TEST

/* Two runs with one id (two hosts, wrong clocks): the second must not take the first's pack for its
 * own. */
START_TEST(a_taken_name_is_an_error)
{
    struct pack_set *first = pack_set_new(&repository, 1000);
    struct pack_set *second = pack_set_new(&repository, 1000);
    struct pack_frame frame;
    struct pack_writer *writer;

    store_one(first);
    ck_assert(pack_writer_new(second, REFS_DATA, 1, &writer, &err));
    ck_assert(pack_writer_add(writer, "world", 5, 1, &frame, &err));
    ck_assert(!pack_writer_flush(writer, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    pack_writer_free(writer);
    pack_set_free(first);
    pack_set_free(second);
}
END_TEST

static void *fill(void *set)
{
    for (int i = 0; i < 50; i++)
        store_one(set);
    return NULL;
}

START_TEST(writers_in_parallel)
{
    struct pack_set *set = pack_set_new(&repository, 1000);
    pthread_t threads[4];
    const struct refs *refs;

    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, fill, set), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    refs = pack_set_refs(set);
    ck_assert_uint_eq(refs->count, 200);
    for (uint32_t i = 0; i < 200; i++)
        ck_assert_uint_eq(refs->packs[i].pack.number, i + 1);
    pack_set_free(set);
}
END_TEST

Suite *pack_suite(void)
{
    Suite *suite = suite_create("pack");
    TCase *tests = tcase_create("pack");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, frames_across_packs);
    tcase_add_test(tests, another_pack_is_refused);
    tcase_add_test(tests, frame_outside_its_pack);
    tcase_add_test(tests, a_taken_name_is_an_error);
    tcase_add_test(tests, writers_in_parallel);
    suite_add_tcase(suite, tests);
    return suite;
}
