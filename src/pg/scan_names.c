/*
 * scan_names.c - what names in a data directory mean
 */
#include "pg/scan_names.h"

#include <string.h>

static const char *const server_directories[] = {
    "pg_commit_ts", "pg_logical", "pg_multixact", "pg_stat", "pg_twophase", "pg_xact",
};

/* basebackup.c: excludeDirContents. */
static const char *const emptied_directories[] = {
    "pg_stat_tmp", "pg_replslot",  "pg_dynshmem", "pg_notify",
    "pg_serial",   "pg_snapshots", "pg_subtrans",
};

/* basebackup.c: excludeFiles. */
static const char *const excluded_files[] = {
    "postgresql.auto.conf.tmp", "current_logfiles.tmp", "backup_label",    "tablespace_map",
    "backup_manifest",          "postmaster.pid",       "postmaster.opts",
};

static const char *const excluded_prefixes[] = {"pgsql_tmp", "pg_internal.init"};

static bool among(const char *name, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(name, list[i]) == 0) {
            return true;
        }
    }
    return false;
}

#define AMONG(name, list) among(name, list, sizeof(list) / sizeof((list)[0]))

bool scan_names_excluded(const char *name)
{
    for (size_t i = 0; i < sizeof excluded_prefixes / sizeof excluded_prefixes[0]; i++) {
        if (strncmp(name, excluded_prefixes[i], strlen(excluded_prefixes[i])) == 0) {
            return true;
        }
    }
    return AMONG(name, excluded_files);
}

static size_t count_digits(const char *text)
{
    return strspn(text, "0123456789");
}

/* A number as the server writes it: no leading zero, at least 1, of 32 bits. */
static bool take_number(const char **at, uint32_t *number)
{
    size_t digits = count_digits(*at);
    uint64_t value = 0;

    if (digits == 0 || digits > 10 || **at == '0') {
        return false;
    }
    for (size_t i = 0; i < digits; i++) {
        value = value * 10 + (uint64_t)((*at)[i] - '0');
    }
    if (value > UINT32_MAX) {
        return false;
    }
    *at += digits;
    *number = (uint32_t)value;
    return true;
}

bool scan_names_is_oid(const char *name)
{
    uint32_t oid;

    return take_number(&name, &oid) && *name == '\0';
}

/* <number>[_fsm|_vm|_init][.<segment>] */
bool scan_names_relation(const char *name, struct scan_relation_name *relation)
{
    static const char *const forks[] = {"_fsm", "_vm", "_init"};

    *relation = (struct scan_relation_name){.segment = 0};
    if (!take_number(&name, &relation->number)) {
        return false;
    }
    for (size_t i = 0; i < sizeof forks / sizeof forks[0]; i++) {
        size_t length = strlen(forks[i]);
        if (strncmp(name, forks[i], length) == 0) {
            relation->init_fork = strcmp(forks[i], "_init") == 0;
            name += length;
            break;
        }
    }
    if (*name == '.') {
        name++;
        if (!take_number(&name, &relation->segment)) {
            return false;
        }
    }
    return *name == '\0';
}

/* t<backend>_<number>[_<fork>][.<segment>] */
bool scan_names_is_temporary(const char *name)
{
    struct scan_relation_name relation;
    size_t digits = *name == 't' ? count_digits(name + 1) : 0;

    return digits > 0 && name[1 + digits] == '_' &&
           scan_names_relation(name + 1 + digits + 1, &relation);
}

bool scan_names_is_emptied(const char *name)
{
    return AMONG(name, emptied_directories);
}

bool scan_names_is_servers(const char *name)
{
    return AMONG(name, server_directories);
}

bool scan_names_is_version(const char *name, uint32_t catalog_version)
{
    uint32_t major;
    uint32_t catalog;

    if (strncmp(name, "PG_", 3) != 0) {
        return false;
    }
    name += 3;
    if (!take_number(&name, &major) || *name != '_') {
        return false;
    }
    name++;
    return take_number(&name, &catalog) && *name == '\0' && catalog == catalog_version;
}
