/* test_options.c - command-line options of a subcommand */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/options.h"
#include "suites.h"

static bool full;
static const char *to;
static struct option_list tablespaces;
static long jobs;

static const struct option table[] = {
    {"full", OPTION_FLAG, &full, NULL, "store everything"},
    {"to", OPTION_STRING, &to, "DIR", "where to"},
    {"tablespace", OPTION_LIST, &tablespaces, "OLD=NEW", "move one"},
    {"jobs", OPTION_COUNT, &jobs, "N", "threads"},
    {NULL, OPTION_FLAG, NULL, NULL, NULL},
};

static const struct options restore = {
    .command = "restore",
    .synopsis = "restore --to DIR [options] NAME [OTHER]",
    .summary = "Brings it back.",
    .table = table,
    .operands_minimum = 1,
    .operands_maximum = 2,
    .notes = "Nothing more.",
};

static const char *operands[2];
static size_t operand_count;
static bool help;
static struct error err;

/* Parses what follows the command, up to a NULL. */
static bool parse(const char *const *arguments)
{
    char *argv[16] = {(char *)(uintptr_t) "restore"};
    int argc = 1;

    full = false;
    to = NULL;
    jobs = 0;
    options_free_list(&tablespaces);
    for (; *arguments; arguments++)
        argv[argc++] = (char *)(uintptr_t)*arguments;
    return options_parse(&restore, argc, argv, operands, &operand_count, &help, &err);
}

#define PARSE(...) parse((const char *const[]){__VA_ARGS__, NULL})

START_TEST(test_all_kinds)
{
    ck_assert(PARSE("a", "--to", "/x", "--full", "--tablespace=1=2", "b", "--jobs=4",
                    "--tablespace", "3"));
    ck_assert(full && !help);
    ck_assert_str_eq(to, "/x");
    ck_assert_int_eq(jobs, 4);
    ck_assert_uint_eq(tablespaces.count, 2);
    ck_assert_str_eq(tablespaces.values[0], "1=2");
    ck_assert_str_eq(tablespaces.values[1], "3");
    ck_assert_uint_eq(operand_count, 2);
    ck_assert_str_eq(operands[0], "a");
    ck_assert_str_eq(operands[1], "b");
    options_free_list(&tablespaces);
    ck_assert_uint_eq(tablespaces.count, 0);
    options_free_list(NULL);
}
END_TEST

START_TEST(test_odd_values)
{
    ck_assert(PARSE("--to=", "-"));
    ck_assert_str_eq(to, "");
    ck_assert_str_eq(operands[0], "-");
    ck_assert(PARSE("--to=--full", "a"));
    ck_assert_str_eq(to, "--full");
    ck_assert(!full);
    ck_assert(PARSE("--to", "-5", "--", "--full", "-h"));
    ck_assert_str_eq(to, "-5");
    ck_assert(!full && !help);
    ck_assert_str_eq(operands[0], "--full");
    ck_assert_str_eq(operands[1], "-h");
}
END_TEST

START_TEST(test_help)
{
    ck_assert(PARSE("--nonsense", "--help"));
    ck_assert(help);
    ck_assert(PARSE("-h"));
    ck_assert(help);
}
END_TEST

static void expect_usage(bool ok, const char *message)
{
    ck_assert(!ok);
    ck_assert_int_eq(err.code, ERROR_USAGE);
    ck_assert_str_eq(err.message, message);
    ck_assert_ptr_nonnull(strstr(err.hint, "restore"));
}

START_TEST(test_errors)
{
    expect_usage(PARSE("--ful", "a"), "unknown option \"--ful\"");
    ck_assert_str_eq(err.hint, "Perhaps you meant \"--full\"; see \"pgvigil help restore\".");
    expect_usage(PARSE("--elephant=3", "a"), "unknown option \"--elephant=3\"");
    ck_assert_str_eq(err.hint, "See \"pgvigil help restore\".");
    expect_usage(PARSE("-x", "a"), "unknown option \"-x\"");
    expect_usage(PARSE("--=", "a"), "unknown option \"--=\"");
    expect_usage(PARSE("--full=yes", "a"), "option \"--full\" takes no value");
    expect_usage(PARSE("a", "--to"), "option \"--to\" needs a value (DIR)");
    expect_usage(PARSE("a", "--to", "--full"), "option \"--to\" needs a value (DIR)");
    expect_usage(PARSE("--full", "a", "--full"), "option \"--full\" was given twice");
    expect_usage(PARSE("--to=a", "--to=a", "a"), "option \"--to\" was given twice");
    expect_usage(PARSE("--jobs=0", "a"),
                 "option \"--jobs\": 0 is outside the valid range (1 to 1024)");
    expect_usage(PARSE("--jobs", "x", "a"), "option \"--jobs\": \"x\" is not a whole number");
    expect_usage(PARSE("--full"), "an argument is missing");
    expect_usage(PARSE("a", "b", "c"), "unexpected argument \"c\"");
}
END_TEST

START_TEST(test_print_help)
{
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);

    ck_assert_ptr_nonnull(stream);
    options_print_help(&restore, stream);
    fclose(stream);
    ck_assert_str_eq(text, "Usage: pgvigil restore --to DIR [options] NAME [OTHER]\n"
                           "\n"
                           "Brings it back.\n"
                           "\n"
                           "Options:\n"
                           "  --full                store everything\n"
                           "  --to DIR              where to\n"
                           "  --tablespace OLD=NEW  move one\n"
                           "  --jobs N              threads\n"
                           "  --help                show this text\n"
                           "\n"
                           "Nothing more.\n");
    free(text);
}
END_TEST

Suite *options_suite(void)
{
    Suite *suite = suite_create("options");
    TCase *tests = tcase_create("options");

    tcase_add_test(tests, test_all_kinds);
    tcase_add_test(tests, test_odd_values);
    tcase_add_test(tests, test_help);
    tcase_add_test(tests, test_errors);
    tcase_add_test(tests, test_print_help);
    suite_add_tcase(suite, tests);
    return suite;
}
