/*
 * arrival.c - waiting for the server's WAL to arrive in a repository
 */
#include "job/arrival.h"

#include <string.h>

#include "pgvigil/clock.h"
#include "pgvigil/debt.h"
#include "pgvigil/log.h"
#include "pgvigil/process.h"
#include "pgvigil/units.h"
#include "pgvigil/wal_archive.h"

#define POLL_FIRST (20 * INT64_C(1000))
#define POLL_LAST CLOCK_SECOND
#define PAID_AT_ONCE 16 /* so that a long list of debts keeps nobody from looking */
#define NEWS_FIRST                                                                                 \
    (10 * CLOCK_SECOND) /* until the first word about a wait, then each time as long */

/* What the server itself knows of it, for whoever reads the error. */
static void explain_waiting(struct connection *connection, struct error *err)
{
    struct error ignored = ERROR_INIT;
    char **row;

    error_hint(err, "see the server's log for what archive_command says");
    if (!connection_row(connection,
                        "SELECT pg_is_in_recovery()::text, f.wal, f.time::text FROM"
                        " (SELECT 1) one LEFT JOIN (SELECT last_failed_wal AS wal,"
                        " last_failed_time AS time FROM pg_stat_archiver WHERE last_failed_time >"
                        " coalesce(last_archived_time, '-infinity')) f ON true",
                        3, &row, &ignored))
        return;
    if (row[0] != NULL && strcmp(row[0], "true") == 0)
        error_hint(err, "this server is a standby: the primary has to archive that segment, and "
                        "completes it only when more is written or by pg_switch_wal()");
    if (row[1] != NULL)
        error_detail(err, "the server's last attempt to archive failed: %s at %s", row[1],
                     row[2] != NULL ? row[2] : "?");
    connection_free_row(row, 3);
}

/* Nobody should have to wonder for an hour what is being waited for. */
static void say_waiting(const struct repository *repository, struct connection *connection,
                        const char *segment, int64_t left)
{
    const int64_t end = (clock_now() + left) / CLOCK_SECOND * CLOCK_SECOND;
    struct error news = ERROR_INIT;
    char text[CLOCK_TEXT_SIZE];

    error_set(&news, ERROR_TIMEOUT,
              "waiting for WAL segment %s to arrive in repository \"%s\"; gives up at %s", segment,
              repository->name, clock_format_local(end, text));
    explain_waiting(connection, &news);
    log_error(LOG_INFO, &news);
}

/* What came to one of them only, while another was left out. */
static void pay_debts(struct repository_set *set)
{
    struct error err = ERROR_INIT;
    size_t paid;

    if (!debt_pay(set, PAID_AT_ONCE, &paid, &err))
        log_debug("%s", err.message);
}

bool arrival_wait(const struct arrival *arrival, struct repository_set *set, size_t member,
                  struct connection *connection, int64_t timeout, struct error *err)
{
    struct repository *repository = set->members[member].repository;
    int64_t started = clock_monotonic();
    int64_t pause = POLL_FIRST;
    int64_t news = NEWS_FIRST;
    uint64_t missing = arrival->first;
    bool complete = false;
    char name[WAL_NAME_SIZE], waited[UNITS_TEXT_SIZE];

    for (;;) {
        /* what was seen once stays, so the search goes on from the last one missing */
        if (!process_check(err) ||
            !wal_archive_complete(repository, arrival->timeline, missing, arrival->last,
                                  arrival->segment_size, &complete, &missing, err))
            return false;
        if (complete)
            return true;
        if (clock_monotonic() - started > timeout)
            break;
        wal_segment_name(arrival->timeline, missing, arrival->segment_size, name);
        if (clock_monotonic() - started > news) {
            say_waiting(repository, connection, name, started + timeout - clock_monotonic());
            news *= 2;
        }
        pay_debts(set);
        clock_sleep(pause);
        pause = pause * 2 > POLL_LAST ? POLL_LAST : pause * 2;
    }
    error_set(err, ERROR_TIMEOUT, "WAL segment %s did not arrive in repository \"%s\" within %s",
              wal_segment_name(arrival->timeline, missing, arrival->segment_size, name),
              repository->name, units_format_duration(timeout, waited));
    explain_waiting(connection, err);
    return false;
}
