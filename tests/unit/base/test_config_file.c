/* test_config_file.c - the syntax of a configuration file */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/buffer.h"
#include "pgvigil/config_file.h"
#include "suites.h"

static bool write_down(const struct config_entry *entry, void *context, struct error *err)
{
    struct buffer *seen = context;

    ck_assert_str_eq(entry->path, "/x");
    buffer_append_format(seen, "%d [%s", entry->line, entry->section);
    if (entry->name)
        buffer_append_format(seen, " %s", entry->name);
    buffer_append_string(seen, "]");
    if (entry->key)
        buffer_append_format(seen, " %s=<%s>", entry->key, entry->value);
    buffer_append_string(seen, "\n");
    if (entry->key && strcmp(entry->key, "stop") == 0)
        return error_set(err, ERROR_CONFIG, "stopped");
    return true;
}

/* What is seen of a text, and the error at its end. */
static void expect(const char *text, size_t length, const char *wanted, const char *message)
{
    struct buffer seen = BUFFER_INIT;
    struct error err = ERROR_INIT;

    bool ok = config_file_parse("/x", text, length, write_down, &seen, &err);
    ck_assert_str_eq(buffer_text(&seen), wanted);
    ck_assert_str_eq(ok ? "" : err.message, message);
    if (!ok)
        ck_assert_int_eq(err.code, ERROR_CONFIG);
    buffer_free(&seen);
}

#define EXPECT(text, wanted, message) expect(text, sizeof(text) - 1, wanted, message)

START_TEST(test_entries)
{
    EXPECT("", "", "");
    EXPECT("\n\n# c\n ; d\n", "", "");
    EXPECT("[a]\nk=v", "1 [a]\n2 [a] k=<v>\n", "");
    EXPECT("  [ a   b c ] \r\n\tk_1 =  v w # x \r\n", "1 [a b c]\n2 [a b c] k_1=<v w # x>\n", "");
    EXPECT("[a]\nk=\nl==\nm=\"\"\nn=\"  x \"\no=a\"b\"\n",
           "1 [a]\n2 [a] k=<>\n3 [a] l=<=>\n4 [a] m=<>\n5 [a] n=<  x >\n6 [a] o=<a\"b\">\n", "");
    EXPECT("[a]\nk=\xc3\xa4\xe2\x82\xac\n[a]\n", "1 [a]\n2 [a] k=<\xc3\xa4\xe2\x82\xac>\n3 [a]\n",
           "");
}
END_TEST

START_TEST(test_errors)
{
    EXPECT("\nk=v\n", "", "/x, line 2: key \"k\" stands before any section");
    EXPECT("[a]\nword\n", "1 [a]\n", "/x, line 2: neither a section nor a key");
    EXPECT("[a", "", "/x, line 1: a section must end in ']'");
    EXPECT("[", "", "/x, line 1: a section must end in ']'");
    EXPECT("[]", "", "/x, line 1: invalid section name \"\"");
    EXPECT("[A]", "", "/x, line 1: invalid section name \"A\"");
    EXPECT("[a] # no", "", "/x, line 1: a section must end in ']'");
    EXPECT("[a]\n=v", "1 [a]\n", "/x, line 2: invalid key \"\"");
    EXPECT("[a]\nK=v", "1 [a]\n", "/x, line 2: invalid key \"K\"");
    EXPECT("[a]\nk=\"v", "1 [a]\n", "/x, line 2: a value that starts with '\"' must end with it");
    EXPECT("[a]\nk=\"", "1 [a]\n", "/x, line 2: a value that starts with '\"' must end with it");
    EXPECT("[a]\nk=\"a\" \"b\"", "1 [a]\n", "/x, line 2: a value in quotes cannot contain '\"'");
    EXPECT("[a]\nk=v\0w", "1 [a]\n", "/x, line 2: control character 0x00");
    EXPECT("# \x1b[1m", "", "/x, line 1: control character 0x1b");
    EXPECT("# \xff", "", "/x, line 1: invalid UTF-8");
    EXPECT("# \xc0\xaf", "", "/x, line 1: invalid UTF-8");
    EXPECT("# \xe0\x80\xaf", "", "/x, line 1: invalid UTF-8");
    EXPECT("# \xed\xa0\x80", "", "/x, line 1: invalid UTF-8");
    EXPECT("# \xf4\x90\x80\x80", "", "/x, line 1: invalid UTF-8");
    EXPECT("# \xe2\x82", "", "/x, line 1: invalid UTF-8");
    EXPECT("[a]\nstop=1\nk=v", "1 [a]\n2 [a] stop=<1>\n", "/x, line 2: stopped");
}
END_TEST

START_TEST(test_long_lines)
{
    struct buffer text = BUFFER_INIT, wanted = BUFFER_INIT;

    buffer_append_string(&text, "[a]\nk=");
    buffer_append_string(&wanted, "1 [a]\n2 [a] k=<");
    for (int i = 0; i < 100000; i++) {
        buffer_append_string(&text, "v");
        buffer_append_string(&wanted, "v");
    }
    buffer_append_string(&wanted, ">\n");
    expect(buffer_text(&text), text.length, buffer_text(&wanted), "");
    while (text.length <= 1024 * 1024)
        buffer_append_string(&text, "\n");
    expect(buffer_text(&text), text.length, "", "file \"/x\" is larger than 1 MB");
    buffer_free(&text);
    buffer_free(&wanted);
}
END_TEST

/* The text ends where its length says, not at a NUL: a sanitizer sees a byte read too far. */
START_TEST(test_no_nul_needed)
{
    static const char text[] = "[a]\nk=\xe2\x82\xac";

    for (size_t length = 0; length < sizeof(text); length++) {
        struct buffer seen = BUFFER_INIT;
        struct error err = ERROR_INIT;
        char *copy = malloc(length + 1);
        ck_assert_ptr_nonnull(copy);
        memcpy(copy + 1, text, length);
        config_file_parse("/x", copy + 1, length, write_down, &seen, &err);
        free(copy);
        buffer_free(&seen);
    }
}
END_TEST

Suite *config_file_suite(void)
{
    Suite *suite = suite_create("config_file");
    TCase *tests = tcase_create("config_file");

    tcase_add_test(tests, test_entries);
    tcase_add_test(tests, test_errors);
    tcase_add_test(tests, test_long_lines);
    tcase_add_test(tests, test_no_nul_needed);
    suite_add_tcase(suite, tests);
    return suite;
}
