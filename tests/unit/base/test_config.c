/* test_config.c - one cluster's configuration */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fixture.h"
#include "pgvigil/clock.h"
#include "pgvigil/config.h"
#include "pgvigil/mem.h"
#include "suites.h"

#define SMALLEST "[cluster]\nname = main\n[repository local]\nurl = file:///backup\n"

static struct config *parse(const char *text)
{
    struct error err = ERROR_INIT;
    struct config *config = NULL;

    ck_assert_msg(config_parse("/x", text, strlen(text), &config, &err), "%s", err.message);
    return config;
}

static void expect_error(const char *text, const char *message, const char *hint)
{
    struct error err = ERROR_INIT;
    struct config *config = NULL;

    ck_assert_msg(!config_parse("/x", text, strlen(text), &config, &err), "taken: %s", text);
    ck_assert_ptr_null(config);
    ck_assert_int_eq(err.code, ERROR_CONFIG);
    ck_assert_str_eq(err.message, message);
    if (hint)
        ck_assert_str_eq(err.hint, hint);
}

START_TEST(test_defaults)
{
    struct config *config = parse(SMALLEST);

    ck_assert_str_eq(config->path, "/x");
    ck_assert_str_eq(config->cluster_name, "main");
    ck_assert_ptr_null(config->pgdata);
    ck_assert_str_eq(config->conninfo, "");
    ck_assert_str_eq(config->state_dir, "/var/lib/pgvigil/main");
    ck_assert_uint_eq(config->repository_count, 1);
    ck_assert_str_eq(config->repositories[0].name, "local");
    ck_assert_str_eq(config->repositories[0].url, "file:///backup");
    ck_assert_int_eq(config->repositories[0].line, 3);
    ck_assert_int_eq(config->archive.compress_level, 3);
    ck_assert_int_eq(config->archive.timeout, 60 * CLOCK_SECOND);
    ck_assert_int_ge(config->backup.jobs, 1);
    ck_assert_int_le(config->backup.jobs, 8);
    ck_assert_int_eq(config->backup.compress_level, 1);
    ck_assert_int_eq(config->backup.timeout, 3600 * CLOCK_SECOND);
    config_free(config);
    config_free(NULL);
}
END_TEST

START_TEST(test_object_lock)
{
    struct config *config = parse(SMALLEST "object_lock = compliance 2 d\n");

    ck_assert_int_eq(config->repositories[0].object_lock.mode, CONFIG_LOCK_COMPLIANCE);
    ck_assert_int_eq(config->repositories[0].object_lock.duration,
                     INT64_C(2) * 24 * 3600 * CLOCK_SECOND);
    config_free(config);
    config = parse(SMALLEST);
    ck_assert_int_eq(config->repositories[0].object_lock.mode, CONFIG_LOCK_NONE);
    config_free(config);
    expect_error(SMALLEST "object_lock = 30 d\n",
                 "/x, line 5: \"object_lock\" must be governance or compliance and a duration, as "
                 "\"governance 30 d\", not \"30 d\"",
                 NULL);
}
END_TEST

START_TEST(test_retention)
{
    const int64_t day = 24 * 3600 * CLOCK_SECOND;
    struct config *config = parse(SMALLEST);

    ck_assert_int_eq(config->repositories[0].retention.window, 0);
    config_free(config);
    config = parse(SMALLEST "retention_daily = 3\nretention_window = 2 w\n"
                            "[repository far]\nurl = file:///far\nretention_minimum = 9\n"
                            "[retention]\nwindow = 7 d\nminimum = 2\ndaily = 0\nyearly = 4\n");
    const struct config_retention *near = &config->repositories[0].retention;
    const struct config_retention *far = &config->repositories[1].retention;
    ck_assert_int_eq(near->window, 14 * day);
    ck_assert_int_eq(near->minimum, 2);
    ck_assert_int_eq(near->daily, 3);
    ck_assert_int_eq(near->yearly, 4);
    ck_assert_int_eq(far->window, 7 * day);
    ck_assert_int_eq(far->minimum, 9);
    ck_assert_int_eq(far->daily, 0);
    ck_assert_int_eq(far->monthly, 0);
    config_free(config);

    /* One repository alone may have settings. */
    config = parse(SMALLEST "[repository far]\nurl = file:///far\nretention_window = 1 d\n");
    ck_assert_int_eq(config->repositories[0].retention.window, 0);
    ck_assert_int_eq(config->repositories[1].retention.window, day);
    ck_assert_int_eq(config->repositories[1].retention.minimum, 1);
    config_free(config);

    const char *lacking = "/x: repository \"local\" has settings for retention, but no window";
    const char *empty = "/x:5: section [retention] has no window, nor has repository \"local\" one";
    expect_error(SMALLEST "[retention]\n", empty, NULL);
    expect_error(SMALLEST "[retention]\ndaily = 7\n", empty, NULL);
    expect_error(SMALLEST "retention_daily = 7\n", lacking, NULL);
}
END_TEST

