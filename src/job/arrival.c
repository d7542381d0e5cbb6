/*
 * arrival.c - waiting for the server's WAL to arrive in a repository
 */
#include "job/arrival.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/clock.h"
#include "pgvigil/debt.h"
#include "pgvigil/layout.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"
#include "pgvigil/units.h"
#include "pgvigil/wal_agreement.h"
#include "pgvigil/wal_archive.h"

#define POLL_FIRST (20 * INT64_C(1000))
#define POLL_LAST CLOCK_SECOND
#define TRIES_IN_A_ROW 3 /* of the server, which makes a pause of a minute then */
#define PAID_AT_ONCE 16  /* so that a long list of debts keeps nobody from looking */
#define NEWS_FIRST                                                                                 \
    (10 * CLOCK_SECOND) /* until the first word about a wait, then each time as long */

/* What is waited for, by whom, and since when. */
struct wait {
    const struct arrival *arrival;
    struct repository_set *set;
    struct connection *connection;
    int64_t started, timeout;
    uint64_t
        *missing; /* of each member: what was seen once stays, so the search goes on from there */
    bool *wanted; /* of each member: not yet there, and not given up */
    arrival_report_fn report;
    void *context;
};

/* What the server says of its archiving. */
struct archiver {
    bool archived; /* this segment, wherever it is */
    bool in_recovery;
    int64_t failures; /* so far */
    char failed[256]; /* "<file> at <time>" of the last try, or "" if that went well */
};

static const char *missing_name(const struct wait *wait, size_t member, char name[WAL_NAME_SIZE])
{
    return wal_segment_name(wait->arrival->timeline, wait->missing[member],
                            wait->arrival->segment_size, name);
}

static void ask_archiver(struct connection *connection, const char *segment,
                         struct archiver *archiver)
{
    struct error ignored = ERROR_INIT;
    char *sql = mem_printf(
        "SELECT coalesce(last_archived_wal COLLATE \"C\" >= '%s' AND length(last_archived_wal) = 24"
        " AND left(last_archived_wal, 8) = left('%s', 8), false)::text, failed_count::text,"
        " CASE WHEN last_failed_time > coalesce(last_archived_time, '-infinity')"
        " THEN last_failed_wal || ' at ' || last_failed_time ELSE '' END,"
        " pg_is_in_recovery()::text FROM pg_stat_archiver",
        segment, segment);
    char **row;

    *archiver = (struct archiver){.archived = false};
    if (connection_row(connection, sql, 4, &row, &ignored)) {
        archiver->archived = row[0] != NULL && strcmp(row[0], "true") == 0;
        archiver->failures = row[1] != NULL ? strtoll(row[1], NULL, 10) : 0;
        snprintf(archiver->failed, sizeof archiver->failed, "%s", row[2] != NULL ? row[2] : "");
        archiver->in_recovery = row[3] != NULL && strcmp(row[3], "true") == 0;
        connection_free_row(row, 4);
    }
    free(sql);
}

/* What the server itself knows of it, for whoever reads the error. */
static void explain_waiting(const struct archiver *archiver, struct error *err)
{
    error_hint(err, "see the server's log for what archive_command says");
    if (archiver->in_recovery)
        error_hint(err, "this server is a standby: the primary has to archive that segment, and "
                        "completes it only when more is written or by pg_switch_wal()");
    if (archiver->failed[0] != '\0')
        error_detail(err, "the server's last attempt to archive failed: %s", archiver->failed);
    if (archiver->archived) {
        error_detail(err, "the server says that it has archived it");
        error_hint(err, "does archive_command store into this repository?");
    }
}

