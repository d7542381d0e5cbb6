#include "pgvigil/repository.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgvigil/clusters.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "pgvigil/object.h"
#include "suites.h"
#include "support/archive.h"
#include "support/key_files.h"
#include "support/scratch.h"

static char *root;
static struct config *config;
static struct repository *repository;
static struct error err;

static void set_up(void)
{
    root = scratch_make();
    config = archive_config(root, 1);
    repository = NULL;
    error_clear(&err);
}

static void tear_down(void)
{
    repository_close(repository);
    config_free(config);
    scratch_remove(root);
}

static bool create(enum repository_creation *creation)
{
    return repository_create(config, &config->repositories[0], creation, &err);
}

static void must_create(void)
{
    enum repository_creation creation;

    ck_assert_msg(create(&creation), "%s", err.message);
    ck_assert_int_eq(creation, REPOSITORY_CREATED);
}

static bool reopen(void)
{
    repository_close(repository);
    repository = NULL;
    return repository_open(config, &config->repositories[0], &repository, &err);
}

static char *in_root(const char *name)
{
    return files_join(root, name);
}

static void move(const char *from, const char *to)
{
    char *old = in_root(from), *new = in_root(to);

    ck_assert_int_eq(rename(old, new), 0);
    free(old);
    free(new);
}

static void erase(const char *name)
{
    char *path = in_root(name);

    ck_assert(files_remove_tree(path, &err));
    free(path);
}

static void ck_refused(enum error_code code, const char *message, const char *hint)
{
    ck_assert_int_eq(err.code, code);
    ck_assert_msg(strstr(err.message, message) != NULL, "%s", err.message);
    ck_assert_msg(strstr(err.hint, hint) != NULL, "hint: %s", err.hint);
    error_clear(&err);
}

START_TEST(made_once_and_found_again)
{
    enum repository_creation creation;
    char id[REPOSITORY_ID_SIZE];
    struct buffer text = BUFFER_INIT;
    char *path = in_root("r1/pgvigil.json"), *pin = in_root("state/repository/r1");

    must_create();
    ck_assert_msg(reopen(), "%s", err.message);
    memcpy(id, repository->id, sizeof(id));
    ck_assert_uint_eq(strlen(id), 32);
    ck_assert(create(&creation));
    ck_assert_int_eq(creation, REPOSITORY_FOUND);
    ck_assert(reopen());
    ck_assert_str_eq(repository->id, id);
    ck_assert_str_eq(repository->cluster, "main");
    ck_assert_ptr_null(repository->prefix);

    /* The text before the trailer is JSON by itself, on lines. */
    ck_assert(files_read(path, 10000, &text, &err));
    ck_assert_uint_gt(text.length, TRAILER_SIZE);
    ck_assert_int_eq(text.data[0], '{');
    ck_assert_int_eq(text.data[text.length - TRAILER_SIZE - 1], '\n');
    ck_assert_int_eq(text.data[text.length - TRAILER_SIZE - 2], '}');
    ck_assert_ptr_nonnull(strstr(buffer_text(&text), id));
    buffer_clear(&text);
    ck_assert(files_read(pin, 100, &text, &err));
    ck_assert_int_eq(strncmp(buffer_text(&text), id, 32), 0);
    buffer_free(&text);
    free(path);
    free(pin);
}
END_TEST

START_TEST(nothing_there_is_no_repository)
{
    char *directory = in_root("r1");

    ck_assert(!reopen());
    ck_refused(ERROR_STORE, "does not exist", "mounted");
    ck_assert_int_eq(mkdir(directory, 0700), 0);
    ck_assert(!reopen());
    ck_refused(ERROR_STORE, "there is no \"pgvigil.json\" in repository \"r1\"", "pgvigil init");
    free(directory);
}
END_TEST

