/* backup_info.c - backup.json: what everybody may know of a backup */
#include "pgvigil/backup_info.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/clock.h"
#include "pgvigil/json_out.h"
#include "pgvigil/layout.h"
#include "pgvigil/mem.h"
#include "pgvigil/object.h"
#include "pgvigil/wal.h"

#define FORMAT 1
#define JSON_MAXIMUM ((size_t)16 * 1024 * 1024)
#define EXACT_MAXIMUM (INT64_C(1) << 53) /* what every reader of JSON can count exactly */
#define TABLESPACES_MAXIMUM 10000
#define PAGE_ERRORS_MAXIMUM 100

static json_t *encode_tablespaces(const struct backup_info *info)
{
    json_t *list = json_out_array();

    for (size_t i = 0; i < info->tablespace_count; i++) {
        json_t *tablespace = json_out_object();

        json_out_put(tablespace, "oid", json_integer(info->tablespaces[i].oid));
        json_out_put(tablespace, "location", json_out_text(info->tablespaces[i].location));
        json_out_add(list, tablespace);
    }
    return list;
}

static json_t *encode_page_errors(const struct backup_info *info)
{
    json_t *list = json_out_array();

    for (size_t i = 0; i < info->page_error_list_count; i++)
        json_out_add(list, json_out_text(info->page_error_list[i]));
    return list;
}

static void encode_server(const struct backup_info *info, json_t *object)
{
    char number[24];

    snprintf(number, sizeof(number), "%" PRIu64, info->system_identifier);
    json_out_put(object, "system_identifier", json_out_text(number));
    json_out_put(object, "version_num", json_integer(info->version_num));
    json_out_put(object, "wal_segment_size", json_integer(info->wal_segment_size));
    json_out_put(object, "data_checksums", json_boolean(info->data_checksums));
    json_out_put(object, "host", json_out_text(info->host));
    json_out_put(object, "data_directory", json_out_text(info->data_directory));
    json_out_put(object, "tablespaces", encode_tablespaces(info));
}

static void encode_range(const struct backup_info *info, json_t *object)
{
    char lsn[WAL_LSN_TEXT_SIZE], moment[CLOCK_TEXT_SIZE];

    json_out_put(object, "timeline", json_integer(info->timeline));
    json_out_put(object, "start_lsn", json_out_text(wal_format_lsn(info->start_lsn, lsn)));
    json_out_put(object, "stop_lsn", json_out_text(wal_format_lsn(info->stop_lsn, lsn)));
    json_out_put(object, "start_time", json_out_text(clock_format(info->start_time, moment)));
    json_out_put(object, "stop_time", json_out_text(clock_format(info->stop_time, moment)));
}

static void encode_contents(const struct backup_info *info, json_t *object)
{
    char hex[DIGEST_SHA256_HEX_SIZE];

    json_out_put(object, "file_count", json_integer((json_int_t)info->file_count));
    json_out_put(object, "database_bytes", json_integer((json_int_t)info->database_bytes));
    json_out_put(object, "stored_bytes", json_integer((json_int_t)info->stored_bytes));
    json_out_put(object, "pack_bytes", json_integer((json_int_t)info->pack_bytes));
    json_out_put(object, "page_errors", json_integer((json_int_t)info->page_errors));
    json_out_put(object, "page_error_list", encode_page_errors(info));
    digest_to_hex(info->manifest_sha256, DIGEST_SHA256_SIZE, hex);
    json_out_put(object, "manifest_sha256", json_out_text(hex));
    digest_to_hex(info->refs_sha256, DIGEST_SHA256_SIZE, hex);
    json_out_put(object, "refs_sha256", json_out_text(hex));
}

void backup_info_encode(const struct backup_info *info, struct buffer *json)
{
    json_t *object = json_out_object();
    char run[CLOCK_COMPACT_SIZE];

    json_out_put(object, "format", json_integer(FORMAT));
    json_out_put(object, "run", json_out_text(layout_run_text(info->run, run)));
    encode_server(info, object);
    encode_range(info, object);
    encode_contents(info, object);
    json_out_write(object, json);
    json_decref(object);
}

/* What is being parsed. The first fault is kept; what comes after it does not matter. */
struct parser {
    const json_t *object;
    struct error *err;
    bool failed;
};

static void fault(struct parser *parser, const char *key, const char *expected)
{
    if (!parser->failed)
        error_set(parser->err, ERROR_INTEGRITY, "\"%s\" is not %s", key, expected);
    parser->failed = true;
}

static int64_t take_integer(struct parser *parser, const char *key, int64_t minimum,
                            int64_t maximum)
{
    const json_t *value = json_object_get(parser->object, key);
    json_int_t number = json_integer_value(value);

    if (!json_is_integer(value) || number < minimum || number > maximum) {
        fault(parser, key, "a number that it can be");
        return minimum;
    }
    return number;
}