/* Nobody should have to wonder for an hour what is being waited for. */
static void say_waiting(const struct wait *wait, size_t member)
{
    const int64_t left = wait->started + wait->timeout - clock_monotonic();
    const int64_t end = (clock_now() + left) / CLOCK_SECOND * CLOCK_SECOND;
    struct error news = ERROR_INIT;
    struct archiver archiver;
    char text[CLOCK_TEXT_SIZE], name[WAL_NAME_SIZE];

    ask_archiver(wait->connection, missing_name(wait, member, name), &archiver);
    error_set(&news, ERROR_TIMEOUT,
              "waiting for WAL segment %s to arrive in repository \"%s\"; gives up at %s", name,
              wait->set->members[member].config->name, clock_format_local(end, text));
    explain_waiting(&archiver, &news);
    log_error(LOG_INFO, &news);
}

struct owed {
    char object[LAYOUT_NAME_SIZE];
    bool found;
};

static bool find_owed(const char *object, bool *forget, void *context, struct error *err)
{
    struct owed *owed = context;

    (void)err;
    *forget = false;
    owed->found = owed->found || strcmp(object, owed->object) == 0;
    return true;
}

static void note_left_out(const struct wait *wait, size_t member)
{
    const struct arrival *arrival = wait->arrival;
    const struct repository_set_member *one = &wait->set->members[member];
    struct error ignored = ERROR_INIT;
    struct owed owed = {.found = false};
    char file[WAL_NAME_SIZE];

    wal_segment_name(arrival->timeline, arrival->last, arrival->segment_size, file);
    layout_wal_segment(file, owed.object);
    if (debt_review(wait->set->config, one->config->name, one->repository->system_identifier,
                    find_owed, &owed, &ignored) &&
        owed.found)
        arrival->left_out[member] = true;
}

/* What came to one of them only, while another was left out. */
static void pay_debts(const struct wait *wait)
{
    struct error err = ERROR_INIT;
    size_t paid;

    for (size_t i = 0; wait->arrival->left_out != NULL && i < wait->set->count; i++)
        if (wait->wanted[i])
            note_left_out(wait, i);
    if (!debt_pay(wait->set, PAID_AT_ONCE, &paid, &err))
        log_debug("%s", err.message);
}

static void end_one(struct wait *wait, size_t member, const struct error *err)
{
    wait->wanted[member] = false;
    wait->report(member, err, wait->context);
}

bool arrival_check_own(struct repository *repository, const char *data_directory,
                       const char *segment, struct error *err)
{
    char *path = data_directory ? mem_printf("%s/pg_wal/%s", data_directory, segment) : NULL;
    bool other = false;
    bool ok = !path || wal_agreement_is_other(repository, segment, path, &other, err);

    free(path);
    if (!ok || !other)
        return ok;
    error_set(err, ERROR_INTEGRITY,
              "WAL segment %s in repository \"%s\" is not the one that this server wrote", segment,
              repository->name);
    error_detail(
        err,
        "another server with the same system identifier archived under that name: a clone, an old "
        "primary, or this one before it was set back to an earlier state");
    return error_hint(err,
                      "find out which of the two the database needs, and move the other's WAL "
                      "files away, from where they differ on, and its later backups (backup/ID)");
}

/* All names are there: of this server's files? */
static bool check_last(const struct wait *wait, size_t member, struct error *err)
{
    const struct arrival *arrival = wait->arrival;
    char file[WAL_NAME_SIZE];

    wal_segment_name(arrival->timeline, arrival->last, arrival->segment_size, file);
    return arrival_check_own(wait->set->members[member].repository, arrival->data_directory, file,
                             err);
}

/* Returns the first member that is still waited for, or the number of members. */
static size_t look(struct wait *wait)
{
    const struct arrival *arrival = wait->arrival;
    size_t first = wait->set->count;

    for (size_t i = 0; i < wait->set->count; i++) {
        struct error err = ERROR_INIT;
        bool complete;

        if (!wait->wanted[i])
            continue;
        if (!process_check(&err) ||
            !wal_archive_complete(wait->set->members[i].repository, arrival->timeline,
                                  wait->missing[i], arrival->last, arrival->segment_size, &complete,
                                  &wait->missing[i], &err) ||
            (complete && !check_last(wait, i, &err)))
            end_one(wait, i, &err);
        else if (complete)
            end_one(wait, i, NULL);
        else if (first > i)
            first = i;
    }
    return first;
}