/* A directory that had a repository and has none now: unmounted. Nothing may be made in it. */
START_TEST(an_unmounted_place_stays_untouched)
{
    enum repository_creation creation;
    char *directory = in_root("r1");
    enum files_emptiness emptiness;

    must_create();
    move("r1", "elsewhere");
    ck_assert(!reopen());
    ck_refused(ERROR_STORE, "does not exist", "it was there before: is its file system mounted");
    ck_assert(!create(&creation));
    ck_refused(ERROR_STORE, "does not exist", "it was there before: is its file system mounted");
    ck_assert(files_emptiness(directory, &emptiness, &err));
    ck_assert_int_eq(emptiness, FILES_ABSENT);

    ck_assert_int_eq(mkdir(directory, 0700), 0);
    ck_assert(!reopen());
    ck_assert_ptr_nonnull(strstr(err.hint, "[repository NEWNAME], or remove"));
    ck_assert_ptr_nonnull(strstr(err.hint, "state/repository/r1"));
    ck_refused(ERROR_STORE, "there is no \"pgvigil.json\"", "it was there before");
    ck_assert(!create(&creation));
    ck_assert_str_eq(err.detail, ""); /* which would say the same as the hint */
    ck_refused(ERROR_STORE, "there is no \"pgvigil.json\"", "it was there before");
    ck_assert(files_emptiness(directory, &emptiness, &err));
    ck_assert_int_eq(emptiness, FILES_EMPTY);
    free(directory);
}
END_TEST

START_TEST(another_repository_is_noticed)
{
    enum repository_creation creation;

    must_create();
    move("r1", "elsewhere");
    erase("state/repository/r1");
    must_create();
    ck_assert(reopen());
    erase("r1");
    move("elsewhere", "r1");
    ck_assert(!reopen());
    ck_refused(ERROR_STORE, "is not the one it was before", "state/repository/r1");
    ck_assert(!create(&creation));
    ck_refused(ERROR_STORE, "is not the one it was before", "state/repository/r1");
    /* As the hint says. */
    erase("state/repository/r1");
    ck_assert(reopen());
}
END_TEST

START_TEST(a_lost_pin_is_made_anew)
{
    char *state = in_root("state"), *pin = in_root("state/repository/r1");

    must_create();
    erase("state");
    ck_assert(reopen());
    ck_assert_int_eq(access(pin, F_OK), 0);

    ck_assert(files_write(pin, "rubbish\n", 8, 0600, &err));
    ck_assert(!reopen());
    ck_refused(ERROR_CONFIG, "does not hold the id", "remove the file");

    /* A pin that cannot be made is an error: the next time nothing would be known. */
    erase("state");
    ck_assert(files_write(state, "x", 1, 0600, &err));
    ck_assert(!reopen());
    ck_refused(ERROR_SYSTEM, "state/repository/r1", "");
    free(state);
    free(pin);
}
END_TEST

START_TEST(a_foreign_directory_is_refused)
{
    enum repository_creation creation;
    char *directory = in_root("r1"), *nested = in_root("r1/sub"), *found = in_root("r1/lost+found");

    ck_assert_int_eq(mkdir(directory, 0700), 0);
    ck_assert_int_eq(mkdir(found, 0700), 0);
    ck_assert_int_eq(mkdir(nested, 0700), 0);
    free(archive_file(nested, "photo.jpg", "x", 1));
    ck_assert(!create(&creation));
    ck_assert_ptr_nonnull(strstr(err.detail, "sub/photo.jpg"));
    ck_refused(ERROR_STORE, "is not empty and no repository", "of its own");
    /* What mkfs leaves is no obstacle. */
    erase("r1/sub");
    must_create();
    free(directory);
    free(nested);
    free(found);
}
END_TEST

static void replace_identity(const char *json)
{
    enum store_outcome outcome;

    ck_assert(reopen());
    ck_assert(store_remove(repository->store, "pgvigil.json", &err));
    ck_assert(object_put(repository, "pgvigil.json", TRAILER_IDENTITY, OBJECT_PLAIN, 0, json,
                         strlen(json), &outcome, NULL, &err));
}

