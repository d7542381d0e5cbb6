/* test_buffer.c - a growing array of bytes, and the readers of bytes.h */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/buffer.h"
#include "pgvigil/bytes.h"
#include "suites.h"

START_TEST(test_empty)
{
    struct buffer buffer = BUFFER_INIT;

    ck_assert_str_eq(buffer_text(&buffer), "");
    buffer_clear(&buffer);
    buffer_append(&buffer, NULL, 0);
    ck_assert_str_eq(buffer_text(&buffer), "");
    buffer_free(&buffer);
    buffer_free(&buffer);
    buffer_free(NULL);

    char *text = buffer_take_text(&buffer);
    ck_assert_str_eq(text, "");
    free(text);
}
END_TEST

START_TEST(test_text)
{
    struct buffer buffer = BUFFER_INIT;

    buffer_append_string(&buffer, "ab");
    buffer_append_format(&buffer, "-%s-%d", "c", 5);
    buffer_append(&buffer, "xyz", 2);
    ck_assert_str_eq(buffer_text(&buffer), "ab-c-5xy");
    ck_assert_uint_eq(buffer.length, 8);
    buffer_clear(&buffer);
    ck_assert_str_eq(buffer_text(&buffer), "");
    buffer_append_string(&buffer, "again");
    char *text = buffer_take_text(&buffer);
    ck_assert_str_eq(text, "again");
    ck_assert_ptr_null(buffer.data);
    free(text);
}
END_TEST

START_TEST(test_growth)
{
    struct buffer buffer = BUFFER_INIT;

    for (unsigned i = 0; i < 100000; i++)
        buffer_append_u16(&buffer, (uint16_t)i);
    ck_assert_uint_eq(buffer.length, 200000);
    ck_assert_uint_eq(buffer.data[buffer.length], 0);
    for (unsigned i = 0; i < 100000; i++)
        ck_assert_uint_eq(bytes_get_u16(buffer.data + 2 * i), (uint16_t)i);
    size_t capacity = buffer.capacity;
    buffer_reserve(&buffer, capacity - buffer.length - 1);
    ck_assert_uint_eq(buffer.capacity, capacity);
    buffer_reserve(&buffer, capacity - buffer.length);
    ck_assert_uint_gt(buffer.capacity, capacity);
    buffer_free(&buffer);
}
END_TEST

START_TEST(test_no_more_room_than_asked_for)
{
    struct buffer buffer = BUFFER_INIT;
    struct error err = ERROR_INIT;

    ck_assert(buffer_try_reserve(&buffer, 1000, &err));
    ck_assert_uint_eq(buffer.capacity, 1001);
    ck_assert_str_eq(buffer_text(&buffer), "");
    buffer_append_string(&buffer, "kept");
    ck_assert(buffer_try_reserve(&buffer, 996, &err));
    ck_assert_uint_eq(buffer.capacity, 1001);
    ck_assert_str_eq(buffer_text(&buffer), "kept");
    buffer_free(&buffer);
}
END_TEST

START_TEST(test_integers_are_little_endian)
{
    static const unsigned char wanted[] = {0x02, 0x01, 0x06, 0x05, 0x04, 0x03, 0x0E,
                                           0x0D, 0x0C, 0x0B, 0x0A, 0x09, 0x08, 0x07};
    struct buffer buffer = BUFFER_INIT;

    buffer_append_u16(&buffer, 0x0102);
    buffer_append_u32(&buffer, 0x03040506);
    buffer_append_u64(&buffer, UINT64_C(0x0708090A0B0C0D0E));
    ck_assert_uint_eq(buffer.length, sizeof(wanted));
    ck_assert_mem_eq(buffer.data, wanted, sizeof(wanted));

    struct bytes_reader reader = {.at = buffer.data, .left = buffer.length};
    ck_assert_uint_eq(bytes_take_u16(&reader), 0x0102);
    ck_assert_uint_eq(bytes_take_u32(&reader), 0x03040506);
    ck_assert_uint_eq(bytes_take_u64(&reader), UINT64_C(0x0708090A0B0C0D0E));
    ck_assert(!reader.failed);
    ck_assert_uint_eq(reader.left, 0);
    buffer_free(&buffer);
}
END_TEST

START_TEST(test_reader_stays_in_bounds)
{
    static const unsigned char data[] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
    struct bytes_reader reader = {.at = data, .left = sizeof(data)};

    ck_assert_uint_eq(bytes_take_u32(&reader), UINT32_MAX);
    ck_assert_uint_eq(bytes_take_u16(&reader), 0);
    ck_assert(reader.failed);
    ck_assert_ptr_null(bytes_take(&reader, 1)); /* although one is left */
    ck_assert_ptr_null(bytes_take(&reader, SIZE_MAX));
}
END_TEST

Suite *buffer_suite(void)
{
    Suite *suite = suite_create("buffer");
    TCase *tests = tcase_create("buffer");

    tcase_add_test(tests, test_empty);
    tcase_add_test(tests, test_text);
    tcase_add_test(tests, test_growth);
    tcase_add_test(tests, test_no_more_room_than_asked_for);
    tcase_add_test(tests, test_integers_are_little_endian);
    tcase_add_test(tests, test_reader_stays_in_bounds);
    suite_add_tcase(suite, tests);
    return suite;
}
