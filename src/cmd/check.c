/*
 * check.c - pgvigil check
 */
#include "pgvigil/check.h"

#include <stdio.h>

#include "cmd/cmd.h"
#include "pgvigil/log.h"
#include "pgvigil/process.h"

static void report(const struct check_step *step, void *context)
{
    static const char *const words[] = {[CHECK_PASSED] = "ok",
                                        [CHECK_WARNING] = "warning",
                                        [CHECK_FAILED] = "FAILED",
                                        [CHECK_SKIPPED] = "skipped"};
    const bool *quiet = context;

    if (!*quiet || step->error != NULL)
        printf("%-7s  %s%s%s\n", words[step->outcome], step->title,
               step->detail[0] != '\0' ? ": " : "", step->detail);
    fflush(stdout);
    if (step->error != NULL)
        log_error(step->outcome == CHECK_FAILED ? LOG_ERROR : LOG_WARNING, step->error);
}

int cmd_check(const char *config_name, int argc, char **argv)
{
    bool quiet = false;
    const struct option table[] = {
        {"quiet", OPTION_FLAG, &quiet, NULL, "print only what failed, and warnings"}, {0}};
    const struct options options = {
        .command = "check",
        .synopsis = "check [--quiet]",
        .summary = "Proves the whole way end to end: settings, rights, and a switched WAL segment "
                   "arriving in every repository that archive-push stores into.",
        .table = table};
    struct config *config;
    struct error err = ERROR_INIT;
    int status, failed;

    if (!cmd_begin(&options, argc, argv, NULL, NULL, &status))
        return status;
    process_catch_signals();
    if (quiet)
        log_set_level(LOG_WARNING);
    if (!cmd_load_config(config_name, &config, &err))
        return cmd_fail(&err);
    failed = check_run(config, report, &quiet);
    config_free(config);
    if (failed > 0 && process_interrupted())
        return error_exit_code(ERROR_CANCELLED);
    return failed > 0 ? 1 : 0;
}
