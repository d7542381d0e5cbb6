/*
 * layout.c - the names of all objects in a repository
 *
 * Every name is parsed by taking it apart leniently, building the name of what was found, and
 * comparing: so a name that this file would not build is never taken for one of ours.
 */
#include "pgvigil/layout.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/digest.h"

#define CLAIM "claim-"
#define LEASE "lease-"
#define SUFFIX ".zst"
#define MANIFEST "manifest.sqlite" SUFFIX
#define RUN_TEXT_LENGTH (CLOCK_COMPACT_SIZE - 1)
#define PARTIAL_DIGEST_SIZE 8 /* bytes of the digest in a partial segment's name */
#define PARTIAL_SUFFIX ".partial"
#define TIMELINE_LENGTH 8 /* hexadecimal digits in front of every WAL file's name */
#define FOLDER_LENGTH 16  /* of those of a segment's name, the name of its folder */
#define SEGMENT_LENGTH 24

char *layout_run_text(int64_t run, char text[CLOCK_COMPACT_SIZE])
{
    return clock_format_compact(run * CLOCK_SECOND, text);
}

bool layout_parse_run(const char *text, int64_t *run)
{
    int64_t moment;

    if (!clock_parse_compact(text, &moment))
        return false;
    *run = moment / CLOCK_SECOND;
    return true;
}

/* The run text at `name`, which must be followed by a '/'; *rest is what comes behind that. */
static bool layout_take_run(const char *name, int64_t *run, const char **rest)
{
    char text[CLOCK_COMPACT_SIZE];

    if (strnlen(name, RUN_TEXT_LENGTH + 1) <= RUN_TEXT_LENGTH || name[RUN_TEXT_LENGTH] != '/')
        return false;
    memcpy(text, name, RUN_TEXT_LENGTH);
    text[RUN_TEXT_LENGTH] = '\0';
    *rest = name + RUN_TEXT_LENGTH + 1;
    return layout_parse_run(text, run);
}

char *layout_pack_prefix(int64_t run, char name[LAYOUT_NAME_SIZE])
{
    char text[CLOCK_COMPACT_SIZE];

    snprintf(name, LAYOUT_NAME_SIZE, LAYOUT_PACK_PREFIX "%s/", layout_run_text(run, text));
    return name;
}

char *layout_pack(const struct layout_pack *pack, char name[LAYOUT_NAME_SIZE])
{
    char run[CLOCK_COMPACT_SIZE];

    snprintf(name, LAYOUT_NAME_SIZE, LAYOUT_PACK_PREFIX "%s/%08" PRIu32 SUFFIX,
             layout_run_text(pack->run, run), pack->number);
    return name;
}

/* The number that begins at `text`, from 1; whatever follows it is not looked at. */
static bool layout_take_number(const char *text, uint32_t *number)
{
    uint64_t found = 0;

    for (; *text >= '0' && *text <= '9' && found <= UINT32_MAX; text++)
        found = found * 10 + (uint64_t)(*text - '0');
    if (found == 0 || found > UINT32_MAX)
        return false;
    *number = (uint32_t)found;
    return true;
}

bool layout_parse_pack(const char *name, struct layout_pack *pack)
{
    char again[LAYOUT_NAME_SIZE];
    struct layout_pack found;
    const char *rest;

    if (strncmp(name, LAYOUT_PACK_PREFIX, strlen(LAYOUT_PACK_PREFIX)) != 0 ||
        !layout_take_run(name + strlen(LAYOUT_PACK_PREFIX), &found.run, &rest) ||
        !layout_take_number(rest, &found.number) || strcmp(layout_pack(&found, again), name) != 0)
        return false;
    *pack = found;
    return true;
}

int layout_compare_packs(const struct layout_pack *a, const struct layout_pack *b)
{
    if (a->run != b->run)
        return a->run < b->run ? -1 : 1;
    if (a->number != b->number)
        return a->number < b->number ? -1 : 1;
    return 0;
}

static char *layout_of_run(const char *prefix, int64_t run, const char *file,
                           char name[LAYOUT_NAME_SIZE])
{
    char text[CLOCK_COMPACT_SIZE];

    snprintf(name, LAYOUT_NAME_SIZE, "%s%s/%s", prefix, layout_run_text(run, text), file);
    return name;
}

char *layout_begin(int64_t run, char name[LAYOUT_NAME_SIZE])
{
    return layout_of_run(LAYOUT_RUN_PREFIX, run, "begin.json", name);
}

char *layout_lease(int64_t run, unsigned number, char name[LAYOUT_NAME_SIZE])
{
    char file[32];

    snprintf(file, sizeof(file), LEASE "%u", number);
    return layout_of_run(LAYOUT_RUN_PREFIX, run, file, name);
}