static uint64_t take_count(struct parser *parser, const char *key)
{
    return (uint64_t)take_integer(parser, key, 0, EXACT_MAXIMUM);
}

/* Borrowed; "" when it is missing. json_load* take no strings with NUL bytes in them. */
static const char *take_string(struct parser *parser, const char *key)
{
    const char *text = json_string_value(json_object_get(parser->object, key));

    if (!text)
        fault(parser, key, "a text");
    return text ? text : "";
}

static uint64_t take_lsn(struct parser *parser, const char *key)
{
    const char *text = take_string(parser, key);
    char again[WAL_LSN_TEXT_SIZE];
    uint64_t lsn = 0;

    if (!wal_parse_lsn(text, &lsn) || lsn == 0 || strcmp(wal_format_lsn(lsn, again), text) != 0)
        fault(parser, key, "a position in WAL");
    return lsn;
}

/* Only as clock_format writes it: no other zones, no local times. */
static int64_t take_time(struct parser *parser, const char *key)
{
    const char *text = take_string(parser, key);
    char again[CLOCK_TEXT_SIZE];
    int64_t moment = 0;
    struct error ignored = ERROR_INIT;

    if (!clock_parse(text, &moment, &ignored) || strcmp(clock_format(moment, again), text) != 0)
        fault(parser, key, "a time in UTC");
    return moment;
}

static void take_digest(struct parser *parser, const char *key,
                        unsigned char digest[DIGEST_SHA256_SIZE])
{
    const char *text = take_string(parser, key);

    if (strlen(text) != DIGEST_SHA256_HEX_SIZE - 1 ||
        !digest_from_hex(text, digest, DIGEST_SHA256_SIZE))
        fault(parser, key, "a SHA-256");
}

static uint64_t take_identifier(struct parser *parser, const char *key)
{
    const char *text = take_string(parser, key);
    char again[24];
    uint64_t number = strtoull(text, NULL, 10);

    snprintf(again, sizeof(again), "%" PRIu64, number);
    if (number == 0 || strcmp(text, again) != 0)
        fault(parser, key, "a system identifier");
    return number;
}

/* An array of at most `maximum` elements, or NULL. */
static const json_t *take_list(struct parser *parser, const char *key, size_t maximum)
{
    const json_t *list = json_object_get(parser->object, key);

    if (json_is_array(list) && json_array_size(list) <= maximum)
        return list;
    fault(parser, key, "a list that it can be");
    return NULL;
}

static void take_tablespaces(struct parser *parser, struct backup_info *info)
{
    const json_t *list = take_list(parser, "tablespaces", TABLESPACES_MAXIMUM);
    size_t count = json_array_size(list);

    info->tablespaces = mem_calloc(count, sizeof(*info->tablespaces));
    for (size_t i = 0; i < count; i++) {
        struct parser element = {.object = json_array_get(list, i), .err = parser->err};
        struct backup_tablespace *tablespace = &info->tablespaces[info->tablespace_count++];

        tablespace->oid = (uint32_t)take_integer(&element, "oid", 1, UINT32_MAX);
        tablespace->location = mem_strdup(take_string(&element, "location"));
        if (tablespace->location[0] != '/')
            fault(&element, "location", "an absolute path");
        parser->failed = parser->failed || element.failed;
    }
}

static void take_page_errors(struct parser *parser, struct backup_info *info)
{
    const json_t *list = take_list(parser, "page_error_list", PAGE_ERRORS_MAXIMUM);
    size_t count = json_array_size(list);

    info->page_errors = take_count(parser, "page_errors");
    info->page_error_list = mem_calloc(count, sizeof(*info->page_error_list));
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(list, i));

        if (!text)
            fault(parser, "page_error_list", "a list of texts");
        info->page_error_list[info->page_error_list_count++] = mem_strdup(text ? text : "");
    }
    if (count > info->page_errors)
        fault(parser, "page_errors", "a number that it can be");
}

static void take_server(struct parser *parser, struct backup_info *info)
{
    info->system_identifier = take_identifier(parser, "system_identifier");
    info->version_num = (int)take_integer(parser, "version_num", 90000, 9999999);
    info->wal_segment_size =
        (uint32_t)take_integer(parser, "wal_segment_size", 0, WAL_SEGMENT_SIZE_MAXIMUM);
    if (!wal_segment_size_valid(info->wal_segment_size))
        fault(parser, "wal_segment_size", "a size that WAL segments can have");
    const json_t *checksums = json_object_get(parser->object, "data_checksums");
    info->data_checksums = json_is_true(checksums);
    if (!json_is_boolean(checksums))
        fault(parser, "data_checksums", "true or false");
    info->host = mem_strdup(take_string(parser, "host"));
    info->data_directory = mem_strdup(take_string(parser, "data_directory"));
    take_tablespaces(parser, info);
}

