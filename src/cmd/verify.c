/* verify.c - pgvigil verify */
#include "cmd/verify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/cmd.h"
#include "pgvigil/digest.h"
#include "pgvigil/log.h"
#include "pgvigil/process.h"
#include "pgvigil/progress.h"

struct arguments {
    bool all, repair, json, quiet;
    const char *repository, *sample, *seed;
    long jobs;
};

/* "5%", "0.5%". */
static bool parse_share(const char *text, double *share, struct error *err)
{
    char *end;

    errno = 0;
    *share = strtod(text, &end) / 100;
    if (errno == 0 && end != text && strcmp(end, "%") == 0 && *share > 0 && *share <= 1)
        return true;
    error_set(err, ERROR_USAGE, "\"%s\" is no share for --sample", text);
    return error_hint(err, "a number above 0, at most 100, and %%: --sample 5%%");
}

static bool parse_seed(const char *text, uint64_t *seed, struct error *err)
{
    char *end;

    if (text == NULL)
        return digest_random(seed, sizeof(*seed), err);
    errno = 0;
    *seed = strtoull(text, &end, 10);
    return (errno == 0 && *end == '\0' && text[0] >= '0' && text[0] <= '9') ||
           error_set(err, ERROR_USAGE, "\"%s\" is no seed", text);
}

static bool make_request(const struct arguments *arguments, struct verify_request *request,
                         struct error *err)
{
    *request = (struct verify_request){.repository = arguments->repository,
                                       .extent = arguments->all ? VERIFY_ALL : VERIFY_DUE,
                                       .mode = arguments->repair ? VERIFY_REPAIR : VERIFY_ONLY,
                                       .jobs = (int)arguments->jobs};
    if (arguments->all && arguments->sample)
        return error_set(err, ERROR_USAGE, "--all and --sample exclude each other");
    if (arguments->seed && !arguments->sample)
        return error_set(err, ERROR_USAGE, "--seed is of use with --sample only");
    if (!arguments->sample)
        return true;
    request->extent = VERIFY_SAMPLE;
    if (!parse_share(arguments->sample, &request->sample, err) ||
        !parse_seed(arguments->seed, &request->seed, err))
        return false;
    log_info("the sample's seed is %" PRIu64, request->seed);
    return true;
}

static bool print(const struct config *config, const struct verify_request *request, bool json,
                  const struct verify_result *result, struct error *err)
{
    struct buffer out = BUFFER_INIT;
    bool ok;

    if (json)
        cmd_verify_json(config, request, result, &out);
    else
        cmd_verify_text(config, result, &out);
    ok = (fwrite(out.data, 1, out.length, stdout) == out.length && fflush(stdout) == 0) ||
         error_set_errno(err, "could not write to standard output");
    buffer_free(&out);
    return ok;
}

/* What is to be done about what is wrong with a repository. */
struct remedy {
    bool repair;  /* another one may have it */
    bool push;    /* of WAL that none has, a server may */
    bool backup;  /* a new backup makes do without it */
    bool expiry;  /* later backups do: it need only be waited for */
    bool storing; /* of what is lost, some is part of backups */
};

static const char *or_else(const struct buffer *text)
{
    return text->length > 0 ? "; else " : "";
}

static void hint(const char *repository, const struct remedy *remedy, struct error *err)
{
    struct buffer text = BUFFER_INIT;

    if (remedy->repair)
        buffer_append_format(&text,
                             "`%s verify --repair --repository %s` brings back what "
                             "another repository has",
                             process_command(), repository);
    if (remedy->push)
        buffer_append_format(&text,
                             "%sWAL that is still in pg_wal of a server, or in pg_wal/before-* "
                             "after restore --delta: archive-push it from there",
                             or_else(&text));
    if (remedy->backup)
        buffer_append_format(&text,
                             "%s`%s backup` takes a new backup, so that moments from its "
                             "end on can be restored%s",
                             or_else(&text), process_command(),
                             remedy->storing
                                 ? "; it stores anew what is lost (on a host other than "
                                   "this one: with --full)"
                                 : "");
    else if (remedy->expiry)
        buffer_append_format(&text,
                             "%sit stays lost, and is no error any more once the backups "
                             "before it have expired",
                             or_else(&text));
    if (text.length > 0)
        error_hint(err, "%s", buffer_text(&text));
    buffer_free(&text);
}

static void add_remedy(const struct verify_finding *finding, bool may_repair, struct remedy *remedy)
{
    remedy->repair = remedy->repair || may_repair;
    remedy->push =
        remedy->push || (finding->kind == TRAILER_WAL && !may_repair && !finding->inherent);
    remedy->backup = remedy->backup || finding->backup_count > 0;
    remedy->storing = remedy->storing || finding->backup_count > 0;
    remedy->expiry = remedy->expiry || finding->kind == TRAILER_WAL;
    for (size_t i = 0; i < finding->lost_count; i++)
        remedy->backup = remedy->backup || finding->lost[i].to == INT64_MAX;
}

