/* test_process.c - what concerns the process as a whole */
#include <errno.h>
#include <pwd.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "fixture.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"
#include "suites.h"

START_TEST(test_signal_sets_flag)
{
    struct error err = ERROR_INIT;

    process_catch_signals();
    ck_assert(!process_interrupted());
    ck_assert(process_check(&err));
    raise(SIGPIPE);
    ck_assert(!process_interrupted());
    raise(SIGINT);
    ck_assert(process_interrupted());
    ck_assert(!process_check(&err));
    ck_assert_int_eq(err.code, ERROR_CANCELLED);
    ck_assert_str_eq(err.message, "interrupted by SIGINT");
}
END_TEST

START_TEST(test_second_signal_kills)
{
    process_catch_signals();
    raise(SIGINT);
    raise(SIGTERM);
}
END_TEST

START_TEST(test_names)
{
    struct error err = ERROR_INIT;
    char *path = NULL;
    struct stat a, b;

    ck_assert_int_ge(process_processors(), 1);
    ck_assert_str_ne(process_host_name(), "");
    struct passwd *user = getpwuid(geteuid());
    if (user)
        ck_assert_str_eq(process_user_name(), user->pw_name);
    ck_assert_msg(process_executable(&path, &err), "%s", err.message);
    ck_assert_int_eq(path[0], '/');
    ck_assert_int_eq(stat(path, &a), 0);
    ck_assert_int_eq(stat("/proc/self/exe", &b), 0);
    ck_assert_uint_eq(a.st_ino, b.st_ino);
    free(path);
}
END_TEST

START_TEST(test_quote)
{
    char *plain = process_quote("/srv/my data"), *odd = process_quote("it's");

    ck_assert_str_eq(plain, "'/srv/my data'");
    ck_assert_str_eq(odd, "'it'\\''s'");
    free(plain);
    free(odd);
    plain = process_word("/srv/data");
    odd = process_word("/srv/my data");
    ck_assert_str_eq(plain, "/srv/data");
    ck_assert_str_eq(odd, "'/srv/my data'");
    free(plain);
    free(odd);
}
END_TEST

/* As the user named the configuration, but fit for being run anywhere. */
START_TEST(test_command)
{
    ck_assert_str_eq(process_command(), "pgvigil");
    process_set_configuration("main");
    ck_assert_str_eq(process_command(), "pgvigil -c main");
    process_set_configuration("/etc/it's.conf");
    ck_assert_str_eq(process_command(), "pgvigil -c '/etc/it'\\''s.conf'");
    ck_assert_int_eq(chdir("/"), 0);
    process_set_configuration("tmp/my.conf");
    ck_assert_str_eq(process_command(), "pgvigil -c /tmp/my.conf");
}
END_TEST

START_TEST(test_owner_is_absent)
{
    struct error err = ERROR_INIT;

    ck_assert(!process_become_owner(fixture_path("absent"), &err));
    ck_assert_int_eq(err.code, ERROR_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(err.message, "absent"));
}
END_TEST

START_TEST(test_owner_is_oneself)
{
    struct error err = ERROR_INIT;
    uid_t before = geteuid();

    ck_assert_msg(process_become_owner(fixture_directory, &err), "%s", err.message);
    ck_assert_uint_eq(geteuid(), before);
}
END_TEST

/* As root only: libcheck's process for this test changes its user for good. */
static void become(uid_t uid, gid_t gid)
{
    struct error err = ERROR_INIT;

    fixture_write("owned", "");
    ck_assert_int_eq(chown(fixture_path("owned"), uid, gid), 0);
    ck_assert_msg(process_become_owner(fixture_path("owned"), &err), "%s", err.message);
    ck_assert_uint_eq(getuid(), uid);
    ck_assert_uint_eq(geteuid(), uid);
    ck_assert_int_ne(setuid(0), 0);
    ck_assert_int_ne(setgid(0), 0);
    gid_t groups[64];
    int count = getgroups(64, groups);
    for (int i = 0; i < count; i++)
        ck_assert_uint_ne(groups[i], 0);
}

START_TEST(test_become_named_owner)
{
    struct passwd *user = geteuid() == 0 ? getpwnam("nobody") : NULL;

    if (!user || user->pw_uid == 0)
        return;
    char *home = strdup(user->pw_dir);
    become(user->pw_uid, 12345);
    ck_assert_uint_eq(getegid(), user->pw_gid);
    ck_assert_str_eq(getenv("HOME"), home);
    ck_assert_str_eq(getenv("USER"), "nobody");
    ck_assert_str_eq(getenv("LOGNAME"), "nobody");
    ck_assert_str_eq(process_user_name(), "nobody");
    free(home);
}
END_TEST

