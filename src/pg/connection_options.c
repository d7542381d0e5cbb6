/*
 * connection_options.c - from the configuration's conninfo to libpq's parameters
 */
#include "pg/connection_options.h"

#include <stdlib.h>
#include <string.h>

#include "pg/libpq.h"
#include "pgvigil/clock.h"
#include "pgvigil/mem.h"

#define CONNECT_TIMEOUT_SECONDS 30
#define LONGEST_CONNECT_TIMEOUT_SECONDS 3600

/* libpq quotes pieces of what it could not read. */
static bool bad_conninfo(const char *conninfo, const char *reason, struct error *err)
{
    bool may_hold_password = strstr(conninfo, "pass") || strstr(conninfo, "://");

    if (!reason) { /* what is wrong with the text it always says */
        return error_set(err, ERROR_SYSTEM, "could not read conninfo: out of memory");
    }
    if (!may_hold_password) {
        error_set(err, ERROR_CONFIG, "conninfo is not a valid connection string: %.*s",
                  (int)strcspn(reason, "\n"), reason);
    } else {
        error_set(err, ERROR_CONFIG, "conninfo is not a valid connection string");
    }
    return error_hint(err, "write keywords and values as in \"host=/run/postgresql port=5432 "
                           "user=pgvigil\"");
}

static const char *value_of(const PQconninfoOption *parsed, const char *keyword)
{
    for (; parsed->keyword; parsed++) {
        if (strcmp(parsed->keyword, keyword) == 0) {
            return parsed->val;
        }
    }
    return NULL;
}

static size_t count_options(const PQconninfoOption *parsed)
{
    size_t count = 0;

    while (parsed[count].keyword) {
        count++;
    }
    return count;
}

/* connect_timeout is of each host in the list, and libpq leaves it to those who poll themselves. */
static int64_t find_timeout(const PQconninfoOption *parsed)
{
    const char *text = value_of(parsed, "connect_timeout");
    const char *hosts = value_of(parsed, "host");
    long seconds = text ? strtol(text, NULL, 10) : 0;
    int64_t count = 1;

    if (hosts == NULL) {
        hosts = value_of(parsed, "hostaddr");
    }
    for (; hosts && *hosts; hosts++) {
        count += *hosts == ',';
    }
    if (seconds <= 0 || seconds > LONGEST_CONNECT_TIMEOUT_SECONDS) {
        seconds = CONNECT_TIMEOUT_SECONDS;
    }
    return seconds * CLOCK_SECOND * count;
}

/* libpq would take the user's name, and a database of that name need not exist. */
static bool names_database(const PQconninfoOption *parsed)
{
    return value_of(parsed, "dbname") || value_of(parsed, "service") || getenv("PGDATABASE") ||
           getenv("PGSERVICE");
}

bool connection_options_parse(const char *conninfo, const char *command,
                              struct connection_options *options, struct error *err)
{
    char *reason = NULL;
    PQconninfoOption *parsed = PQconninfoParse(conninfo, &reason);
    size_t used = 0;

    *options = (struct connection_options){.parsed = parsed};
    if (parsed == NULL) {
        bad_conninfo(conninfo, reason, err);
        PQfreemem(reason);
        return false;
    }
    size_t count = count_options(parsed) + 3;
    options->keywords = mem_calloc(count, sizeof *options->keywords);
    options->values = mem_calloc(count, sizeof *options->values);
    options->application_name = mem_printf("pgvigil %s", command);
    options->timeout = find_timeout(parsed);
    options->keywords[used] = "fallback_application_name";
    options->values[used++] = options->application_name;
    if (!names_database(parsed)) {
        options->keywords[used] = "dbname";
        options->values[used++] = "postgres";
    }
    for (const PQconninfoOption *option = parsed; option->keyword; option++) {
        if (option->val) {
            options->keywords[used] = option->keyword;
            options->values[used++] = option->val;
        }
    }
    return true;
}

void connection_options_free(struct connection_options *options)
{
    free(options->keywords);
    free(options->values);
    free(options->application_name);
    PQconninfoFree(options->parsed);
    *options = (struct connection_options){.parsed = NULL};
}
