/* wal_agreement.c - is what lies in several places the WAL of one history? */
#include "pgvigil/wal_agreement.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgvigil/layout.h"
#include "pgvigil/log.h"
#include "pgvigil/object.h"
#include "repo/wal_source.h"

#define COMPARED_MAXIMUM                                                                           \
    4 /* segments of two repositories and a timeline, while trailers are damaged */

/* Two members, and the segments [from, before) of a timeline. */
struct pair {
    const struct wal_union_member *one, *other;
    uint32_t timeline;
    uint32_t segment_size;
    uint64_t from, before;
};

static bool refuse(const struct pair *pair, const char *file, struct error *err)
{
    const char *one = pair->one->repository->name, *other = pair->other->repository->name;

    error_set(err, ERROR_INTEGRITY,
              "repositories \"%s\" and \"%s\" have different files of the name \"%s\"", one, other,
              file);
    error_detail(err,
                 "two servers have archived under the same names: recovery would go on from the "
                 "WAL of one to that of the other");
    return error_hint(err,
                      "--without %s restores from what was archived into \"%s\", --without %s from "
                      "what was archived into \"%s\"",
                      other, one, one, other);
}

/* The newest segment that both have; false if there is none. */
static bool newest_shared(const struct pair *pair, uint64_t *newest)
{
    const struct wal_ranges *ours = &pair->one->ranges, *theirs = &pair->other->ranges;
    bool found = false;

    for (size_t i = 0; i < ours->count; i++)
        for (size_t j = 0; j < theirs->count; j++) {
            const struct wal_range *one = &ours->ranges[i], *other = &theirs->ranges[j];
            uint64_t first = one->first > other->first ? one->first : other->first;
            uint64_t last = one->last < other->last ? one->last : other->last;

            if (one->timeline != pair->timeline || other->timeline != pair->timeline)
                continue;
            first = first > pair->from ? first : pair->from;
            last = last < pair->before ? last : pair->before - 1;
            if (first > last || (found && last <= *newest))
                continue;
            *newest = last;
            found = true;
        }
    return found;
}

/* What cannot be read proves nothing: only being told to stop is a failure. */
static bool pass_over(struct error *err)
{
    if (err->code == ERROR_CANCELLED)
        return false;
    log_debug("%s", err->message);
    error_clear(err);
    return true;
}

/* *known is false where it cannot be told. */
static bool read_trailer(struct repository *repository, const char *file, struct trailer *trailer,
                         bool *known, struct error *err)
{
    char object[LAYOUT_NAME_SIZE];
    struct wal_name name;

    wal_parse_name(file, &name);
    layout_wal_file(&name, file, NULL, object);
    *known = !atomic_load(&repository->was_silent) &&
             object_trailer(repository, object, wal_source_kind(name.kind), trailer, err);
    return *known || err->code == ERROR_NONE || pass_over(err);
}

/* *known is false where one of them cannot tell. */
static bool compare(const struct pair *pair, const char *file, bool *known, struct error *err)
{
    struct trailer ours, theirs;

    if (!read_trailer(pair->one->repository, file, &ours, known, err))
        return false;
    if (!*known)
        return true;
    if (!read_trailer(pair->other->repository, file, &theirs, known, err))
        return false;
    return !*known ||
           (ours.raw_length == theirs.raw_length &&
            memcmp(ours.raw_sha256, theirs.raw_sha256, DIGEST_SHA256_SIZE) == 0) ||
           refuse(pair, file, err);
}

static bool compare_timeline(struct pair *pair, struct error *err)
{
    char file[WAL_NAME_SIZE];
    uint64_t segment = 0;
    bool known = false;

    for (int tries = 0; tries < COMPARED_MAXIMUM && !known && pair->from < pair->before &&
                        newest_shared(pair, &segment);
         tries++) {
        wal_segment_name(pair->timeline, segment, pair->segment_size, file);
        if (!compare(pair, file, &known, err))
            return false;
        pair->before = segment;
    }
    return true;
}

static bool is_same_history(const struct history *one, const struct history *other)
{
    bool same = one->count == other->count;

    for (size_t i = 0; same && i < one->count; i++)
        same = one->entries[i].timeline == other->entries[i].timeline &&
               one->entries[i].switch_lsn == other->entries[i].switch_lsn;
    return same;
}

/* *known is false where there is none or it cannot be read. False only for ERROR_CANCELLED. */
static bool read_history(struct repository *repository, uint32_t timeline, struct history *history,
                         bool *known, struct error *err)
{
    *known = false;
    if (atomic_load(&repository->was_silent))
        return true;
    if (!wal_archive_history(repository, timeline, history, known, err)) {
        *known = false;
        return pass_over(err);
    }
    if (!*known)
        history_free(history);
    return true;
}

