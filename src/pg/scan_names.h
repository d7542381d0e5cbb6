/*
 * scan_names.h - what names in a data directory mean
 *
 * The lists of the server's own base backup (src/backend/backup/basebackup.c) and the names of
 * relation files (src/backend/storage/file/reinit.c: parse_filename_for_nontemp_relation).
 */
#ifndef PGVIGIL_SCAN_NAMES_H
#define PGVIGIL_SCAN_NAMES_H

#include <stdbool.h>
#include <stdint.h>

struct scan_relation_name {
    uint32_t number;  /* relfilenumber */
    uint32_t segment; /* 0 for the first */
    bool init_fork;
};

/* <number>[_fsm|_vm|_init][.<segment>] */
bool scan_names_relation(const char *name, struct scan_relation_name *relation);

/* t<backend>_<number>[_<fork>][.<segment>]: a relation of one session, worth nothing later. */
bool scan_names_is_temporary(const char *name);

bool scan_names_is_oid(const char *name);

/* PG_<major>_<catalog version>: data of other versions may lie beside ours around a pg_upgrade. */
bool scan_names_is_version(const char *name, uint32_t catalog_version);

/* Left out of a base backup in whatever directory. */
bool scan_names_excluded(const char *name);

/* Kept as a directory, without its contents. */
bool scan_names_is_emptied(const char *name);

/* A directory at the top that a cluster cannot do without (global, base, pg_tblspc apart). */
bool scan_names_is_servers(const char *name);

#endif
