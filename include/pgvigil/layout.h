/*
 * layout.h - the names of all objects in a repository
 *
 * The only place that builds or takes apart object names; docs/FORMAT.md is normative. Names below
 * are relative to a cluster's prefix "<cluster>/<system identifier>/", which repository.h adds.
 * All functions write into a caller's array of LAYOUT_NAME_SIZE and return it.
 */
#ifndef PGVIGIL_LAYOUT_H
#define PGVIGIL_LAYOUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pgvigil/clock.h"
#include "pgvigil/wal.h"

#define LAYOUT_NAME_SIZE 160
#define LAYOUT_IDENTITY "pgvigil.json" /* at the repository's root */
#define LAYOUT_BACKUP_PREFIX "backup/"
#define LAYOUT_PACK_PREFIX "pack/"
#define LAYOUT_RUN_PREFIX "run/"
#define LAYOUT_WAL_PREFIX "wal/"
#define LAYOUT_ENCRYPTED ".cms" /* appended to a name under which an encrypted object is stored */

/* A run is known by its UTC start in whole seconds since 1970; its text is "20261120T020000Z". */
struct layout_pack {
    int64_t run;     /* seconds since 1970 */
    uint32_t number; /* from 1; 0 means no pack at all (a run of zero blocks) */
};

char *layout_run_text(int64_t run, char text[CLOCK_COMPACT_SIZE]);
bool layout_parse_run(const char *text, int64_t *run);

char *layout_pack(const struct layout_pack *pack, char name[LAYOUT_NAME_SIZE]);
char *layout_pack_prefix(int64_t run, char name[LAYOUT_NAME_SIZE]); /* "pack/<run>/" */
bool layout_parse_pack(const char *name, struct layout_pack *pack);
int layout_compare_packs(const struct layout_pack *a, const struct layout_pack *b);

char *layout_begin(int64_t run, char name[LAYOUT_NAME_SIZE]);
char *layout_lease(int64_t run, unsigned number, char name[LAYOUT_NAME_SIZE]);
char *layout_claim(int64_t run, int64_t claimed, char name[LAYOUT_NAME_SIZE]);
char *layout_end(int64_t run, char name[LAYOUT_NAME_SIZE]);

/* Any of these four: what lies under run/. */
enum layout_note_kind { LAYOUT_BEGIN, LAYOUT_LEASE, LAYOUT_CLAIM, LAYOUT_END };

struct layout_note {
    enum layout_note_kind kind;
    int64_t run;
    int64_t claimed; /* of a claim */
    uint32_t number; /* of a lease */
};

bool layout_parse_note(const char *name, struct layout_note *note);
char *layout_manifest(int64_t run, char name[LAYOUT_NAME_SIZE]);
char *layout_refs(int64_t run, char name[LAYOUT_NAME_SIZE]);
char *layout_backup(int64_t run, char name[LAYOUT_NAME_SIZE]); /* backup/<run>/backup.json */
bool layout_parse_backup(const char *name, int64_t *run);
/* Any of these three: what lies under backup/. */
bool layout_parse_backup_part(const char *name, int64_t *run);

/* "keep/<run>/<number>" and "expire/<run>/<number>": notes that concern a run, see marks.h. */
enum layout_mark_kind { LAYOUT_KEEP, LAYOUT_EXPIRE };

struct layout_mark {
    enum layout_mark_kind kind;
    int64_t run;
    uint32_t number; /* from 1 */
};

char *layout_mark(const struct layout_mark *mark, char name[LAYOUT_NAME_SIZE]);
char *layout_mark_prefix(enum layout_mark_kind kind, char name[LAYOUT_NAME_SIZE]); /* "keep/" */
bool layout_parse_mark(const char *name, struct layout_mark *mark);

/* "wal/<TLI>/" and "wal/<TLI>/<first 16 digits>/<segment>.zst" and so on. For a partial segment
 * the digest of its raw bytes is part of the name (8 bytes of it, as 16 hexadecimal digits). */
char *layout_wal_timeline(uint32_t timeline, char name[LAYOUT_NAME_SIZE]);
char *layout_wal_segment(const char *segment, char name[LAYOUT_NAME_SIZE]);
char *layout_wal_partial(const char *segment, const unsigned char *raw_sha256,
                         char name[LAYOUT_NAME_SIZE]);
char *layout_wal_backup_history(const char *file, char name[LAYOUT_NAME_SIZE]);
char *layout_wal_history(uint32_t timeline, char name[LAYOUT_NAME_SIZE]);

/* Any of these four, for a file whose name was parsed; raw_sha256 counts for a partial segment. */
char *layout_wal_file(const struct wal_name *parsed, const char *file,
                      const unsigned char *raw_sha256, char name[LAYOUT_NAME_SIZE]);

/* What WAL file an object under wal/ holds; false if the name is none of the above. `file` gets the
 * PostgreSQL name, without ".zst" (of a partial: "<segment>.partial"). */
bool layout_parse_wal(const char *name, char file[WAL_NAME_SIZE], struct wal_name *parsed);

/* Is this the name of what an encrypted repository encrypts: packs, manifests and WAL, but for timeline
 * history files? All others are what listing, copying and expiring need, which no key is asked for. */
bool layout_is_secret(const char *name);

#endif