START_TEST(what_pgvigil_json_may_say)
{
    static const char good[] = "{\"pgvigil\": 1, \"format\": 1, \"more\": [], "
                               "\"id\": \"00112233445566778899aabbccddeeff\"}";
    static const struct {
        const char *json;
        enum error_code code;
        const char *message;
    } wrong[] = {
        {"{\"pgvigil\": 1, \"format\": 2, \"id\": \"00112233445566778899aabbccddeeff\"}",
         ERROR_CONFIG, "has format 2, this pgvigil knows formats up to 1"},
        {"{\"pgvigil\": 1, \"format\": 1, \"id\": \"00112233445566778899AABBCCDDEEFF\"}",
         ERROR_INTEGRITY, "has no id"},
        {"{\"pgvigil\": 1, \"format\": 1, \"id\": \"../../../etc/passwd\"}", ERROR_INTEGRITY,
         "has no id"},
        {"{\"pgvigil\": 1, \"format\": 1}", ERROR_INTEGRITY, "has no id"},
        {"{\"format\": 1, \"id\": \"00112233445566778899aabbccddeeff\"}", ERROR_INTEGRITY,
         "does not name its format"},
        {"[]", ERROR_INTEGRITY, "does not name its format"},
        {"{", ERROR_INTEGRITY, "is no valid JSON"},
        {"", ERROR_INTEGRITY, "is no valid JSON"},
    };

    must_create();
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        replace_identity(wrong[i].json);
        ck_assert(!reopen());
        ck_assert_msg(err.code == wrong[i].code, "%zu: %s", i, err.message);
        ck_assert_msg(strstr(err.message, wrong[i].message) != NULL, "%zu: %s", i, err.message);
        erase("r1");
        erase("state");
        must_create();
    }
    replace_identity(good);
    erase("state");
    ck_assert_msg(reopen(), "%s", err.message);
    ck_assert_str_eq(repository->id, "00112233445566778899aabbccddeeff");
}
END_TEST

START_TEST(a_damaged_pgvigil_json_is_noticed)
{
    struct buffer bytes = BUFFER_INIT;
    char *path = in_root("r1/pgvigil.json"), *directory = in_root("r1");

    must_create();
    ck_assert(files_read(path, 10000, &bytes, &err));
    for (size_t i = 0; i < bytes.length; i++) {
        bytes.data[i] ^= 1;
        free(archive_file(directory, "pgvigil.json", bytes.data, bytes.length));
        ck_assert_msg(!reopen(), "byte %zu", i);
        ck_assert_int_eq(err.code, ERROR_INTEGRITY);
        bytes.data[i] ^= 1;
    }
    free(archive_file(directory, "pgvigil.json", bytes.data, bytes.length - TRAILER_SIZE));
    ck_assert(!reopen());
    ck_assert_int_eq(err.code, ERROR_INTEGRITY);
    buffer_free(&bytes);
    free(directory);
    free(path);
}
END_TEST

static void put(const char *name)
{
    struct store_put *begun;
    enum store_outcome outcome;

    ck_assert(store_put_begin(repository->store, name, STORE_DATA, &begun, &err));
    ck_assert(store_put_write(begun, name, strlen(name), &err));
    ck_assert(store_put_commit(begun, &outcome, &err));
}

static bool append_name(const char *name, const struct store_info *info, void *context,
                        struct error *unused)
{
    (void)unused;
    buffer_append_format(context, "%s:%llu ", name, (unsigned long long)info->size);
    return true;
}