START_TEST(test_everything)
{
    struct config *config = parse("[backup]\njobs=128\ncompress_level=19\ntimeout=7 d\n"
                                  "[archive]\ncompress_level=1\ntimeout=1.5 min\n"
                                  "[repository A-b_9]\nurl=file:///a b\n"
                                  "[cluster]\nname=a.b-c_D\npgdata=/pg//data/\n"
                                  "conninfo=host=/tmp user='x y'\nstate_dir=/s\n");

    ck_assert_str_eq(config->cluster_name, "a.b-c_D");
    ck_assert_str_eq(config->pgdata, "/pg/data");
    ck_assert_str_eq(config->conninfo, "host=/tmp user='x y'");
    ck_assert_str_eq(config->state_dir, "/s");
    ck_assert_str_eq(config->repositories[0].name, "A-b_9");
    ck_assert_str_eq(config->repositories[0].url, "file:///a b");
    ck_assert_int_eq(config->archive.compress_level, 1);
    ck_assert_int_eq(config->archive.timeout, 90 * CLOCK_SECOND);
    ck_assert_int_eq(config->backup.jobs, 128);
    ck_assert_int_eq(config->backup.compress_level, 19);
    ck_assert_int_eq(config->backup.timeout, 7 * 86400 * CLOCK_SECOND);
    config_free(config);
}
END_TEST

START_TEST(test_bucket)
{
    struct config *config =
        parse("[cluster]\nname=main\n[repository west]\nurl=s3://b/p\ntimeout=1 min\n"
              "rate_limit=10MB\nendpoint=https://h:1\nregion=r-1\nca_file=/ca.pem\n"
              "path_style=no\nprofile=p\naccess_key_id=ID\nsecret_access_key_file=/secret\n"
              "storage_class=STANDARD_IA\nstorage_class_wal=STANDARD\nsse=aws:kms\n"
              "kms_key_id=k\n");
    const struct config_repository *west = &config->repositories[0];

    ck_assert_str_eq(west->url, "s3://b/p");
    ck_assert_int_eq(west->timeout, 60 * CLOCK_SECOND);
    ck_assert_uint_eq(west->rate_limit, 10 * 1024 * 1024);
    ck_assert_str_eq(west->endpoint, "https://h:1");
    ck_assert_str_eq(west->region, "r-1");
    ck_assert_str_eq(west->ca_file, "/ca.pem");
    ck_assert_int_eq(west->path_style, CONFIG_NO);
    ck_assert_str_eq(west->profile, "p");
    ck_assert_str_eq(west->access_key_id, "ID");
    ck_assert_str_eq(west->secret_access_key_file, "/secret");
    ck_assert_str_eq(west->storage_class, "STANDARD_IA");
    ck_assert_str_eq(west->storage_class_wal, "STANDARD");
    ck_assert_str_eq(west->sse, "aws:kms");
    ck_assert_str_eq(west->kms_key_id, "k");
    config_free(config);
}
END_TEST

