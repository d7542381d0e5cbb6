/*
 * restore_begin.c - is the archived WAL that of the backup's own server?
 */
#include "job/restore_begin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/layout.h"
#include "pgvigil/log.h"
#include "pgvigil/process.h"
#include "pgvigil/repository_ask.h"
#include "pgvigil/wal_archive.h"
#include "pgvigil/wal_reader.h"

/* More than the record of a checkpoint and the header of a page that may interrupt it. */
#define CHECKPOINT_SIZE 256

/* One segment is searched. */
struct search {
    uint64_t checkpoint, redo;
    uint64_t begin; /* of the segment */
    uint64_t at;    /* LSN of the next byte */
    struct wal_reader *reader;
    bool found;
    bool ended;
    bool falls_short; /* ended before the checkpoint's place */
};

static bool see(const struct wal_record *record, void *context, struct error *err)
{
    struct search *search = context;

    (void)err;
    search->found =
        search->found || (record->lsn == search->checkpoint &&
                          record->kind == WAL_RECORD_CHECKPOINT && record->redo == search->redo);
    return true;
}

static bool feed(const void *data, size_t length, void *context, struct error *err)
{
    struct search *search = context;

    if (!search->ended &&
        !wal_reader_feed(search->reader, search->at, data, length, &search->ended, err))
        return false;
    search->at += length;
    return true;
}

static bool read_checkpoint(const char *label, uint64_t *lsn)
{
    char text[WAL_LSN_TEXT_SIZE];
    const char *line = strstr(label, "\nCHECKPOINT LOCATION: ");

    return line != NULL && sscanf(line, "\nCHECKPOINT LOCATION: %17[0-9A-F/]", text) == 1 &&
           wal_parse_lsn(text, lsn);
}

static bool search_in(struct repository *repository, const char *file, struct search *search,
                      struct error *err)
{
    struct wal_name name;
    bool read;

    wal_parse_name(file, &name);
    search->at = search->begin;
    search->found = search->ended = false;
    search->reader = wal_reader_new(see, search);
    read = wal_archive_fetch(repository, &name, file, feed, search, NULL, err);
    search->falls_short = search->ended && wal_reader_end(search->reader) <= search->checkpoint;
    wal_reader_free(search->reader);
    return read;
}

/* In the first repository that can give the segment; where others differ, see wal_agreement.h. One that is damaged
 * everywhere can still be pushed anew before recovery asks for it. */
static bool search_segment(struct repository *repository, const char *file, struct search *search,
                           bool *read, struct error *err)
{
    struct error first = ERROR_INIT;

    for (*read = false; repository != NULL && !*read;
         repository = repository_ask_next(repository)) {
        *read = search_in(repository, file, search, err);
        if (!*read && err->code == ERROR_CANCELLED)
            return false;
        if (!*read && first.code == ERROR_NONE)
            first = *err;
    }
    error_clear(err);
    if (*read)
        return true;
    if (first.code == ERROR_INTEGRITY || first.code == ERROR_NOT_FOUND) {
        error_hint(&first, "recovery begins in this segment, and cannot without it");
        log_error(LOG_WARNING, &first);
        return true;
    }
    *err = first;
    return false;
}

static bool refuse(const struct repository *repository, const struct backup_info *backup,
                   const char *file, uint64_t checkpoint, struct error *err)
{
    char *where = repository_ask_names(repository);
    char run[CLOCK_COMPACT_SIZE], lsn[WAL_LSN_TEXT_SIZE];

    layout_run_text(backup->run, run);
    error_set(err, ERROR_INTEGRITY,
              "WAL segment %s in %s is not that of backup %s: the checkpoint at LSN %s, with which"
              " its recovery begins, is not in it",
              file, where, run, wal_format_lsn(checkpoint, lsn));
    free(where);
    error_detail(err, "another server with the same system identifier archived under that name: a"
                      " clone, or this one after it was set back to an earlier state");
    return error_hint(err,
                      "--backup chooses another one, of the server whose WAL is there (`%s list`"
                      " shows them); if this one's own WAL is given up, move backup/%s away, too",
                      process_command(), run);
}

bool restore_begin_check(struct repository *repository, const struct backup_info *backup,
                         const struct manifest_meta *meta, struct error *err)
{
    const uint32_t size = backup->wal_segment_size;
    struct search search = {.redo = backup->start_lsn};
    char file[WAL_NAME_SIZE];
    bool read;

    if (!read_checkpoint(meta->backup_label, &search.checkpoint) ||
        search.checkpoint % size + CHECKPOINT_SIZE > size)
        return true;
    wal_segment_name(backup->timeline, search.checkpoint / size, size, file);
    search.begin = search.checkpoint / size * size;
    if (!search_segment(repository, file, &search, &read, err))
        return false;
    return !read || search.found || search.falls_short ||
           refuse(repository, backup, file, search.checkpoint, err);
}