START_TEST(test_become_nameless_owner)
{
    if (geteuid() != 0 || getpwuid(61234))
        return;
    become(61234, 61235);
    ck_assert_uint_eq(getegid(), 61235);
    ck_assert_str_eq(getenv("HOME"), "/");
    ck_assert_ptr_null(getenv("USER"));
    ck_assert_str_eq(process_user_name(), "61234");
}
END_TEST

/* What belongs to another user, or may be read by a group, is not to be made the caller's own. As root, who
 * alone can make such files here; for whom they would never be refused. */
START_TEST(test_hints_take_nothing_away)
{
    struct error err = ERROR_INIT;
    char *deep;

    if (geteuid() != 0 || getpwuid(61234))
        return;
    fixture_write("owned", "");
    ck_assert_int_eq(chown(fixture_path("owned"), 0, 61235), 0);
    ck_assert_int_eq(chmod(fixture_path("owned"), 0640), 0);
    process_hint_reader(fixture_path("owned"), &err);
    ck_assert_ptr_nonnull(strstr(err.hint, "run it as a user of group 61235, who may read "));
    ck_assert_int_eq(chmod(fixture_path("owned"), 0600), 0);
    process_hint_reader(fixture_path("owned"), &err);
    ck_assert_ptr_nonnull(strstr(err.hint, "chgrp "));

    ck_assert_int_eq(chown(fixture_directory, 61234, 0), 0);
    deep = mem_printf("%s/not/there", fixture_directory);
    process_hint_directory(deep, &err);
    ck_assert_ptr_nonnull(strstr(err.hint, "run it as user 61234, whom "));
    ck_assert_int_eq(chown(fixture_directory, 0, 0), 0);
    process_hint_directory(deep, &err);
    ck_assert_ptr_nonnull(strstr(err.hint, "install -d "));
    free(deep);
}
END_TEST

/* As root only, as above. */
START_TEST(test_keys_that_others_use)
{
    static const struct {
        const char *name, *hint;
        uid_t uid;
        gid_t gid;
        mode_t mode;
    } rows[] = {
        {"mine", "chmod u+r '", 61234, 61235, 0},
        {"root", "as root: chown 61234: '", 0, 0, 0600},
        {"roots-alone", "as root: chown 61234: '", 0, 61236, 0600},
        {"shared", "run it as a user of group 61236, who may read it; or give user 61234 a copy", 0,
         61236, 0640},
        {"another", "run it as user 61237, who may read it; or give user 61234 a copy", 61237, 0,
         0600},
    };
    struct error err = ERROR_INIT;

    if (geteuid() != 0 || getpwuid(61234) || getpwuid(61237))
        return;
    ck_assert_int_eq(chmod(fixture_directory, 0755), 0);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        fixture_write(rows[i].name, "");
        ck_assert_int_eq(chown(fixture_path(rows[i].name), rows[i].uid, rows[i].gid), 0);
        ck_assert_int_eq(chmod(fixture_path(rows[i].name), rows[i].mode), 0);
    }
    become(61234, 61235);
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        error_set(&err, ERROR_CONFIG, "could not read it");
        process_tell_owner(fixture_path(rows[i].name), &err);
        ck_assert_ptr_nonnull(strstr(err.detail, "pgvigil runs as user 61234"));
        ck_assert_msg(strncmp(err.hint, rows[i].hint, strlen(rows[i].hint)) == 0, "%s: %s",
                      rows[i].name, err.hint);
    }
}
END_TEST

Suite *process_suite(void)
{
    Suite *suite = suite_create("process");
    TCase *tests = tcase_create("process");
    TCase *owners = tcase_create("owners");

    /* Outside the test's own process, which may not remove what belonged to root. */
    tcase_add_unchecked_fixture(owners, fixture_make, fixture_remove);
    tcase_add_test(tests, test_signal_sets_flag);
    tcase_add_test_raise_signal(tests, test_second_signal_kills, SIGTERM);
    tcase_add_test(tests, test_names);
    tcase_add_test(tests, test_quote);
    tcase_add_test(tests, test_command);
    tcase_add_test(owners, test_owner_is_absent);
    tcase_add_test(owners, test_owner_is_oneself);
    tcase_add_test(owners, test_become_named_owner);
    tcase_add_test(owners, test_become_nameless_owner);
    tcase_add_test(owners, test_hints_take_nothing_away);
    tcase_add_test(owners, test_keys_that_others_use);
    suite_add_tcase(suite, tests);
    suite_add_tcase(suite, owners);
    return suite;
}
