/* fuzz_backup_info.c - a backup.json of any content is read or refused; what is read can be written
 * and read again, and is the same then */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/backup_info.h"
#include "pgvigil/wal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct backup_info *info)
{
    if (!wal_segment_size_valid(info->wal_segment_size) || info->timeline == 0 ||
        info->start_lsn > info->stop_lsn || info->system_identifier == 0 ||
        info->page_error_list_count > info->page_errors)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = ERROR_INIT;
    struct buffer first = BUFFER_INIT, second = BUFFER_INIT;
    struct backup_info *info = NULL, *again = NULL;

    if (!backup_info_parse((const char *)data, size, &info, &err)) {
        if (info || err.code != ERROR_INTEGRITY || err.message[0] == '\0')
            abort();
        return 0;
    }
    check(info);
    backup_info_encode(info, &first);
    if (!backup_info_parse(buffer_text(&first), first.length, &again, &err))
        abort();
    backup_info_encode(again, &second);
    if (first.length != second.length || memcmp(first.data, second.data, first.length) != 0)
        abort();
    backup_info_free(info);
    backup_info_free(again);
    buffer_free(&first);
    buffer_free(&second);
    return 0;
}