START_TEST(names_are_relative_to_the_cluster)
{
    static const char *const names[] = {"main/7/a/1", "main/7/a/2", "main/7/b",
                                        "main/70/c",  "main2/7/d",  "pgvigil.json"};
    struct buffer listed = BUFFER_INIT;
    char name[STORE_NAME_MAXIMUM + 1];
    bool found;

    repository = archive_repository();
    repository_select(repository, 7);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        put(names[i]);
    char *full = repository_object_name(repository, "a/1");
    ck_assert_str_eq(full, "main/7/a/1");
    free(full);

    ck_assert(repository_list(repository, "", NULL, append_name, &listed, &err));
    ck_assert_str_eq(buffer_text(&listed), "a/1:10 a/2:10 b:8 ");
    buffer_clear(&listed);
    ck_assert(repository_list(repository, "a/", "a/1", append_name, &listed, &err));
    ck_assert_str_eq(buffer_text(&listed), "a/2:10 ");

    ck_assert(repository_first(repository, "a/", NULL, name, &found, &err));
    ck_assert(found);
    ck_assert_str_eq(name, "a/1");
    ck_assert_int_eq(err.code, ERROR_NONE);
    ck_assert(repository_first(repository, "a/", "a/1", name, &found, &err));
    ck_assert_str_eq(name, "a/2");
    ck_assert(repository_first(repository, "a/", "a/2", name, &found, &err));
    ck_assert(!found);
    buffer_free(&listed);
}
END_TEST

START_TEST(system_identifiers_are_found)
{
    static const char *const names[] = {
        "main/18446744073709551615/wal/x",
        "main/18446744073709551616/x",
        "main/007/x",
        "main/123/a",
        "main/123/b/c",
        "main/1234/a",
        "main/99/a",
        "main/notanumber/a",
        "main/12345",
        "main/0/a",
        "maintenance/5/a",
        "main/123-x/a",
    };
    uint64_t *identifiers;
    size_t count;

    repository = archive_repository();
    ck_assert(clusters_identifiers(repository, &identifiers, &count, &err));
    ck_assert_uint_eq(count, 0);
    free(identifiers);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        put(names[i]);
    ck_assert(clusters_identifiers(repository, &identifiers, &count, &err));
    ck_assert_uint_eq(count, 4);
    ck_assert_uint_eq(identifiers[0], 99);
    ck_assert_uint_eq(identifiers[1], 123);
    ck_assert_uint_eq(identifiers[2], 1234);
    ck_assert_uint_eq(identifiers[3], UINT64_MAX);
    free(identifiers);
}
END_TEST

static char certificate[4096];

/* Gives the configuration a recipient, an identity, or neither; there is no file of the latter. */
static void configure_keys(bool recipient, bool identity)
{
    static char *crt[] = {certificate}, *key[] = {"/nonexistent/a.key"};

    snprintf(certificate, sizeof(certificate), "%s/a.crt", root);
    key_files_make(root, "a", KEYPAIR_EC, NULL);
    config->encryption.recipients =
        (struct config_paths){.paths = recipient ? crt : NULL, .count = recipient};
    config->encryption.identity =
        (struct config_paths){.paths = identity ? key : NULL, .count = identity};
}

START_TEST(encrypted_or_not_is_settled_when_it_is_made)
{
    enum repository_creation creation;

    must_create();
    ck_assert_msg(reopen(), "%s", err.message);
    ck_assert(!repository->encrypted);
    configure_keys(true, false);
    ck_assert(!reopen());
    ck_refused(ERROR_CONFIG, "is not encrypted, but the configuration has keys", "settled when");
    ck_assert(!create(&creation));
    ck_refused(ERROR_CONFIG, "is not encrypted, but the configuration has keys", "settled when");
    configure_keys(false, true);
    ck_assert(!reopen());
    ck_refused(ERROR_CONFIG, "is not encrypted, but the configuration has keys", "settled when");
    configure_keys(false, false);
    ck_assert(reopen());
}
END_TEST