static void give_up(struct wait *wait, const char *within)
{
    for (size_t i = 0; i < wait->set->count; i++) {
        struct error err = ERROR_INIT;
        struct archiver archiver;
        char name[WAL_NAME_SIZE];

        if (!wait->wanted[i])
            continue;
        ask_archiver(wait->connection, missing_name(wait, i, name), &archiver);
        error_set(&err, ERROR_TIMEOUT, "WAL segment %s did not arrive in repository \"%s\"%s", name,
                  wait->set->members[i].config->name, within);
        explain_waiting(&archiver, &err);
        end_one(wait, i, &err);
    }
}

static bool is_owed(const struct wait *wait)
{
    struct error ignored = ERROR_INIT;
    size_t owed = 0;

    for (size_t i = 0; owed == 0 && i < wait->set->count; i++)
        if (wait->wanted[i])
            debt_count(wait->set->config, wait->set->members[i].config->name, &owed, &ignored);
    return owed > 0;
}

/* Has the server done with the segment, or failed so often with it that it makes a pause? */
static bool is_futile(const struct wait *wait, size_t member)
{
    struct archiver archiver;
    char name[WAL_NAME_SIZE];

    ask_archiver(wait->connection, missing_name(wait, member, name), &archiver);
    return (archiver.archived && !is_owed(wait)) ||
           archiver.failures >= wait->arrival->failures + TRIES_IN_A_ROW;
}

static void wait_for_all(struct wait *wait)
{
    int64_t pause = POLL_FIRST, news = NEWS_FIRST;
    char waited[UNITS_TEXT_SIZE], within[UNITS_TEXT_SIZE + 16] = "";
    size_t member;

    while ((member = look(wait)) < wait->set->count) {
        const int64_t now = clock_monotonic();

        if (now - wait->started > wait->timeout) {
            snprintf(within, sizeof within, " within %s",
                     units_format_duration(wait->timeout, waited));
            break;
        }
        if (now - wait->started > news) {
            say_waiting(wait, member);
            news *= 2;
        }
        pay_debts(wait);
        if (wait->arrival->patience == ARRIVAL_WHILE_TRIED && is_futile(wait, member)) {
            look(wait); /* it may have come just before the server said so */
            break;
        }
        clock_sleep(pause);
        pause = pause * 2 > POLL_LAST ? POLL_LAST : pause * 2;
    }
    give_up(wait, within);
}

void arrival_wait_all(const struct arrival *arrival, struct repository_set *set,
                      const bool *members, struct connection *connection, int64_t timeout,
                      arrival_report_fn report, void *context)
{
    struct wait wait = {.arrival = arrival,
                        .set = set,
                        .connection = connection,
                        .started = clock_monotonic(),
                        .timeout = timeout,
                        .missing = mem_calloc(set->count, sizeof *wait.missing),
                        .wanted = mem_calloc(set->count, sizeof *wait.wanted),
                        .report = report,
                        .context = context};

    for (size_t i = 0; i < set->count; i++) {
        wait.missing[i] = arrival->first;
        wait.wanted[i] = members[i];
    }
    wait_for_all(&wait);
    free(wait.missing);
    free(wait.wanted);
}

int64_t arrival_failures(struct connection *connection)
{
    struct archiver archiver;

    ask_archiver(connection, "", &archiver);
    return archiver.failures;
}

static void take_error(size_t member, const struct error *err, void *context)
{
    struct error *taken = context;

    (void)member;
    if (err != NULL)
        *taken = *err;
    else
        error_clear(taken);
}

bool arrival_wait(const struct arrival *arrival, struct repository_set *set, size_t member,
                  struct connection *connection, int64_t timeout, struct error *err)
{
    bool *members = mem_calloc(set->count, sizeof *members);

    members[member] = true;
    arrival_wait_all(arrival, set, members, connection, timeout, take_error, err);
    free(members);
    return err->code == ERROR_NONE;
}
