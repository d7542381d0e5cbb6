/*
 * history.c - timeline history files
 */
#include "pgvigil/history.h"

#include <stdlib.h>
#include <string.h>

#include "pgvigil/mem.h"
#include "pgvigil/wal.h"

#define MAXIMUM_LINES 10000

struct parser {
    const char *at;
    const char *end;
    size_t line;
    size_t capacity;
    struct history *history;
};

static bool malformed(const struct parser *parser, const char *why, struct error *err)
{
    return error_set(err, ERROR_INTEGRITY, "history of timeline %u is malformed in line %zu: %s",
                     parser->history->timeline, parser->line, why);
}

static void skip_blanks(const char **at, const char *end)
{
    while (*at < end && (**at == ' ' || **at == '\t' || **at == '\r')) {
        (*at)++;
    }
}

static bool take_number(const char **at, const char *end, uint32_t *number)
{
    uint64_t value = 0;
    const char *start = *at;

    for (; *at < end && **at >= '0' && **at <= '9'; (*at)++) {
        value = value * 10 + (uint64_t)(**at - '0');
        if (value > UINT32_MAX) {
            return false;
        }
    }
    *number = (uint32_t)value;
    return *at > start;
}

static bool take_lsn(const char **at, const char *end, uint64_t *lsn)
{
    char text[WAL_LSN_TEXT_SIZE];
    size_t length = 0;

    while (*at < end && strchr(" \t\r", **at) == NULL) {
        if (length + 1 >= sizeof text) {
            return false;
        }
        text[length++] = *(*at)++;
    }
    text[length] = '\0';
    return wal_parse_lsn(text, lsn);
}

/* Nothing behind where a descendant was left is on the way: see history.h. */
static void add_entry(struct parser *parser, uint32_t timeline, uint64_t switch_lsn)
{
    struct history *history = parser->history;

    for (size_t i = history->count; i > 0 && history->entries[i - 1].switch_lsn > switch_lsn; i--) {
        history->entries[i - 1].switch_lsn = switch_lsn;
    }
    history->entries =
        mem_grow(history->entries, history->count, &parser->capacity, sizeof history->entries[0]);
    history->entries[history->count++] =
        (struct history_entry){.timeline = timeline, .switch_lsn = switch_lsn};
}

static bool check_order(const struct parser *parser, uint32_t timeline, uint64_t switch_lsn,
                        struct error *err)
{
    const struct history *history = parser->history;
    const struct history_entry *before =
        history->count > 0 ? &history->entries[history->count - 1] : NULL;

    if (timeline == 0 || switch_lsn == 0) {
        return malformed(parser, "neither a timeline nor its end can be zero", err);
    }
    if (timeline >= history->timeline) {
        return malformed(parser, "an ancestor must have a smaller number", err);
    }
    if (before && timeline <= before->timeline) {
        return malformed(parser, "timelines must ascend", err);
    }
    return true;
}

static bool parse_line(struct parser *parser, const char *at, const char *end, struct error *err)
{
    uint32_t timeline;
    uint64_t switch_lsn;

    skip_blanks(&at, end);
    if (at == end || *at == '#') {
        return true;
    }
    if (!take_number(&at, end, &timeline)) {
        return malformed(parser, "a timeline number was expected", err);
    }
    skip_blanks(&at, end);
    if (!take_lsn(&at, end, &switch_lsn)) {
        return malformed(parser, "a WAL position was expected", err);
    }
    if (!check_order(parser, timeline, switch_lsn, err)) {
        return false;
    }
    add_entry(parser, timeline, switch_lsn);
    return true;
}

static bool parse_lines(struct parser *parser, struct error *err)
{
    while (parser->at < parser->end) {
        size_t left = (size_t)(parser->end - parser->at);
        const char *newline = memchr(parser->at, '\n', left);
        const char *line_end = newline ? newline : parser->end;

        if (++parser->line > MAXIMUM_LINES) {
            return malformed(parser, "it is too long", err);
        }
        if (!parse_line(parser, parser->at, line_end, err)) {
            return false;
        }
        parser->at = newline ? newline + 1 : parser->end;
    }
    return true;
}

bool history_parse(uint32_t timeline, const char *text, size_t length, struct history *history,
                   struct error *err)
{
    struct parser parser = {.at = text, .end = text, .history = history};

    *history = (struct history){.timeline = timeline};
    if (length > 0) {
        parser.end = text + length;
    }
    if (!parse_lines(&parser, err)) {
        history_free(history);
        return false;
    }
    add_entry(&parser, timeline, UINT64_MAX);
    return true;
}

void history_free(struct history *history)
{
    if (history) {
        free(history->entries);
        *history = (struct history){.entries = NULL};
    }
}

const struct history_entry *history_parent(const struct history *history)
{
    return history->count > 1 ? &history->entries[history->count - 2] : NULL;
}

uint64_t history_switch_lsn(const struct history *history, uint32_t timeline)
{
    for (size_t i = 0; i < history->count; i++) {
        if (history->entries[i].timeline == timeline) {
            return history->entries[i].switch_lsn;
        }
    }
    return 0;
}

uint32_t history_timeline_at(const struct history *history, uint64_t lsn)
{
    for (size_t i = 0; i < history->count; i++) {
        if (lsn < history->entries[i].switch_lsn) {
            return history->entries[i].timeline;
        }
    }
    return history->timeline;
}
