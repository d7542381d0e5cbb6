/* expire_json.c - what expire does, for programs; the form is described in docs/FORMAT.md */
#include <inttypes.h>
#include <stdio.h>

#include "cmd/expire.h"
#include "pgvigil/clock.h"
#include "pgvigil/json_out.h"
#include "pgvigil/layout.h"

static json_t *make_run(int64_t run)
{
    char text[CLOCK_COMPACT_SIZE];

    return run > 0 ? json_out_text(layout_run_text(run, text)) : json_null();
}

static json_t *make_moment(int64_t moment)
{
    char text[CLOCK_TEXT_SIZE];

    return moment > 0 ? json_out_text(clock_format(moment, text)) : json_null();
}

static json_t *make_reasons(unsigned reasons)
{
    static const struct {
        enum retention_reason reason;
        const char *name;
    } names[] = {
        {RETENTION_BASE, "base"},     {RETENTION_WINDOW, "window"}, {RETENTION_MINIMUM, "minimum"},
        {RETENTION_DAILY, "daily"},   {RETENTION_WEEKLY, "weekly"}, {RETENTION_MONTHLY, "monthly"},
        {RETENTION_YEARLY, "yearly"}, {RETENTION_KEPT, "kept"},     {RETENTION_HELD, "held"}};
    json_t *array = json_out_array();

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (reasons & names[i].reason)
            json_out_add(array, json_out_text(names[i].name));
    return array;
}

static json_t *make_backup(const struct expire_backup *backup)
{
    static const char *const fates[] = {[EXPIRE_STAYS] = "stays",
                                        [EXPIRE_MARKED] = "marked",
                                        [EXPIRE_WAITS] = "waits",
                                        [EXPIRE_LOCKED] = "locked",
                                        [EXPIRE_GOES] = "removed"};
    json_t *object = json_out_object();

    json_out_put(object, "id", make_run(backup->run));
    json_out_put(object, "timeline", json_integer(backup->timeline));
    json_out_put(object, "stop_time", make_moment(backup->stop_time));
    json_out_put(object, "stored_bytes", json_integer((json_int_t)backup->stored_bytes));
    json_out_put(object, "fate", json_out_text(fates[backup->fate]));
    json_out_put(object, "until", make_moment(backup->moment));
    json_out_put(object, "reasons", make_reasons(backup->reasons));
    json_out_put(object, "held_by", make_run(backup->holder));
    json_out_put(object, "held_until", make_moment(backup->held_until));
    return object;
}

static json_t *make_count(const struct expire_count *count)
{
    json_t *object = json_out_object();

    json_out_put(object, "objects", json_integer((json_int_t)count->objects));
    json_out_put(object, "bytes", json_integer((json_int_t)count->bytes));
    return object;
}

static json_t *make_sort(const struct expire_sort *sort)
{
    json_t *object = json_out_object();

    json_out_put(object, "removed", make_count(&sort->removed));
    json_out_put(object, "needed", make_count(&sort->needed));
    json_out_put(object, "young", make_count(&sort->young));
    json_out_put(object, "underway", make_count(&sort->underway));
    json_out_put(object, "left", make_count(&sort->left));
    json_out_put(object, "locked", make_count(&sort->locked));
    return object;
}

static json_t *make_cluster(const struct expire_cluster *cluster)
{
    json_t *object = json_out_object(), *backups = json_out_array();
    char identifier[24];

    snprintf(identifier, sizeof(identifier), "%" PRIu64, cluster->system_identifier);
    for (size_t i = 0; i < cluster->count; i++)
        json_out_add(backups, make_backup(&cluster->backups[i]));
    json_out_put(object, "system_identifier", json_out_text(identifier));
    json_out_put(object, "backups", backups);
    json_out_put(object, "packs", make_sort(&cluster->packs));
    json_out_put(object, "wal", make_sort(&cluster->wal));
    json_out_put(object, "others", make_sort(&cluster->notes));
    json_out_put(object, "postponed",
                 cluster->postponed ? json_out_text(cluster->postponed) : json_null());
    return object;
}

json_t *cmd_expire_json(const struct expire_result *result)
{
    json_t *object = json_out_object(), *clusters = json_out_array();
    bool failed = result->error.code != ERROR_NONE;

    for (size_t i = 0; i < result->count; i++)
        json_out_add(clusters, make_cluster(&result->clusters[i]));
    json_out_put(object, "name", json_out_text(result->repository->name));
    json_out_put(object, "retention", json_boolean(result->repository->retention.window != 0));
    json_out_put(object, "error", failed ? json_out_text(result->error.message) : json_null());
    json_out_put(object, "versioned", json_boolean(result->versioned));
    json_out_put(object, "clusters", clusters);
    return object;
}