START_TEST(an_encrypted_one_wants_keys)
{
    enum repository_creation creation;

    configure_keys(true, false);
    must_create();
    ck_assert_msg(reopen(), "%s", err.message);
    ck_assert(repository->encrypted);
    ck_assert(repository_check_recipients(repository, &err));
    ck_assert_int_eq(unlink(certificate), 0);
    ck_assert(reopen());
    ck_assert(!repository_check_recipients(repository, &err));
    ck_refused(ERROR_CONFIG, "could not load the recipients", "keygen");
    configure_keys(false, false);
    ck_assert(!reopen());
    ck_refused(ERROR_CONFIG, "is encrypted, but the configuration has no recipients",
               "\"recipients\"");
    ck_assert(!create(&creation));
    ck_refused(ERROR_CONFIG, "is encrypted, but the configuration has no recipients",
               "\"recipients\"");
    configure_keys(false, true);
    ck_assert_msg(reopen(), "%s", err.message);
    ck_assert(!repository_check_recipients(repository, &err));
    ck_refused(ERROR_CONFIG, "no recipients to encrypt for", "\"recipients\"");
    configure_keys(false, false);
}
END_TEST

/* Who can write to the place changes pgvigil.json, and waits for the keys to be left out. */
START_TEST(it_does_not_become_plain)
{
    char *path = in_root("r1/pgvigil.json");
    struct buffer text = BUFFER_INIT;
    struct trailer trailer;
    char *word;

    configure_keys(true, false);
    must_create();
    ck_assert(reopen());
    configure_keys(false, false);
    ck_assert(files_read(path, 10000, &text, &err));
    ck_assert(trailer_decode(text.data + text.length - TRAILER_SIZE, &trailer, &err));
    word = strstr(buffer_text(&text), "\"cms\"");
    ck_assert_ptr_nonnull(word);
    memcpy(word, "null ", 5);
    digest_sha256(text.data, text.length - TRAILER_SIZE, trailer.stored_sha256);
    trailer_encode(&trailer, text.data + text.length - TRAILER_SIZE);
    ck_assert(files_write(path, text.data, text.length, 0600, &err));
    ck_assert(!reopen());
    ck_refused(ERROR_STORE, "is not the one it was before", "on purpose");
    buffer_free(&text);
    free(path);
}
END_TEST

START_TEST(none_is_made_to_be_read_only)
{
    char *path = in_root("r1/pgvigil.json");
    enum repository_creation creation;

    configure_keys(true, false);
    ck_assert_int_eq(unlink(certificate), 0);
    ck_assert(!create(&creation));
    ck_refused(ERROR_CONFIG, "cannot be made: could not load the recipients", "keygen ");
    ck_assert_int_ne(access(path, F_OK), 0);
    free(path);
    configure_keys(false, true);
    ck_assert(!create(&creation));
    ck_refused(ERROR_CONFIG, "no recipients", "\"recipients\"");
    configure_keys(true, false);
    must_create();
    configure_keys(false, false);
}
END_TEST

Suite *repository_suite(void)
{
    Suite *suite = suite_create("repository");
    TCase *tests = tcase_create("repository");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, made_once_and_found_again);
    tcase_add_test(tests, nothing_there_is_no_repository);
    tcase_add_test(tests, an_unmounted_place_stays_untouched);
    tcase_add_test(tests, another_repository_is_noticed);
    tcase_add_test(tests, a_lost_pin_is_made_anew);
    tcase_add_test(tests, a_foreign_directory_is_refused);
    tcase_add_test(tests, what_pgvigil_json_may_say);
    tcase_add_test(tests, a_damaged_pgvigil_json_is_noticed);
    tcase_add_test(tests, names_are_relative_to_the_cluster);
    tcase_add_test(tests, system_identifiers_are_found);
    tcase_add_test(tests, encrypted_or_not_is_settled_when_it_is_made);
    tcase_add_test(tests, an_encrypted_one_wants_keys);
    tcase_add_test(tests, it_does_not_become_plain);
    tcase_add_test(tests, none_is_made_to_be_read_only);
    suite_add_tcase(suite, tests);
    return suite;
}