START_TEST(test_bucket_errors)
{
    const char *const start = "[cluster]\nname=main\n[repository west]\nurl=s3://b/p\n";
    static const struct {
        const char *lines, *message;
    } cases[] = {
        {"path_style=maybe\n", "/x, line 5: \"path_style\" must be yes or no, not \"maybe\""},
        {"region=a b\n", "/x, line 5: \"region\" must be one word of printable characters"},
        {"region=\n", "/x, line 5: \"region\" is empty"},
        {"sse=none\n", "/x, line 5: \"sse\" must be AES256 or aws:kms, not \"none\""},
        {"rate_limit=1kB\n", "/x, line 5: \"rate_limit\": 1kB a second is less than 64.0 kB"},
        {"ca_file=ca.pem\n", "/x, line 5: \"ca_file\" must be an absolute path, not \"ca.pem\""},
        {"access_key_id=a\naccess_key_id_file=/a\n",
         "/x, line 3: repository \"west\" has both \"access_key_id\" and \"access_key_id_file\""},
        {"kms_key_id=k\n",
         "/x, line 3: repository \"west\" has a \"kms_key_id\" but not \"sse = aws:kms\""},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *text = mem_printf("%s%s", start, cases[i].lines);

        expect_error(text, cases[i].message, NULL);
        free(text);
    }
}
END_TEST

START_TEST(test_sections)
{
    expect_error(SMALLEST "[encryptoin]\n", "/x, line 5: unknown section [encryptoin]",
                 "Perhaps you meant [encryption].");
    expect_error("[retain]\nwindow = 1 w\n", "/x, line 1: unknown section [retain]", NULL);
    expect_error("[clutser]\n", "/x, line 1: unknown section [clutser]",
                 "Perhaps you meant [cluster].");
    expect_error("[cluster x]\n", "/x, line 1: section [cluster] takes no name", NULL);
    expect_error(SMALLEST "[cluster]\n",
                 "/x, line 5: section [cluster] was opened in line 1 already", NULL);
    expect_error("[repository]\n", "/x, line 1: a [repository] needs a name: [repository NAME]",
                 NULL);
    expect_error("[repository a.b]\n", "/x, line 1: invalid repository name \"a.b\"", NULL);
    expect_error(SMALLEST "[repository local]\n",
                 "/x, line 5: repository \"local\" was defined in line 3 already", NULL);
    expect_error(SMALLEST "[repository east]\ncopy=later\n",
                 "/x, line 6: \"copy\" must be sync or async, not \"later\"", NULL);
    expect_error(SMALLEST "[repository east]\nurl=file:///b\ncopy=async\n[archive]\nrequire=2\n",
                 "/x: \"require\" in section [archive] is 2, but fewer repositories have \"copy = "
                 "sync\"",
                 NULL);
    expect_error(SMALLEST "[repository east]\nurl=s3://b/p\nendpoint=http://one\n"
                          "[repository west]\nurl=s3://b/p\nendpoint=http://two\n"
                          "[repository south]\nurl=s3://b/p\nendpoint=http://one\n",
                 "/x, line 11: repository \"south\" is at the same place as \"east\"", NULL);
}
END_TEST

START_TEST(test_encryption)
{
    static const char start[] = SMALLEST "[encryption]\n";
    struct config *config = parse(SMALLEST "[encryption]\nrecipients = /a/b.crt ,/c d/e.crt\n"
                                           "identity=/k//1.key\nidentity_passphrase_file=/k/p\n");

    ck_assert_uint_eq(config->encryption.recipients.count, 2);
    ck_assert_str_eq(config->encryption.recipients.paths[0], "/a/b.crt");
    ck_assert_str_eq(config->encryption.recipients.paths[1], "/c d/e.crt");
    ck_assert_uint_eq(config->encryption.identity.count, 1);
    ck_assert_str_eq(config->encryption.identity.paths[0], "/k/1.key");
    ck_assert_str_eq(config->encryption.identity_passphrase_file, "/k/p");
    config_free(config);

    static const struct {
        const char *lines;
        const char *message;
    } cases[] = {
        {"recipients = a.crt\n",
         "/x, line 6: \"recipients\" must be an absolute path, not \"a.crt\""},
        {"recipients = /a,\n", "/x, line 6: \"recipients\" must be an absolute path, not \"\""},
        {"identity_passphrase_file = /a\n",
         "/x: section [encryption] has \"identity_passphrase_file\", but no \"identity\""},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *text = mem_printf("%s%s", start, cases[i].lines);

        expect_error(text, cases[i].message, NULL);
        free(text);
    }
}
END_TEST

