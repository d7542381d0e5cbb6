#include "pgvigil/keys.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "suites.h"
#include "support/key_files.h"
#include "support/scratch.h"

static char *directory;
static struct error err;

static void set_up(void)
{
    directory = scratch_make();
    error_clear(&err);
}

static void tear_down(void)
{
    scratch_remove(directory);
}

static bool load_identity(const char *name, const char *passphrase)
{
    char *path = key_files_path(directory, name, "");
    struct keys_identity *identity = NULL;
    bool ok = keys_load_identity(&path, 1, passphrase, &identity, &err);

    if (ok)
        keys_free_identity(identity);
    free(path);
    return ok;
}

static bool load_recipients(const char *name)
{
    char *path = key_files_path(directory, name, "");
    struct keys_recipients *recipients = NULL;
    bool ok = keys_load_recipients(&path, 1, &recipients, &err);

    if (ok)
        keys_free_recipients(recipients);
    free(path);
    return ok;
}

static void ck_refused(bool ok, const char *message, const char *hint)
{
    ck_assert(!ok);
    ck_assert_int_eq(err.code, ERROR_CONFIG);
    ck_assert_msg(strstr(err.message, message) != NULL, "%s", err.message);
    ck_assert_msg(strstr(err.hint, hint) != NULL, "hint: %s", err.hint);
    error_clear(&err);
}

START_TEST(a_pair_fits_itself_alone)
{
    char *crts[2], *keys[2];
    struct keys_recipients *recipients;
    struct keys_identity *identity;

    key_files_make(directory, "a", KEYPAIR_EC, NULL);
    key_files_make(directory, "b", KEYPAIR_EC, NULL);
    crts[0] = key_files_path(directory, "a", ".crt");
    keys[0] = key_files_path(directory, "b", ".key");
    keys[1] = key_files_path(directory, "a", ".key");
    ck_assert(keys_load_recipients(crts, 1, &recipients, &err));
    ck_assert(keys_load_identity(keys, 1, NULL, &identity, &err));
    ck_assert(!keys_fit(recipients, identity));
    keys_free_identity(identity);
    ck_assert(keys_load_identity(keys, 2, NULL, &identity, &err));
    ck_assert(keys_fit(recipients, identity));
    keys_free_identity(identity);
    keys_free_recipients(recipients);
    keys_free_identity(NULL);
    keys_free_recipients(NULL);
    free(crts[0]);
    free(keys[0]);
    free(keys[1]);
}
END_TEST

START_TEST(protected_by_a_passphrase)
{
    key_files_make(directory, "p", KEYPAIR_EC, "open sesame");
    ck_assert_msg(load_identity("p.key", "open sesame"), "%s", err.message);
    ck_refused(load_identity("p.key", NULL), "is protected by a passphrase", "PGVIGIL_PASSPHRASE");
    ck_refused(load_identity("p.key", "open sesam"), "the passphrase given does not open", "");
}
END_TEST

START_TEST(what_is_no_key_or_certificate)
{
    char *path = key_files_path(directory, "rubbish", "");

    ck_assert(files_write(path, "rubbish\n", 8, 0600, &err));
    free(path);
    key_files_make(directory, "a", KEYPAIR_EC, NULL);
    ck_refused(load_identity("rubbish", NULL), "there is no private key in", "PEM");
    ck_refused(load_identity("a.crt", NULL), "can be used by others", "chmod");
    ck_refused(load_identity("none", NULL), "No such file", "");
    ck_refused(load_recipients("rubbish"), "there is no certificate in", "PEM");
    ck_refused(load_recipients("a.key"), "there is no certificate in", "\"identity\"");
    ck_refused(load_recipients("none"), "No such file", "");
}
END_TEST

START_TEST(keys_that_cannot_encrypt)
{
    char *crt = key_files_path(directory, "e", ".crt"),
         *secret = key_files_path(directory, "e", ".key");
    struct buffer nothing = BUFFER_INIT;

    key_files_openssl(&nothing, "req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", secret,
                      "-out", crt, "-subj", "/CN=e", NULL);
    ck_assert_int_eq(chmod(secret, 0600), 0);
    ck_refused(load_recipients("e.crt"), "nothing can be encrypted for the certificate", "keygen");
    ck_refused(load_identity("e.key", NULL), "is neither RSA nor EC", "");
    free(crt);
    free(secret);
}
END_TEST

START_TEST(others_may_not_use_a_private_key)
{
    static const mode_t bad[] = {0604, 0602, 0660, 0611, 0644, 0777};
    char *path;

    key_files_make(directory, "a", KEYPAIR_EC, NULL);
    path = key_files_path(directory, "a", ".key");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ck_assert_int_eq(chmod(path, bad[i]), 0);
        ck_refused(load_identity("a.key", NULL), "can be used by others", "chmod 0600");
    }
    ck_assert_int_eq(chmod(path, 0400), 0);
    ck_assert(load_identity("a.key", NULL));
    free(path);
}
END_TEST

START_TEST(there_is_a_limit)
{
    char *path, *paths[KEYS_MAXIMUM + 1];
    struct keys_recipients *recipients;

    key_files_make(directory, "a", KEYPAIR_EC, NULL);
    path = key_files_path(directory, "a", ".crt");
    for (size_t i = 0; i <= KEYS_MAXIMUM; i++)
        paths[i] = path;
    ck_refused(keys_load_recipients(paths, KEYS_MAXIMUM + 1, &recipients, &err), "more than 16",
               "");
    free(path);
}
END_TEST

/* What openssl says of a certificate made here. */
START_TEST(a_certificate_never_expires_and_only_encrypts)
{
    struct buffer text = BUFFER_INIT;
    char *crt;

    key_files_make(directory, "name", KEYPAIR_EC, NULL);
    crt = key_files_path(directory, "name", ".crt");
    key_files_openssl(&text, "x509", "-in", crt, "-noout", "-text", NULL);
    /* OpenSSL 3.0 puts blanks there, 3.5 does not. */
    ck_assert(strstr(buffer_text(&text), "Subject: CN = name") ||
              strstr(buffer_text(&text), "Subject: CN=name"));
    ck_assert_ptr_nonnull(strstr(buffer_text(&text), "9999"));
    ck_assert_ptr_nonnull(strstr(buffer_text(&text), "Key Agreement"));
    ck_assert_ptr_nonnull(strstr(buffer_text(&text), "CA:FALSE"));
    buffer_free(&text);
    free(crt);
}
END_TEST

Suite *keys_suite(void)
{
    Suite *suite = suite_create("keys");
    TCase *tests = tcase_create("keys");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_test(tests, a_pair_fits_itself_alone);
    tcase_add_test(tests, protected_by_a_passphrase);
    tcase_add_test(tests, what_is_no_key_or_certificate);
    tcase_add_test(tests, keys_that_cannot_encrypt);
    tcase_add_test(tests, others_may_not_use_a_private_key);
    tcase_add_test(tests, there_is_a_limit);
    tcase_add_test(tests, a_certificate_never_expires_and_only_encrypts);
    suite_add_tcase(suite, tests);
    return suite;
}
