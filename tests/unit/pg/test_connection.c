/*
 * test_connection.c - connections that do not come about
 *
 * What a server answers is tested with real ones in tests/integration.
 */
#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pg/connection_options.h"
#include "pg/libpq.h"
#include "pgvigil/clock.h"
#include "pgvigil/connection.h"
#include "pgvigil/mem.h"
#include "suites.h"
#include "support/scratch.h"

static void setup(void)
{
    static const char *const variables[] = {"PGHOST",     "PGHOSTADDR", "PGPORT",   "PGUSER",
                                            "PGDATABASE", "PGSERVICE",  "PGOPTIONS"};

    for (size_t i = 0; i < sizeof variables / sizeof variables[0]; i++) {
        unsetenv(variables[i]);
    }
}

static void expect_refused(const char *conninfo, enum error_code code, const char *message,
                           const char *hint)
{
    struct error err = ERROR_INIT;
    struct connection *connection = NULL;

    ck_assert(!connection_open(conninfo, "check", &connection, &err));
    ck_assert_ptr_null(connection);
    ck_assert_msg(err.code == code, "%d: %s", err.code, err.message);
    ck_assert_msg(strstr(err.message, message) != NULL, "%s", err.message);
    ck_assert_msg(strstr(err.hint, hint) != NULL, "%s", err.hint);
    ck_assert_msg(strchr(err.message, '\n') == NULL, "%s", err.message);
}

START_TEST(test_no_server)
{
    char *directory = scratch_make();
    char *conninfo = mem_printf("host=%s port=5432 user=x", directory);

    expect_refused(conninfo, ERROR_DATABASE,
                   "could not connect to the server: ", "is the server running?");
    expect_refused("host=127.0.0.1 port=1 user=x", ERROR_DATABASE, "Connection refused",
                   "is the server running");
    free(conninfo);
    scratch_remove(directory);
    connection_close(NULL);
}
END_TEST

START_TEST(test_bad_conninfo)
{
    struct error err = ERROR_INIT;
    struct connection *connection = NULL;

    expect_refused("hots=x", ERROR_CONFIG, "\"hots\"", "keywords and values");
    expect_refused("host", ERROR_CONFIG, "not a valid connection string", "keywords and values");
    ck_assert(!connection_open("password=open sesame", "check", &connection, &err));
    ck_assert_int_eq(err.code, ERROR_CONFIG);
    ck_assert_ptr_null(strstr(err.message, "sesame"));
    ck_assert(!connection_open("postgres://u:sesame@%zz/", "check", &connection, &err));
    ck_assert_ptr_null(strstr(err.message, "sesame"));
}
END_TEST

/* A listener that never answers, as behind a firewall. */
START_TEST(test_timeout)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &length), 0);
    char *conninfo =
        mem_printf("host=127.0.0.1 port=%d user=x connect_timeout=1", (int)ntohs(address.sin_port));
    int64_t before = clock_monotonic();
    expect_refused(conninfo, ERROR_TIMEOUT, "did not answer in time", "");
    ck_assert_int_ge(clock_monotonic() - before, CLOCK_SECOND);
    free(conninfo);
    close(listener);
}
END_TEST

static const char *value_of(const struct connection_options *options, const char *keyword)
{
    const char *value = NULL;

    /* Of several, libpq takes the last. */
    for (size_t i = 0; options->keywords[i]; i++) {
        if (strcmp(options->keywords[i], keyword) == 0) {
            value = options->values[i];
        }
    }
    return value;
}

START_TEST(test_options)
{
    struct connection_options options;
    struct error err = ERROR_INIT;

    ck_assert_msg(libpq_load(&err), "%s", err.message);
    ck_assert(connection_options_parse("", "backup", &options, &err));
    ck_assert_str_eq(value_of(&options, "dbname"), "postgres");
    ck_assert_str_eq(value_of(&options, "fallback_application_name"), "pgvigil backup");
    ck_assert_int_eq(options.timeout, 30 * CLOCK_SECOND);
    connection_options_free(&options);

    ck_assert(connection_options_parse("dbname=app host=a,b,c sslmode=verify-full "
                                       "connect_timeout=7 application_name=mine",
                                       "backup", &options, &err));
    ck_assert_str_eq(value_of(&options, "dbname"), "app");
    ck_assert_str_eq(value_of(&options, "host"), "a,b,c");
    ck_assert_str_eq(value_of(&options, "sslmode"), "verify-full");
    ck_assert_str_eq(value_of(&options, "application_name"), "mine");
    ck_assert_int_eq(options.timeout, 21 * CLOCK_SECOND);
    connection_options_free(&options);

    ck_assert(connection_options_parse("postgresql://me@h:1/db", "backup", &options, &err));
    ck_assert_str_eq(value_of(&options, "dbname"), "db");
    ck_assert_str_eq(value_of(&options, "user"), "me");
    connection_options_free(&options);

    ck_assert(connection_options_parse("service=prod", "backup", &options, &err));
    ck_assert_ptr_null(value_of(&options, "dbname"));
    connection_options_free(&options);
    setenv("PGDATABASE", "other", 1);
    ck_assert(connection_options_parse("", "backup", &options, &err));
    ck_assert_ptr_null(value_of(&options, "dbname"));
    connection_options_free(&options);
}
END_TEST

Suite *connection_suite(void)
{
    Suite *suite = suite_create("connection");
    TCase *tests = tcase_create("connection");

    tcase_add_checked_fixture(tests, setup, NULL);
    tcase_add_test(tests, test_no_server);
    tcase_add_test(tests, test_bad_conninfo);
    tcase_add_test(tests, test_timeout);
    tcase_add_test(tests, test_options);
    suite_add_tcase(suite, tests);
    return suite;
}