START_TEST(test_missing)
{
    expect_error("", "/x: section [cluster] is missing", NULL);
    expect_error("[repository a]\nurl=file:///a\n", "/x: section [cluster] is missing", NULL);
    expect_error("\n[cluster]\n", "/x, line 2: section [cluster] has no \"name\"", NULL);
    expect_error("[cluster]\nname=a\n", "/x: there is no section [repository NAME]", NULL);
    expect_error("[cluster]\nname=a\n[repository b]\n",
                 "/x, line 3: repository \"b\" has no \"url\"", NULL);
}
END_TEST

START_TEST(test_keys)
{
    expect_error("[cluster]\nnmae = a\n", "/x, line 2: unknown key \"nmae\" in section [cluster]",
                 "Perhaps you meant \"name\".");
    expect_error("[backup]\ncompres_level = 1\n",
                 "/x, line 2: unknown key \"compres_level\" in section [backup]",
                 "Perhaps you meant \"compress_level\".");
    expect_error("[archive]\njobs = 1\n", "/x, line 2: unknown key \"jobs\" in section [archive]",
                 "It belongs in section [backup].");
    expect_error("[backup]\nelephants = 1\n",
                 "/x, line 2: unknown key \"elephants\" in section [backup]", "");
    expect_error("[backup]\njobs = 1\njobs = 1\n",
                 "/x, line 3: key \"jobs\" was given in line 2 already", NULL);
}
END_TEST

START_TEST(test_values)
{
    expect_error("[cluster]\nname=.a\n", "/x, line 2: invalid cluster name \".a\"", NULL);
    expect_error("[cluster]\nname=a/b\n", "/x, line 2: invalid cluster name \"a/b\"", NULL);
    expect_error("[cluster]\nname=\n", "/x, line 2: invalid cluster name \"\"", NULL);
    expect_error("[cluster]\npgdata=data\n",
                 "/x, line 2: \"pgdata\" must be an absolute path, not \"data\"", NULL);
    expect_error("[cluster]\nstate_dir=\n",
                 "/x, line 2: \"state_dir\" must be an absolute path, not \"\"", NULL);
    expect_error("[repository a]\nurl=ftp://b\n",
                 "/x, line 2: unsupported repository URL \"ftp://b\"",
                 "a repository is at file:///absolute/path or s3://bucket/prefix");
    expect_error("[repository a]\nurl=/b\n", "/x, line 2: unsupported repository URL \"/b\"", NULL);
    expect_error("[repository a]\nurl=file://b\n",
                 "/x, line 2: repository URL \"file://b\" has no absolute path", NULL);
    expect_error("[repository a]\nurl=file:////\n",
                 "/x, line 2: repository URL \"file:////\" has no absolute path", NULL);
    expect_error("[backup]\njobs=0\n",
                 "/x, line 2: \"jobs\": 0 is outside the valid range (1 to 128)", NULL);
    expect_error("[backup]\njobs=129\n",
                 "/x, line 2: \"jobs\": 129 is outside the valid range (1 to 128)", NULL);
    expect_error("[backup]\njobs=two\n", "/x, line 2: \"jobs\": \"two\" is not a whole number",
                 NULL);
    expect_error("[archive]\ncompress_level=20\n",
                 "/x, line 2: \"compress_level\": 20 is outside the valid range (1 to 19)", NULL);
    expect_error("[archive]\ntimeout=0 s\n",
                 "/x, line 2: \"timeout\": 0 s is outside the valid range (1 s to 1 d)", NULL);
    expect_error(
        "[retention]\nwindow=30\n", "/x, line 2: \"window\": invalid duration \"30\"",
        "A duration is a number with one of the units s, min, h, d and w, as in \"30 d\".");
    expect_error("[archive]\ntimeout=2 days\n",
                 "/x, line 2: \"timeout\": invalid duration \"2 days\"", NULL);
}
END_TEST

