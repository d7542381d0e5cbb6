/* What an archive_command tells of the configuration that pgvigil is called with. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/hook.h"
#include "suites.h"

static const struct {
    const char *command, *configuration; /* NULL: cannot be told */
} commands[] = {
    {"/usr/bin/pgvigil -c /etc/pgvigil/main.conf archive-push \"%p\"", "/etc/pgvigil/main.conf"},
    {"pgvigil  -c\tmain -v archive-push %p", "main"},
    {"pgvigil archive-push %p", NULL},
    {"pgvigil -c '/a b/$5.conf' archive-push %p", "/a b/$5.conf"},
    {"pgvigil -c \"/a b/\"'50%%'.conf archive-push %p 2>&1 | logger", "/a b/50%.conf"},
    {"pgvigil -c '' archive-push %p", ""},
    {"", NULL},
    {"false", NULL},
    {"pgvigil", NULL},
    {"pgvigil -c", NULL},
    {"pgvigil -c main", NULL},
    {"pgvigil -c archive-push", NULL},
    {"pgvigil -cmain archive-push %p", NULL},
    {"pgvigil -c main archive-get archive-push", NULL},
    {"pgvigil -c 'main archive-push %p", NULL},
    {"pgvigil -c \"$X\" archive-push %p", NULL},
    {"pgvigil -c `x` archive-push %p", NULL},
    {"pgvigil -c ~/x.conf archive-push %p", NULL},
    {"pgvigil -c it\\'s archive-push %p", NULL},
    {"pgvigil -c %p archive-push %p", NULL},
    {"pgvigil -c main%", NULL},
    {"pgvigil-wrapper -c main archive-push %p", NULL},
    {"X=1 pgvigil -c main archive-push %p", NULL},
    {"test ! -f %p || pgvigil -c main archive-push %p", NULL},
};

START_TEST(test_configuration)
{
    char *found = hook_configuration(commands[_i].command);

    if (commands[_i].configuration == NULL)
        ck_assert_msg(found == NULL, "%s: %s", commands[_i].command, found);
    else
        ck_assert_str_eq(found, commands[_i].configuration);
    free(found);
}
END_TEST

Suite *hook_suite(void)
{
    Suite *suite = suite_create("hook");
    TCase *tests = tcase_create("hook");

    tcase_add_loop_test(tests, test_configuration, 0, sizeof commands / sizeof *commands);
    suite_add_tcase(suite, tests);
    return suite;
}
