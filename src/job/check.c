/*
 * check.c - the whole way, end to end
 */
#include "pgvigil/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "job/arrival.h"
#include "job/server_site.h"
#include "pgvigil/clock.h"
#include "pgvigil/connection.h"
#include "pgvigil/keyring.h"
#include "pgvigil/mem.h"
#include "pgvigil/outage.h"
#include "pgvigil/process.h"
#include "pgvigil/units.h"
#include "pgvigil/version.h"
#include "pgvigil/wal.h"

/* What earlier steps found out; a later step that lacks something is skipped. */
struct check {
    const struct config *config;
    check_report_fn report;
    void *context;
    int failed;
    struct connection *connection;
    const struct connection_server *server;
    const char *hopeless;      /* the step that failed, and without which WAL cannot arrive */
    struct error doubt;        /* does archive_command store here? ERROR_NONE: yes */
    struct repository_set set; /* all repositories, also the async ones */
    struct arrival segment;    /* the one that was switched away from */
    int64_t switched;          /* when; 0: none was */
    bool *left_out;            /* by repository: of the archive_command's push of it */
};

static void passed(struct check *check, const char *title, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void passed(struct check *check, const char *title, const char *format, ...)
{
    char detail[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    check->report(&(struct check_step){.title = title, .outcome = CHECK_PASSED, .detail = detail},
                  check->context);
}

static void failed(struct check *check, const char *title, const struct error *error)
{
    check->failed++;
    check->report(
        &(struct check_step){.title = title, .outcome = CHECK_FAILED, .detail = "", .error = error},
        check->context);
}

static void warned(struct check *check, const char *title, const struct error *error)
{
    check->report(
        &(struct check_step){
            .title = title, .outcome = CHECK_WARNING, .detail = "", .error = error},
        check->context);
}

static void skipped(struct check *check, const char *title, const char *why)
{
    check->report(&(struct check_step){.title = title, .outcome = CHECK_SKIPPED, .detail = why},
                  check->context);
}

static void check_server(struct check *check)
{
    const char *title = "server";
    struct error error = ERROR_INIT;

    if (!connection_open(check->config->conninfo, "check", &check->connection, &error) ||
        !connection_server(check->connection, &check->server, &error) ||
        !version_check_server(check->server->version_num, &error)) {
        check->server = NULL;
        failed(check, title, &error);
        return;
    }
    passed(check, title, "PostgreSQL %d, system identifier %" PRIu64 ", timeline %" PRIu32 "%s",
           check->server->version_num / 10000, check->server->system_identifier,
           check->server->timeline, check->server->in_recovery ? ", a standby" : "");
}

static void check_directory(struct check *check)
{
    const char *title = "data directory";
    struct error error = ERROR_INIT;
    struct control control;
    char *path;

    if (check->server == NULL) {
        skipped(check, title, "no connection");
        return;
    }
    if (server_site_directory(check->config, check->connection, check->server, &path, &control,
                              &error)) {
        passed(check, title, "%s, page checksums %s", path,
               control.checksum_version != 0 ? "on" : "off");
        free(path);
    } else {
        check->hopeless = title;
        failed(check, title, &error);
    }
}

static void check_rights(struct check *check)
{
    const char *title = "rights for a backup";
    struct error error = ERROR_INIT;
    char **row;

    if (check->server == NULL) {
        skipped(check, title, "no connection");
        return;
    }
    if (!connection_row(check->connection,
                        "SELECT string_agg(f, ', ') FROM unnest(ARRAY["
                        "'pg_backup_start(text, boolean)', 'pg_backup_stop(boolean)',"
                        "'pg_switch_wal()', 'pg_create_restore_point(text)']) f"
                        " WHERE NOT has_function_privilege(f, 'EXECUTE')",
                        1, &row, &error)) {
        failed(check, title, &error);
        return;
    }
    if (row[0] != NULL) {
        error_set(&error, ERROR_DATABASE, "the role may not execute %s", row[0]);
        error_hint(&error, "grant what sql/role.sql lists");
        failed(check, title, &error);
    } else {
        passed(check, title, "%s", "granted");
    }
    connection_free_row(row, 1);
}

static void check_archiving(struct check *check)
{
    const char *title = "archive settings";
    struct error error = ERROR_INIT;

    if (check->server == NULL) {
        skipped(check, title, "no connection");
        return;
    }
    if (check->server->archive_mode == NULL || check->server->archive_command == NULL) {
        skipped(check, title, "the role may not see them (grant pg_read_all_settings)");
        return;
    }
    /* Root becomes the server's user only once it has read the configuration. */
    if (access(check->config->path, R_OK) != 0) {
        error_set_errno(&error, "user %s, whom the server runs as, cannot read \"%s\"",
                        process_user_name(), check->config->path);
        process_hint_group(check->config->path, &error);
        check->hopeless = title;
        failed(check, title, &error);
    } else if (!server_site_archives(check->connection, check->server, &error)) {
        check->hopeless = title;
        failed(check, title, &error);
    } else if (!server_site_calls_us(check->config, check->server, &check->doubt)) {
        warned(check, title, &check->doubt); /* whether WAL arrives is seen below */
    } else {
        passed(check, title, "archive_mode %s, %s", check->server->archive_mode,
               check->server->archive_command);
    }
}

/* Where there are private keys they must be good for something. */
static bool check_private_keys(struct keyring *keyring, const struct keys_recipients *recipients,
                               struct error *err)
{
    const struct keys_identity *identity;

    if (!keyring_identity(keyring, &identity, err))
        return false;
    if (keys_fit(recipients, identity))
        return true;
    error_set(
        err, ERROR_CONFIG,
        "none of the private keys in \"identity\" belongs to a certificate in \"recipients\"");
    return error_hint(err,
                      "what is stored from now on could not be read with them: add the private "
                      "key of one of the recipients, or its certificate to them");
}

static void check_encryption(struct check *check)
{
    const char *title = "encryption";
    const bool reads = check->config->encryption.identity.count > 0;
    struct keyring *keyring = keyring_new(check->config);
    const struct keys_recipients *recipients = NULL;
    struct buffer text = BUFFER_INIT;
    struct error error = ERROR_INIT;

    if (!reads && check->config->encryption.recipients.count == 0) {
        passed(check, title, "%s", "none");
    } else if (!keyring_recipients(keyring, &recipients, &error) ||
               (reads && !check_private_keys(keyring, recipients, &error))) {
        check->hopeless = recipients == NULL ? title : check->hopeless;
        failed(check, title, &error);
    } else {
        keys_describe(recipients, &text);
        passed(check, title, "for %s; %s", buffer_text(&text),
               reads ? "a private key of theirs is here"
                     : "without a private key this host cannot restore");
    }
    buffer_free(&text);
    keyring_free(keyring);
}

static void switch_segment(struct check *check)
{
    const char *title = "switch of a WAL segment";
    const struct connection_server *server = check->server;
    struct error error = ERROR_INIT;
    int64_t failures;
    uint64_t end;

    if (server == NULL || server->in_recovery) {
        skipped(check, title, server == NULL ? "no connection" : "the server is a standby");
        return;
    }
    failures = arrival_failures(check->connection);
    /* A query that is given up when we are told to stop leaves a connection that can do no more. */
    if (!process_check(&error) ||
        !connection_switch_wal(check->connection, "pgvigil check", &end, &error)) {
        failed(check, title, &error);
        return;
    }
    check->switched = clock_monotonic();
    check->segment = (struct arrival){.timeline = server->timeline,
                                      .first = (end - 1) / server->wal_segment_size,
                                      .last = (end - 1) / server->wal_segment_size,
                                      .segment_size = server->wal_segment_size,
                                      .data_directory = server->data_directory,
                                      .patience = ARRIVAL_WHILE_TRIED,
                                      .failures = failures,
                                      .left_out = check->left_out};
}

/* Before a segment is switched: a push leaves out who was down a moment ago, unless it has answered
 * since. */
static void open_repository(struct check *check, struct repository_set_member *member)
{
    char *title = mem_printf("repository \"%s\"", member->config->name);

    if (outage_open(check->config, member->config, &member->repository, &member->error)) {
        const struct repository *repository = member->repository;

        outage_end(check->config, repository->name);
        passed(check, title, "%s, id %s%s", member->config->url, repository->id,
               repository->encrypted ? ", encrypted" : "");
        if (check->server != NULL)
            repository_select(member->repository, check->server->system_identifier);
    } else {
        member->repository = NULL;
        failed(check, title, &member->error);
    }
    free(title);
}

static void open_repositories(struct check *check)
{
    const struct config *config = check->config;
    struct repository_set *set = &check->set;

    *set = (struct repository_set){.config = config, .count = config->repository_count};
    set->members = mem_calloc(set->count, sizeof *set->members);
    for (size_t i = 0; i < set->count; i++) {
        set->members[i].config = &config->repositories[i];
        open_repository(check, &set->members[i]);
    }
}

/* Why the segment is not waited for in this repository, into text; "": it is. */
static void why_not_wait(const struct check *check, size_t member, char text[128])
{
    text[0] = '\0';
    if (check->config->repositories[member].copy == CONFIG_COPY_ASYNC)
        snprintf(text, 128, "copy = async: `%s copy` brings it there", process_command());
    else if (check->switched == 0)
        snprintf(text, 128, "no segment could be switched");
    else if (check->hopeless != NULL)
        snprintf(text, 128, "it cannot arrive while \"%s\" fails", check->hopeless);
}

static char *way_title(const struct check *check, size_t member)
{
    return mem_printf("WAL reaches repository \"%s\"", check->config->repositories[member].name);
}

/* It is there, but another way than what is to be proven. */
static void warn_left_out(struct check *check, size_t member, const char *title)
{
    const struct arrival *segment = &check->segment;
    struct error why = ERROR_INIT;
    char name[WAL_NAME_SIZE];

    error_set(&why, ERROR_STORE,
              "archive_command did not store WAL segment %s in repository \"%s\": this command did",
              wal_segment_name(segment->timeline, segment->last, segment->segment_size, name),
              check->config->repositories[member].name);
    error_hint(&why, "the server's log says why; what the server runs may lack what this command "
                     "has, as credentials in the environment");
    warned(check, title, &why);
}

static void report_way(size_t member, const struct error *error, void *context)
{
    struct check *check = context;
    const struct arrival *segment = &check->segment;
    char text[UNITS_TEXT_SIZE], name[WAL_NAME_SIZE];
    char *title = way_title(check, member);

    if (error == NULL && check->left_out[member]) {
        warn_left_out(check, member, title);
    } else if (error == NULL) {
        passed(check, title, "%s, after %s",
               wal_segment_name(segment->timeline, segment->last, segment->segment_size, name),
               units_format_duration(clock_monotonic() - check->switched, text));
    } else {
        struct error why = *error;

        if (check->doubt.code != ERROR_NONE) {
            error_detail(&why, "%s%s%s", why.detail, why.detail[0] != '\0' ? "; " : "",
                         check->doubt.message);
            error_hint(&why, "%s", check->doubt.hint);
        }
        failed(check, title, &why);
    }
    free(title);
}

/* The segment that was switched away from must come to be in the repositories. */
static void check_ways(struct check *check)
{
    bool *wanted = mem_calloc(check->set.count, sizeof *wanted);
    char why_not[128];

    for (size_t i = 0; i < check->set.count; i++) {
        char *title = way_title(check, i);

        why_not_wait(check, i, why_not);
        wanted[i] = repository_set_has(&check->set, i) && why_not[0] == '\0';
        if (repository_set_has(&check->set, i) && !wanted[i])
            skipped(check, title, why_not);
        free(title);
    }
    if (check->switched != 0)
        arrival_wait_all(&check->segment, &check->set, wanted, check->connection,
                         check->config->archive.timeout, report_way, check);
    free(wanted);
}

int check_run(const struct config *config, check_report_fn report, void *context)
{
    struct check check = {
        .config = config, .report = report, .context = context, .doubt = ERROR_INIT};

    check_server(&check);
    check_directory(&check);
    check_rights(&check);
    check_archiving(&check);
    check_encryption(&check);
    open_repositories(&check);
    check.left_out = mem_calloc(check.set.count, sizeof *check.left_out);
    switch_segment(&check);
    check_ways(&check);
    free(check.left_out);
    repository_set_close(&check.set);
    connection_close(check.connection);
    return check.failed;
}