START_TEST(test_longest_names)
{
    char text[256], name[65];

    memset(name, 'n', 64);
    name[64] = '\0';
    snprintf(text, sizeof(text), "[cluster]\nname=%s\n[repository %s]\nurl=file:///x", name + 1,
             name + 1);
    config_free(parse(text));
    snprintf(text, sizeof(text), "[cluster]\nname=%s\n", name);
    struct error err = ERROR_INIT;
    struct config *config;
    ck_assert(!config_parse("/x", text, strlen(text), &config, &err));
    snprintf(text, sizeof(text), "[repository %s]\n", name);
    ck_assert(!config_parse("/x", text, strlen(text), &config, &err));
}
END_TEST

/* The sample as it is delivered, found from where this file was compiled. */
static void read_sample(struct buffer *text)
{
    static const char here[] = "tests/unit/base/test_config.c";
    struct error err = ERROR_INIT;
    char *path = mem_printf("%.*sconf/pgvigil.conf.sample",
                            (int)(strlen(__FILE__) - (sizeof(here) - 1)), __FILE__);

    ck_assert_msg(files_read(path, 1024 * 1024, text, &err), "%s", err.message);
    free(path);
}

/* "#key = value" becomes "key = value", and "#[section]" one; prose has a blank after its '#'. */
static void uncomment_keys(char *text)
{
    for (char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n' ? 1 : 0;
        if (line[0] == '#' && (line[1] == '[' || islower((unsigned char)line[1])))
            line[0] = ' ';
    }
}

/* What the sample shows commented out is what counts without it, where it doesn't say otherwise. */
START_TEST(test_sample)
{
    struct buffer text = BUFFER_INIT;

    read_sample(&text);
    struct config *plain = parse(buffer_text(&text));
    uncomment_keys((char *)text.data);
    struct config *full = parse(buffer_text(&text));

    ck_assert_str_eq(full->cluster_name, plain->cluster_name);
    ck_assert_str_eq(full->state_dir, plain->state_dir);
    ck_assert_str_eq(full->repositories[0].url, plain->repositories[0].url);
    ck_assert_int_eq(full->archive.compress_level, plain->archive.compress_level);
    ck_assert_int_eq(full->archive.timeout, plain->archive.timeout);
    ck_assert_int_eq(full->backup.compress_level, plain->backup.compress_level);
    ck_assert_int_eq(full->backup.timeout, plain->backup.timeout);
    ck_assert_ptr_nonnull(full->pgdata);
    ck_assert_str_ne(full->conninfo, "");
    ck_assert_int_eq(full->backup.jobs, 4);
    ck_assert_int_eq(plain->retention.window, 0);
    ck_assert_int_eq(full->retention.minimum, plain->retention.minimum);
    ck_assert_int_ne(full->retention.window, 0);
    config_free(plain);
    config_free(full);
    buffer_free(&text);
}
END_TEST

START_TEST(test_load)
{
    struct error err = ERROR_INIT;
    struct config *config = NULL;

    fixture_write("a.conf", SMALLEST);
    ck_assert_msg(config_load(fixture_path("a.conf"), &config, &err), "%s", err.message);
    ck_assert_str_eq(config->path, fixture_path("a.conf"));
    config_free(config);

    ck_assert(!config_load(fixture_path("b.conf"), &config, &err));
    ck_assert_int_eq(err.code, ERROR_CONFIG);
    ck_assert_ptr_nonnull(strstr(err.message, fixture_path("b.conf")));
    ck_assert_ptr_nonnull(strstr(err.hint, "pgvigil init"));
    ck_assert(!config_load(fixture_directory, &config, &err));
    ck_assert_int_eq(err.code, ERROR_CONFIG);
}
END_TEST

/* As the shell's <(...) gives it. */
START_TEST(test_load_from_a_pipe)
{
    struct error err = ERROR_INIT;
    struct config *config = NULL;
    int ends[2];
    char path[32];

    ck_assert_int_eq(pipe(ends), 0);
    snprintf(path, sizeof(path), "/dev/fd/%d", ends[0]);
    ck_assert_int_eq(write(ends[1], SMALLEST, strlen(SMALLEST)), strlen(SMALLEST));
    close(ends[1]);
    ck_assert_msg(config_load(path, &config, &err), "%s", err.message);
    ck_assert_str_eq(config->path, path);
    config_free(config);
    close(ends[0]);
}
END_TEST