static bool compare_histories(const struct wal_union *all, uint32_t timeline, struct error *err)
{
    struct history first = {.entries = NULL}, next;
    struct pair pair = {.one = NULL};
    char file[WAL_NAME_SIZE];
    bool ok = true, known;

    for (size_t i = 0; ok && i < all->count; i++) {
        pair.other = &all->members[i];
        ok = read_history(pair.other->repository, timeline, &next, &known, err);
        if (!ok || !known)
            continue;
        if (pair.one == NULL) {
            pair.one = pair.other;
            first = next;
            continue;
        }
        ok = is_same_history(&first, &next) || refuse(&pair, wal_history_name(timeline, file), err);
        history_free(&next);
    }
    history_free(&first);
    return ok;
}

/* Of each timeline that recovery goes through between the LSNs: its own history file is all that tells
 * where only one of two servers, both of which took it up, went on to the next. */
static bool compare_path(const struct wal_union *all, const struct history *history,
                         uint64_t from_lsn, uint64_t to_lsn, struct error *err)
{
    for (size_t i = 1; all->count > 1 && i < history->count; i++)
        if (history->entries[i - 1].switch_lsn <= to_lsn &&
            history->entries[i].switch_lsn > from_lsn &&
            !compare_histories(all, history->entries[i].timeline, err))
            return false;
    return true;
}

static bool compare_two(struct pair *pair, const struct history *history, uint64_t from_lsn,
                        uint64_t to_lsn, struct error *err)
{
    const uint64_t from = from_lsn / pair->segment_size, to = to_lsn / pair->segment_size;
    uint64_t begin = 0;

    for (size_t i = 0; i < history->count; i++) {
        const uint64_t end = history->entries[i].switch_lsn / pair->segment_size;

        pair->timeline = history->entries[i].timeline;
        pair->from = from > begin ? from : begin;
        pair->before = end <= to ? end : to + 1;
        if (!compare_timeline(pair, err))
            return false;
        begin = end;
    }
    return true;
}

bool wal_agreement_check(const struct wal_union *all, const struct history *history,
                         uint64_t from_lsn, uint64_t to_lsn, struct error *err)
{
    struct pair pair = {.segment_size = all->ranges.segment_size};

    if (!compare_path(all, history, from_lsn, to_lsn, err))
        return false;
    for (size_t i = 1; pair.segment_size != 0 && i < all->count; i++)
        for (size_t j = 0; j < i; j++) {
            pair.one = &all->members[j];
            pair.other = &all->members[i];
            if (!compare_two(&pair, history, from_lsn, to_lsn, err))
                return false;
        }
    return true;
}

bool wal_agreement_check_file(struct repository *one, struct repository *other, const char *file,
                              struct error *err)
{
    const struct wal_union_member members[] = {{.repository = one}, {.repository = other}};
    const struct pair pair = {.one = &members[0], .other = &members[1]};
    bool known;

    return compare(&pair, file, &known, err);
}

bool wal_agreement_check_seam(struct repository *one, struct repository *other,
                              const struct wal_name *segment, uint32_t segment_size,
                              struct error *err)
{
    char before[WAL_NAME_SIZE];
    uint64_t number;

    if (segment->kind != WAL_SEGMENT || (number = wal_segment_number(segment, segment_size)) == 0)
        return true;
    wal_segment_name(segment->timeline, number - 1, segment_size, before);
    return wal_agreement_check_file(one, other, before, err);
}

/* It may have been recycled while it was read: then it is another file by now. */
static bool is_still(int fd, const char *path)
{
    struct stat here, there;

    return fstat(fd, &here) == 0 && stat(path, &there) == 0 && here.st_ino == there.st_ino &&
           here.st_dev == there.st_dev;
}

static bool digest_file(const char *segment, const char *path,
                        unsigned char sha256[DIGEST_SHA256_SIZE], struct error *err)
{
    struct wal_source source = {.file = segment, .path = path};
    struct stat info;
    bool ok;

    source.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (source.fd < 0)
        return error_set_errno(err, "could not open file \"%s\"", path);
    ok = fstat(source.fd, &info) == 0 || error_set_errno(err, "could not stat file \"%s\"", path);
    source.length = (uint64_t)info.st_size;
    ok = ok && wal_source_digest(&source, sha256, err) &&
         (is_still(source.fd, path) ||
          error_set(err, ERROR_SYSTEM, "file \"%s\" changed while it was read", path));
    close(source.fd);
    return ok;
}

bool wal_agreement_is_other(struct repository *repository, const char *segment, const char *path,
                            bool *other, struct error *err)
{
    unsigned char sha256[DIGEST_SHA256_SIZE];
    struct trailer trailer;
    bool known;

    *other = false;
    if (!read_trailer(repository, segment, &trailer, &known, err))
        return false;
    if (!known)
        return true;
    if (!digest_file(segment, path, sha256, err))
        return pass_over(err);
    *other = memcmp(trailer.raw_sha256, sha256, sizeof(sha256)) != 0;
    return true;
}
