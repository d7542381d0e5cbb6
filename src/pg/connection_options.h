/*
 * connection_options.h - from the configuration's conninfo to libpq's parameters
 *
 * What the conninfo says is left as it is; a database to connect to, where neither it nor the
 * environment names one, and the application's name are added.
 */
#ifndef PGVIGIL_CONNECTION_OPTIONS_H
#define PGVIGIL_CONNECTION_OPTIONS_H

#include <stdint.h>

#include "pgvigil/error.h"

struct connection_options {
    const char **keywords; /* ended by NULL; borrowed from `parsed` */
    const char **values;
    int64_t timeout; /* microseconds for all hosts together */
    void *parsed;    /* PQconninfoOption */
    char *application_name;
};

/* Needs libpq_load. ERROR_CONFIG without the conninfo's text, in which there may be a password. */
bool connection_options_parse(const char *conninfo, const char *command,
                              struct connection_options *options, struct error *err);
void connection_options_free(struct connection_options *options);

#endif