START_TEST(test_find)
{
    struct error err = ERROR_INIT;
    char *path = NULL;

    fixture_write("a.conf", SMALLEST);
    ck_assert(config_find(fixture_path("a.conf"), &path, &err));
    ck_assert_str_eq(path, fixture_path("a.conf"));
    free(path);
    setenv("PGVIGIL_CONFIG", fixture_path("a.conf"), 1);
    ck_assert(config_find(NULL, &path, &err));
    ck_assert_str_eq(path, fixture_path("a.conf"));
    free(path);
    ck_assert_int_eq(chdir(fixture_directory), 0);
    ck_assert(config_find("a.conf", &path, &err));
    ck_assert_str_eq(path, fixture_path("a.conf"));
    free(path);
    ck_assert_int_eq(chdir("/"), 0);

    ck_assert(!config_find("no-such-cluster-here", &path, &err));
    ck_assert_int_eq(err.code, ERROR_CONFIG);
    ck_assert_ptr_nonnull(strstr(err.message, "\"/etc/pgvigil/no-such-cluster-here.conf\""));
    ck_assert_ptr_nonnull(strstr(err.hint, "pgvigil init"));
    ck_assert(!config_find(fixture_path("b.conf"), &path, &err));
    ck_assert_ptr_nonnull(strstr(err.message, fixture_path("b.conf")));
    ck_assert(strncmp(err.hint, "There is: ", 10) == 0);
    ck_assert_ptr_nonnull(strstr(err.hint, fixture_path("a.conf")));
    ck_assert(!config_find(fixture_path("absent/b.conf"), &path, &err));
    ck_assert(strncmp(err.hint, "Name another one with -c", 24) == 0);
    ck_assert(!config_find("no such", &path, &err));
    ck_assert_str_eq(err.message, "invalid configuration name \"no such\"");
    ck_assert(config_find_path("main", &path, &err));
    ck_assert_str_eq(path, "/etc/pgvigil/main.conf");
    free(path);
}
END_TEST

START_TEST(test_find_only)
{
    struct error err = ERROR_INIT;
    char *path = NULL;

    ck_assert(!config_find_only(fixture_path("absent"), &path, &err));
    ck_assert_ptr_nonnull(strstr(err.hint, "pgvigil init"));
    fixture_write("notes.txt", "");
    fixture_write(".hidden.conf", "");
    fixture_write(".conf", "");
    ck_assert(!config_find_only(fixture_directory, &path, &err));
    ck_assert_int_eq(err.code, ERROR_CONFIG);
    fixture_write("one.conf", "");
    ck_assert(config_find_only(fixture_directory, &path, &err));
    ck_assert_str_eq(path, fixture_path("one.conf"));
    free(path);
    fixture_write("two.conf", "");
    ck_assert(!config_find_only(fixture_directory, &path, &err));
    ck_assert_ptr_nonnull(strstr(err.message, "there are 2 configurations"));
    ck_assert_ptr_nonnull(strstr(err.detail, "two"));
}
END_TEST

Suite *config_suite(void)
{
    Suite *suite = suite_create("config");
    TCase *tests = tcase_create("config");

    tcase_add_checked_fixture(tests, fixture_make, fixture_remove);
    tcase_add_test(tests, test_defaults);
    tcase_add_test(tests, test_everything);
    tcase_add_test(tests, test_object_lock);
    tcase_add_test(tests, test_retention);
    tcase_add_test(tests, test_bucket);
    tcase_add_test(tests, test_bucket_errors);
    tcase_add_test(tests, test_sections);
    tcase_add_test(tests, test_encryption);
    tcase_add_test(tests, test_missing);
    tcase_add_test(tests, test_keys);
    tcase_add_test(tests, test_values);
    tcase_add_test(tests, test_longest_names);
    tcase_add_test(tests, test_sample);
    tcase_add_test(tests, test_load);
    tcase_add_test(tests, test_load_from_a_pipe);
    tcase_add_test(tests, test_find);
    tcase_add_test(tests, test_find_only);
    suite_add_tcase(suite, tests);
    return suite;
}
