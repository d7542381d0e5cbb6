#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/store.h"
#include "suites.h"
#include "support/memory_store.h"

static bool open_url(const char *url, struct store **store, struct error *err)
{
    const struct config_repository settings = {.name = "r", .url = (char *)(uintptr_t)url};

    return store_open(&settings, store, err);
}

static void check_url_refused(const char *url)
{
    struct store *store = NULL;
    struct error err = ERROR_INIT;

    ck_assert_msg(!open_url(url, &store, &err), "%s", url);
    ck_assert_int_eq(err.code, ERROR_CONFIG);
    ck_assert_ptr_nonnull(strstr(err.message, url));
    ck_assert_ptr_nonnull(strstr(err.hint, "file:///"));
}

START_TEST(urls)
{
    struct store *store = NULL;
    struct error err = ERROR_INIT;

    check_url_refused("");
    check_url_refused("/srv/backup");
    check_url_refused("ftp://host/x");
    check_url_refused("file:/srv/backup");
    check_url_refused("file://");
    check_url_refused("file://srv/backup");
    check_url_refused("file:///");
    check_url_refused("file://///");

    /* Opening touches nothing, so that it works without the place. */
    ck_assert(open_url("file:///nonexistent/x//", &store, &err));
    ck_assert_str_eq(store->url, "file:///nonexistent/x//");
    store_close(store);
    store_close(NULL);
}
END_TEST

START_TEST(names)
{
    static const char *const good[] = {
        "a", "a/b", "pgvigil.json", "main/7000000000000000000/wal/00000001/0/X.zst", "a..b", "a./b",
        "-", "_",   "A-Z_a.z-09"};
    static const char *const bad[] = {"",    "/",    "/a",         "a/",        "a//b", ".",
                                      "..",  ".a",   "a/.b",       "a/../b",    "../a", "a/.",
                                      "a b", "a\nb", "a\\b",       "a\xc3\xa4", "a*",   "a%2fb",
                                      "~",   "a:b",  "lost+found", ".tmp/x"};
    char longest[STORE_NAME_MAXIMUM + 2];

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        ck_assert_msg(store_name_valid(good[i]), "%s", good[i]);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(!store_name_valid(bad[i]), "%s", bad[i]);
    memset(longest, 'x', sizeof(longest));
    longest[STORE_NAME_MAXIMUM] = '\0';
    ck_assert(store_name_valid(longest));
    longest[STORE_NAME_MAXIMUM] = 'x';
    longest[STORE_NAME_MAXIMUM + 1] = '\0';
    ck_assert(!store_name_valid(longest));
}
END_TEST

static struct store *store_with(const char *name, const char *text)
{
    struct store *store = memory_store_new();
    struct store_put *put;
    enum store_outcome outcome;
    struct error err = ERROR_INIT;

    ck_assert(store_put_begin(store, name, STORE_DATA, &put, &err));
    ck_assert(store_put_write(put, text, strlen(text), &err));
    ck_assert(store_put_commit(put, &outcome, &err));
    return store;
}

START_TEST(get_buffer_appends)
{
    struct store *store = store_with("a", "world");
    struct buffer buffer = BUFFER_INIT;
    struct error err = ERROR_INIT;

    buffer_append_string(&buffer, "hello ");
    ck_assert(store_get_buffer(store, "a", 5, &buffer, &err));
    ck_assert_str_eq(buffer_text(&buffer), "hello world");
    buffer_free(&buffer);
    store_close(store);
}
END_TEST

START_TEST(get_buffer_is_bounded)
{
    struct store *store = store_with("a", "world");
    struct buffer buffer = BUFFER_INIT;
    struct error err = ERROR_INIT;

    ck_assert(!store_get_buffer(store, "a", 4, &buffer, &err));
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    ck_assert_ptr_nonnull(strstr(err.message, "object \"a\" is larger than 4 bytes"));
    ck_assert_str_eq(buffer_text(&buffer), "");

    /* What was there before is there after a failure. */
    buffer_append_string(&buffer, "hello");
    ck_assert(!store_get_buffer(store, "a", 4, &buffer, &err));
    ck_assert_str_eq(buffer_text(&buffer), "hello");
    ck_assert_uint_eq(buffer.length, 5);
    buffer_free(&buffer);
    store_close(store);
}
END_TEST

START_TEST(abort_nothing)
{
    store_put_abort(NULL);
}
END_TEST

Suite *store_suite(void)
{
    Suite *suite = suite_create("store");
    TCase *tests = tcase_create("store");

    tcase_add_test(tests, urls);
    tcase_add_test(tests, names);
    tcase_add_test(tests, get_buffer_appends);
    tcase_add_test(tests, get_buffer_is_bounded);
    tcase_add_test(tests, abort_nothing);
    suite_add_tcase(suite, tests);
    return suite;
}
