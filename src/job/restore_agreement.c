/* restore_agreement.c - is what recovery will read the WAL of one server? */
#include "job/restore_agreement.h"

#include "job/restore_target.h"

/* The repositories agree up to the end of the segment that holds *agreed, the end of the backup at first;
 * brings it to the last segment of which that is so. */
static bool find_parting(struct wal_scan *scan, uint64_t from_lsn, uint64_t *agreed,
                         struct error *err)
{
    const uint64_t segment_size = wal_scan_segment_size(scan);
    struct wal_scan_reach reach;
    uint64_t parted;

    wal_scan_reach(scan, *agreed, &reach);
    parted = reach.missing * segment_size;
    while (parted > *agreed && parted - *agreed > segment_size) {
        const uint64_t middle = *agreed + (parted - *agreed) / 2;

        if (wal_scan_check_agreement(scan, from_lsn, middle, err)) {
            *agreed = middle;
            continue;
        }
        if (err->code != ERROR_INTEGRITY)
            return false;
        error_clear(err);
        parted = middle;
    }
    return true;
}

/* Recovery stops at the first transaction that ended later: not behind any that did. */
static bool stops_before_parting(struct wal_scan *scan, const struct backup_info *backup,
                                 uint64_t from_lsn, const struct restore_request *request,
                                 struct error *err)
{
    const uint64_t segment_size = wal_scan_segment_size(scan);
    struct wal_scan_query query = {
        .kind = WAL_SCAN_TIME, .time = restore_target_beyond(request), .from = backup->stop_lsn};
    struct wal_scan_result last;
    uint64_t agreed = backup->stop_lsn;

    if (!wal_scan_check_agreement(scan, from_lsn, agreed, err) ||
        !find_parting(scan, from_lsn, &agreed, err))
        return false;
    query.before = (agreed / segment_size + 1) * segment_size;
    return wal_scan_last(scan, &query, &last, err) && last.found &&
           last.record.end_lsn <= query.before;
}

bool restore_agreement_check(struct wal_scan *scan, const struct backup_info *backup,
                             uint64_t from_lsn, const struct restore_request *request,
                             const struct wal_record *stop, struct error *err)
{
    struct error why = ERROR_INIT;
    uint64_t to = UINT64_MAX;

    switch (request->target) {
    case RESTORE_LSN:
        to = request->lsn;
        break;
    case RESTORE_XID:
    case RESTORE_NAME:
        to = stop->lsn;
        break;
    case RESTORE_IMMEDIATE:
        to = backup->stop_lsn;
        break;
    case RESTORE_TIME:
    case RESTORE_LATEST:
        break;
    }
    if (wal_scan_check_agreement(scan, from_lsn, to, err))
        return true;
    if (request->target != RESTORE_TIME || err->code != ERROR_INTEGRITY ||
        !stops_before_parting(scan, backup, from_lsn, request, &why)) {
        if (why.code == ERROR_CANCELLED)
            *err = why;
        return false;
    }
    error_clear(err);
    return true;
}