static void take_range(struct parser *parser, struct backup_info *info)
{
    info->timeline = (uint32_t)take_integer(parser, "timeline", 1, UINT32_MAX);
    info->start_lsn = take_lsn(parser, "start_lsn");
    info->stop_lsn = take_lsn(parser, "stop_lsn");
    if (info->stop_lsn < info->start_lsn)
        fault(parser, "stop_lsn", "behind \"start_lsn\"");
    info->start_time = take_time(parser, "start_time");
    info->stop_time = take_time(parser, "stop_time");
}

static bool take_info(struct parser *parser, struct backup_info *info)
{
    const json_t *format = json_object_get(parser->object, "format");

    if (json_is_integer(format) && json_integer_value(format) > FORMAT) {
        error_set(parser->err, ERROR_INTEGRITY, "format %" JSON_INTEGER_FORMAT " instead of %d",
                  json_integer_value(format), FORMAT);
        return error_hint(parser->err,
                          "a newer pgvigil may have written this backup: upgrade this one");
    }
    take_integer(parser, "format", FORMAT, FORMAT);
    if (!layout_parse_run(take_string(parser, "run"), &info->run))
        fault(parser, "run", "the ID of a run");
    take_server(parser, info);
    take_range(parser, info);
    info->file_count = take_count(parser, "file_count");
    info->database_bytes = take_count(parser, "database_bytes");
    info->stored_bytes = take_count(parser, "stored_bytes");
    info->pack_bytes = take_count(parser, "pack_bytes");
    take_page_errors(parser, info);
    take_digest(parser, "manifest_sha256", info->manifest_sha256);
    take_digest(parser, "refs_sha256", info->refs_sha256);
    return !parser->failed;
}

bool backup_info_parse(const char *json, size_t length, struct backup_info **info,
                       struct error *err)
{
    json_error_t reason;
    json_t *object = json_loadb(json, length, JSON_REJECT_DUPLICATES, &reason);
    struct parser parser = {.object = object, .err = err};

    if (!object)
        return error_set(err, ERROR_INTEGRITY, "line %d: %s", reason.line, reason.text);
    struct backup_info *parsed = mem_calloc(1, sizeof(*parsed));
    bool ok = json_is_object(object) ? take_info(&parser, parsed)
                                     : error_set(err, ERROR_INTEGRITY, "it is no JSON object");
    json_decref(object);
    if (!ok) {
        backup_info_free(parsed);
        return false;
    }
    *info = parsed;
    return true;
}

void backup_info_free(struct backup_info *info)
{
    if (!info)
        return;
    for (size_t i = 0; i < info->tablespace_count; i++)
        free(info->tablespaces[i].location);
    for (size_t i = 0; i < info->page_error_list_count; i++)
        free(info->page_error_list[i]);
    free(info->tablespaces);
    free(info->page_error_list);
    free(info->host);
    free(info->data_directory);
    free(info);
}

bool backup_info_store(struct repository *repository, const struct backup_info *info,
                       struct error *err)
{
    struct buffer json = BUFFER_INIT;
    char name[LAYOUT_NAME_SIZE];
    enum store_outcome outcome;

    layout_backup(info->run, name);
    backup_info_encode(info, &json);
    bool ok = object_put(repository, name, TRAILER_BACKUP, OBJECT_PLAIN, 0, json.data, json.length,
                         &outcome, NULL, err);
    buffer_free(&json);
    if (ok && outcome == STORE_TAKEN)
        return object_refuse_taken(repository, name, err);
    return ok;
}

bool backup_info_fetch(struct repository *repository, int64_t run, struct backup_info **info,
                       struct error *err)
{
    struct buffer json = BUFFER_INIT;
    char name[LAYOUT_NAME_SIZE];

    layout_backup(run, name);
    if (!object_get_buffer(repository, name, TRAILER_BACKUP, OBJECT_PLAIN, JSON_MAXIMUM, &json,
                           NULL, err)) {
        buffer_free(&json);
        return false;
    }
    bool ok = backup_info_parse(buffer_text(&json), json.length, info, err);
    buffer_free(&json);
    if (ok &&
        ((*info)->run != run || (*info)->system_identifier != repository->system_identifier)) {
        backup_info_free(*info);
        *info = NULL;
        ok = error_set(err, ERROR_INTEGRITY, "it is that of another backup");
    }
    return ok ||
           error_context(err, "could not read \"%s\" in repository \"%s\"", name, repository->name);
}
