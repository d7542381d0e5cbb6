/* version.c - pgvigil version [--json] */
#include <jansson.h>
#include <openssl/crypto.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <zstd.h>

#include "cmd/cmd.h"
#include "pgvigil/connection.h"
#include "pgvigil/mem.h"
#include "pgvigil/repository.h"
#include "pgvigil/version.h"

/* 150013 to "15.13". The caller frees it. */
static char *version_of_libpq(void)
{
    struct error ignored = ERROR_INIT;
    int number;

    if (!connection_library(&number, &ignored))
        return mem_strdup("not found");
    return mem_printf("%d.%d", number / 10000, number % 10000);
}

static void version_print_text(const char *libpq)
{
    printf("pgvigil %s\n", PACKAGE_VERSION);
    printf("PostgreSQL %d to %d, repository format %d\n", VERSION_MINIMUM, VERSION_MAXIMUM,
           REPOSITORY_FORMAT);
    printf("libpq %s, zstd %s, OpenSSL %s, SQLite %s\n", libpq, ZSTD_versionString(),
           OpenSSL_version(OPENSSL_VERSION_STRING), sqlite3_libversion());
}

static void version_print_json(const char *libpq)
{
    json_t *json = json_pack(
        "{s:s, s:i, s:{s:i, s:i}, s:{s:s, s:s, s:s, s:s}}", "version", PACKAGE_VERSION,
        "repository_format", REPOSITORY_FORMAT, "postgresql", "minimum", VERSION_MINIMUM, "maximum",
        VERSION_MAXIMUM, "libraries", "libpq", libpq, "zstd", ZSTD_versionString(), "openssl",
        OpenSSL_version(OPENSSL_VERSION_STRING), "sqlite", sqlite3_libversion());

    json_dumpf(json, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(json);
}

int cmd_version(const char *config_name, int argc, char **argv)
{
    bool as_json = false;
    const struct option table[] = {
        {"json", OPTION_FLAG, &as_json, NULL, "print it as JSON"},
        {.name = NULL},
    };
    const struct options options = {
        .command = "version",
        .synopsis = "version [--json]",
        .summary = "Shows the version of pgvigil and of the libraries it runs with.",
        .table = table,
    };
    size_t count;
    int status;

    (void)config_name;
    if (!cmd_begin(&options, argc, argv, NULL, &count, &status))
        return status;
    char *libpq = version_of_libpq();
    if (as_json)
        version_print_json(libpq);
    else
        version_print_text(libpq);
    free(libpq);
    return 0;
}