char *layout_claim(int64_t run, int64_t claimed, char name[LAYOUT_NAME_SIZE])
{
    char file[sizeof(CLAIM) + CLOCK_COMPACT_SIZE], text[CLOCK_COMPACT_SIZE];

    snprintf(file, sizeof(file), CLAIM "%s", layout_run_text(claimed, text));
    return layout_of_run(LAYOUT_RUN_PREFIX, run, file, name);
}

char *layout_end(int64_t run, char name[LAYOUT_NAME_SIZE])
{
    return layout_of_run(LAYOUT_RUN_PREFIX, run, "end.json", name);
}

bool layout_parse_note(const char *name, struct layout_note *note)
{
    struct layout_note found = {.kind = LAYOUT_BEGIN};
    char again[LAYOUT_NAME_SIZE];
    const char *rest;

    if (strncmp(name, LAYOUT_RUN_PREFIX, strlen(LAYOUT_RUN_PREFIX)) != 0 ||
        !layout_take_run(name + strlen(LAYOUT_RUN_PREFIX), &found.run, &rest))
        return false;
    if (strncmp(rest, LEASE, strlen(LEASE)) == 0 &&
        layout_take_number(rest + strlen(LEASE), &found.number)) {
        found.kind = LAYOUT_LEASE;
        layout_lease(found.run, found.number, again);
    } else if (strncmp(rest, CLAIM, strlen(CLAIM)) == 0 &&
               layout_parse_run(rest + strlen(CLAIM), &found.claimed)) {
        found.kind = LAYOUT_CLAIM;
        layout_claim(found.run, found.claimed, again);
    } else if (strcmp(layout_end(found.run, again), name) == 0) {
        found.kind = LAYOUT_END;
    } else {
        layout_begin(found.run, again);
    }
    if (strcmp(again, name) != 0)
        return false;
    *note = found;
    return true;
}

char *layout_manifest(int64_t run, char name[LAYOUT_NAME_SIZE])
{
    return layout_of_run(LAYOUT_BACKUP_PREFIX, run, MANIFEST, name);
}

char *layout_refs(int64_t run, char name[LAYOUT_NAME_SIZE])
{
    return layout_of_run(LAYOUT_BACKUP_PREFIX, run, "refs" SUFFIX, name);
}

char *layout_backup(int64_t run, char name[LAYOUT_NAME_SIZE])
{
    return layout_of_run(LAYOUT_BACKUP_PREFIX, run, "backup.json", name);
}

bool layout_parse_backup(const char *name, int64_t *run)
{
    char again[LAYOUT_NAME_SIZE];
    const char *rest;
    int64_t found;

    if (strncmp(name, LAYOUT_BACKUP_PREFIX, strlen(LAYOUT_BACKUP_PREFIX)) != 0 ||
        !layout_take_run(name + strlen(LAYOUT_BACKUP_PREFIX), &found, &rest) ||
        strcmp(layout_backup(found, again), name) != 0)
        return false;
    *run = found;
    return true;
}

bool layout_parse_backup_part(const char *name, int64_t *run)
{
    char again[LAYOUT_NAME_SIZE];
    const char *rest;
    int64_t found;

    if (strncmp(name, LAYOUT_BACKUP_PREFIX, strlen(LAYOUT_BACKUP_PREFIX)) != 0 ||
        !layout_take_run(name + strlen(LAYOUT_BACKUP_PREFIX), &found, &rest) ||
        (strcmp(layout_backup(found, again), name) != 0 &&
         strcmp(layout_manifest(found, again), name) != 0 &&
         strcmp(layout_refs(found, again), name) != 0))
        return false;
    *run = found;
    return true;
}

static const char *const mark_prefixes[] = {[LAYOUT_KEEP] = "keep/", [LAYOUT_EXPIRE] = "expire/"};

char *layout_mark_prefix(enum layout_mark_kind kind, char name[LAYOUT_NAME_SIZE])
{
    snprintf(name, LAYOUT_NAME_SIZE, "%s", mark_prefixes[kind]);
    return name;
}

char *layout_mark(const struct layout_mark *mark, char name[LAYOUT_NAME_SIZE])
{
    char number[16];

    snprintf(number, sizeof(number), "%" PRIu32, mark->number);
    return layout_of_run(mark_prefixes[mark->kind], mark->run, number, name);
}

bool layout_parse_mark(const char *name, struct layout_mark *mark)
{
    struct layout_mark found = {.kind = name[0] == 'k' ? LAYOUT_KEEP : LAYOUT_EXPIRE};
    const char *prefix = mark_prefixes[found.kind], *rest;
    char again[LAYOUT_NAME_SIZE];

    if (strncmp(name, prefix, strlen(prefix)) != 0 ||
        !layout_take_run(name + strlen(prefix), &found.run, &rest) ||
        !layout_take_number(rest, &found.number) || strcmp(layout_mark(&found, again), name) != 0)
        return false;
    *mark = found;
    return true;
}

char *layout_wal_timeline(uint32_t timeline, char name[LAYOUT_NAME_SIZE])
{
    snprintf(name, LAYOUT_NAME_SIZE, LAYOUT_WAL_PREFIX "%08" PRIX32 "/", timeline);
    return name;
}

