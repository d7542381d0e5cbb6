#include <check.h>

#include "pgvigil/json_out.h"
#include "suites.h"

static void check_text(const char *text, const char *expected)
{
    json_t *value = json_out_text(text);

    ck_assert_str_eq(json_string_value(value), expected);
    json_decref(value);
}

START_TEST(valid_utf8_stays)
{
    check_text("", "");
    check_text("plain", "plain");
    check_text("\xC3\xA4 \xE2\x82\xAC \xF0\x9F\x90\x98", "\xC3\xA4 \xE2\x82\xAC \xF0\x9F\x90\x98");
    check_text("\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF",
               "\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF");
}
END_TEST

#define R "\xEF\xBF\xBD"

START_TEST(other_bytes_are_replaced)
{
    check_text("a\xFFz", "a" R "z");
    check_text("\xC3", R);                   /* cut off */
    check_text("\xE2\x82", R R);             /* cut off later */
    check_text("\xC0\xAF", R R);             /* an overlong '/' */
    check_text("\xE0\x80\xAF", R R R);       /* a longer one */
    check_text("\xED\xA0\x80", R R R);       /* a surrogate */
    check_text("\xF4\x90\x80\x80", R R R R); /* beyond U+10FFFF */
    check_text("\xF0\x82\x82\xAC!", R R R R "!");
    check_text("\x80\xBF", R R); /* continuation of nothing */
}
END_TEST

START_TEST(form_is_fixed)
{
    json_t *object = json_out_object(), *array = json_out_array();
    struct buffer text = BUFFER_INIT;

    json_out_add(array, json_integer(1));
    json_out_add(array, json_out_text("a\n\"b\""));
    json_out_put(object, "z", json_null());
    json_out_put(object, "a", array);
    json_out_write(object, &text);
    ck_assert_str_eq(buffer_text(&text),
                     "{\n  \"a\": [\n    1,\n    \"a\\n\\\"b\\\"\"\n  ],\n  \"z\": null\n}\n");
    json_decref(object);
    buffer_free(&text);
}
END_TEST

Suite *json_out_suite(void)
{
    Suite *suite = suite_create("json_out");
    TCase *tests = tcase_create("json_out");

    tcase_add_test(tests, valid_utf8_stays);
    tcase_add_test(tests, other_bytes_are_replaced);
    tcase_add_test(tests, form_is_fixed);
    suite_add_tcase(suite, tests);
    return suite;
}