/* What is wrong is in the report; this is for whoever sees nothing else of it. */
static int judge_repository(const struct config *config, const struct verify_result *result,
                            const struct verify_repository *repository, enum verify_mode mode)
{
    struct remedy remedy = {.repair = false};
    struct error err = ERROR_INIT;
    uint64_t wrong = 0;

    for (size_t i = 0; i < repository->cluster_count; i++) {
        const struct verify_cluster *cluster = &repository->clusters[i];

        for (size_t j = 0; j < cluster->finding_count; j++) {
            const struct verify_finding *finding = &cluster->findings[j];

            if (!verify_is_wrong(finding))
                continue;
            wrong += finding->count - finding->repaired;
            add_remedy(finding,
                       mode != VERIFY_REPAIR &&
                           cmd_verify_may_have(config, result, repository,
                                               cluster->system_identifier, finding),
                       &remedy);
            remedy.backup = remedy.backup || cluster->backups == 0;
        }
    }
    if (wrong == 0)
        return 0;
    error_set(&err, ERROR_INTEGRITY, "%" PRIu64 " object%s of repository \"%s\" damaged or missing",
              wrong, wrong == 1 ? "" : "s", repository->config->name);
    hint(repository->config->name, &remedy, &err);
    return cmd_fail(&err);
}

/* Where there was nothing to verify, as under a mistyped name, nothing is proven. That the repositories are
 * new is no reason to complain. */
static int judge_name(const struct config *config, const struct verify_result *result)
{
    struct error err = ERROR_INIT;
    bool doubted = false;

    for (size_t i = 0; i < result->repository_count; i++) {
        if (result->repositories[i].cluster_count > 0)
            return 0;
        doubted = doubted || result->repositories[i].doubted;
    }
    if (!doubted)
        return 0;
    error_set(&err, ERROR_NOT_FOUND, "nothing was verified: there is nothing of cluster \"%s\"",
              config->cluster_name);
    return cmd_fail(&err);
}

/* Damage outweighs a repository that could not be reached, and that a name under which nothing is. */
static int judge(const struct config *config, const struct verify_result *result,
                 enum verify_mode mode)
{
    int status = judge_name(config, result);

    for (size_t i = 0; i < result->repository_count; i++) {
        const struct verify_repository *repository = &result->repositories[i];
        const int found = judge_repository(config, result, repository, mode);

        status = found > status ? found : status;
        if (repository->error.code != ERROR_NONE) {
            const int failed = cmd_fail(&repository->error);

            status = failed > status ? failed : status;
        }
    }
    return status;
}

static bool any_finding(const struct verify_result *result)
{
    for (size_t i = 0; i < result->repository_count; i++)
        for (size_t j = 0; j < result->repositories[i].cluster_count; j++)
            for (size_t k = 0; k < result->repositories[i].clusters[j].finding_count; k++)
                if (!result->repositories[i].clusters[j].findings[k].harmless)
                    return true;
    return false;
}

static int run(const struct config *config, const struct arguments *arguments,
               const struct verify_request *request)
{
    struct verify_result result = {.repositories = NULL};
    struct error err = ERROR_INIT;
    bool printed = true;
    int status;

    if (!verify_run(config, request, &result, &err)) {
        verify_free_result(&result);
        return cmd_fail(&err);
    }
    if (arguments->json || !arguments->quiet || any_finding(&result))
        printed = print(config, request, arguments->json, &result, &err);
    status = judge(config, &result, request->mode);
    verify_free_result(&result);
    return printed ? status : cmd_fail(&err);
}

int cmd_verify(const char *config_name, int argc, char **argv)
{
    struct arguments arguments = {.jobs = 0};
    const struct option table[] = {
        {"repository", OPTION_STRING, &arguments.repository, "NAME", "verify this one only"},
        {"all", OPTION_FLAG, &arguments.all, NULL, "read everything"},
        {"sample", OPTION_STRING, &arguments.sample, "P%", "read so many objects, at random"},
        {"seed", OPTION_STRING, &arguments.seed, "N", "the same sample again"},
        {"repair", OPTION_FLAG, &arguments.repair, NULL,
         "bring back what is missing or damaged from another repository"},
        {"jobs", OPTION_COUNT, &arguments.jobs, "N", "objects read at once"},
        {"json", OPTION_FLAG, &arguments.json, NULL, "print JSON; its form is in FORMAT.md"},
        {"quiet", OPTION_FLAG, &arguments.quiet, NULL, "say nothing unless something is wrong"},
        {0}};
    const struct options options = {
        .command = "verify",
        .synopsis = "verify [--repository NAME] [--all | --sample P%] [--repair] [--json]\n"
                    "              [--jobs N] [--quiet]",
        .summary = "Checks what is stored: each object against its trailer, backups against their\n"
                   "packs, WAL for gaps.",
        .table = table,
        .notes =
            "Every run looks whether everything is there, with the right size. Without --all or "
            "--sample\nit reads what this host has not read yet, and of the rest the oldest, so "
            "that a daily run\nreads everything within 30 days.\n\n"
            "--repair needs the right to delete objects, where something is damaged.\n\n"
            "Exit status: 0 if all is sound or was repaired, or only WAL is missing that no backup "
            "leads to\nany more; 1 if there is nothing of this cluster, but of others; 3 if a "
            "repository could\nnot be read; 4 if something is damaged or missing: what, and what "
            "it costs, is said."};
    struct verify_request request;
    struct error err = ERROR_INIT;
    struct config *config;
    int status;

    if (!cmd_begin(&options, argc, argv, NULL, NULL, &status))
        return status;
    process_catch_signals();
    if (arguments.quiet)
        log_set_level(LOG_WARNING);
    if (arguments.quiet || arguments.json)
        progress_set_terminal(false);
    if (!make_request(&arguments, &request, &err) || !cmd_load_config(config_name, &config, &err))
        return cmd_fail(&err);
    status = run(config, &arguments, &request);
    config_free(config);
    return status;
}