/* Of a file whose name begins with a segment's. */
static char *layout_in_folder(const char *file, const char *more, char name[LAYOUT_NAME_SIZE])
{
    snprintf(name, LAYOUT_NAME_SIZE, LAYOUT_WAL_PREFIX "%.*s/%.*s/%s%s" SUFFIX, TIMELINE_LENGTH,
             file, FOLDER_LENGTH, file, file, more);
    return name;
}

char *layout_wal_segment(const char *segment, char name[LAYOUT_NAME_SIZE])
{
    return layout_in_folder(segment, "", name);
}

char *layout_wal_partial(const char *segment, const unsigned char *raw_sha256,
                         char name[LAYOUT_NAME_SIZE])
{
    char more[sizeof(PARTIAL_SUFFIX) + 1 + 2 * PARTIAL_DIGEST_SIZE];
    char hex[2 * PARTIAL_DIGEST_SIZE + 1];

    snprintf(more, sizeof(more), PARTIAL_SUFFIX ".%s",
             digest_to_hex(raw_sha256, PARTIAL_DIGEST_SIZE, hex));
    return layout_in_folder(segment, more, name);
}

char *layout_wal_backup_history(const char *file, char name[LAYOUT_NAME_SIZE])
{
    return layout_in_folder(file, "", name);
}

char *layout_wal_history(uint32_t timeline, char name[LAYOUT_NAME_SIZE])
{
    char file[WAL_NAME_SIZE];

    snprintf(name, LAYOUT_NAME_SIZE, LAYOUT_WAL_PREFIX "%08" PRIX32 "/%s" SUFFIX, timeline,
             wal_history_name(timeline, file));
    return name;
}

/* "<segment>.partial.<16 hex>" to "<segment>.partial" and the digest's beginning. */
static bool layout_split_partial(char file[WAL_NAME_SIZE], unsigned char *digest)
{
    const size_t stem = SEGMENT_LENGTH + strlen(PARTIAL_SUFFIX);

    if (strlen(file) != stem + 1 + (size_t)2 * PARTIAL_DIGEST_SIZE || file[stem] != '.' ||
        !digest_from_hex(file + stem + 1, digest, PARTIAL_DIGEST_SIZE))
        return false;
    file[stem] = '\0';
    return true;
}

char *layout_wal_file(const struct wal_name *parsed, const char *file,
                      const unsigned char *raw_sha256, char name[LAYOUT_NAME_SIZE])
{
    char segment[SEGMENT_LENGTH + 1];

    switch (parsed->kind) {
    case WAL_PARTIAL:
        snprintf(segment, sizeof(segment), "%.*s", SEGMENT_LENGTH, file);
        return layout_wal_partial(segment, raw_sha256, name);
    case WAL_BACKUP_HISTORY:
        return layout_wal_backup_history(file, name);
    case WAL_HISTORY:
        return layout_wal_history(parsed->timeline, name);
    case WAL_SEGMENT:
    case WAL_NOT_A_WAL_FILE:
        break;
    }
    return layout_wal_segment(file, name);
}

bool layout_parse_wal(const char *name, char file[WAL_NAME_SIZE], struct wal_name *parsed)
{
    unsigned char digest[PARTIAL_DIGEST_SIZE] = {0};
    char again[LAYOUT_NAME_SIZE];
    const char *last = strrchr(name, '/');
    size_t length;

    last = last ? last + 1 : name;
    length = strlen(last);
    if (length <= strlen(SUFFIX) || length - strlen(SUFFIX) >= WAL_NAME_SIZE ||
        strcmp(last + length - strlen(SUFFIX), SUFFIX) != 0)
        return false;
    memcpy(file, last, length - strlen(SUFFIX));
    file[length - strlen(SUFFIX)] = '\0';

    /* With the digest still in its name a partial segment is no WAL file; without one it is none
     * of ours. */
    bool partial = layout_split_partial(file, digest);

    wal_parse_name(file, parsed);
    return parsed->kind != WAL_NOT_A_WAL_FILE && (parsed->kind == WAL_PARTIAL) == partial &&
           strcmp(layout_wal_file(parsed, file, digest, again), name) == 0;
}

bool layout_is_secret(const char *name)
{
    char file[WAL_NAME_SIZE];
    struct layout_pack pack;
    struct wal_name wal;
    const char *rest;
    int64_t run;

    if (layout_parse_wal(name, file, &wal))
        return wal.kind != WAL_HISTORY;
    return layout_parse_pack(name, &pack) ||
           (strncmp(name, LAYOUT_BACKUP_PREFIX, strlen(LAYOUT_BACKUP_PREFIX)) == 0 &&
            layout_take_run(name + strlen(LAYOUT_BACKUP_PREFIX), &run, &rest) &&
            strcmp(rest, MANIFEST) == 0);
}
