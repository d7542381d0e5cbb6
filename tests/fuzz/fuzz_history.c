/* fuzz_history.c - a timeline history of any content is read or refused, and is in order if read */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "pgvigil/history.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct history *history)
{
    uint64_t begin = 0;

    for (size_t i = 0; i < history->count; i++) {
        const struct history_entry *entry = &history->entries[i];
        if (entry->timeline > history->timeline || entry->switch_lsn < begin ||
            history_switch_lsn(history, entry->timeline) != entry->switch_lsn)
            abort();
        if (entry->switch_lsn > begin && history_timeline_at(history, begin) != entry->timeline)
            abort();
        begin = entry->switch_lsn;
    }
    if (begin != UINT64_MAX)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = ERROR_INIT;
    struct history history;

    if (!history_parse(UINT32_MAX, (const char *)data, size, &history, &err)) {
        if (err.code != ERROR_INTEGRITY || history.entries)
            abort();
        return 0;
    }
    check(&history);
    history_free(&history);
    return 0;
}
