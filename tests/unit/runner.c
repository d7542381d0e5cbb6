/*
 * runner.c - runs the unit tests: `unit` all suites, `unit SUITE...` those named
 *
 * Each test runs in a process of its own (libcheck's default; CK_FORK=no for a debugger), so one
 * that crashes is reported and the rest go on. libcheck prints the totals.
 */
#include <check.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "suites.h"

struct suite {
    const char *name;
    Suite *(*make)(void);
};

static const struct suite suites[] = {
#define SUITE(name) {#name, name##_suite},
#include "suites.h"
    {NULL, NULL},
};

static bool is_wanted(const char *name, int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return true;
    return argc < 2;
}

static bool is_known(const char *name)
{
    for (const struct suite *suite = suites; suite->name; suite++)
        if (strcmp(suite->name, name) == 0)
            return true;
    return false;
}

int main(int argc, char **argv)
{
    /* libcheck's 4 seconds a test are meant for neither sanitizers nor a busy machine. It looks for this
     * when a test case is made. */
    setenv("CK_TIMEOUT_MULTIPLIER", "15", 0);

    SRunner *runner = srunner_create(NULL);
    int ran, failed;

    for (int i = 1; i < argc; i++) {
        if (!is_known(argv[i])) {
            fprintf(stderr, "there is no suite \"%s\" in tests/unit/suites.h\n", argv[i]);
            return 2;
        }
    }
    for (const struct suite *suite = suites; suite->name; suite++)
        if (is_wanted(suite->name, argc, argv))
            srunner_add_suite(runner, suite->make());

    srunner_run_all(runner, CK_ENV);
    ran = srunner_ntests_run(runner);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    if (ran == 0)
        fprintf(stderr, "no unit test was run\n");
    return ran > 0 && failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
