/* verify_json.c - verify for programs; the form is described in docs/FORMAT.md */
#include <inttypes.h>
#include <stdio.h>

#include "cmd/verify.h"
#include "pgvigil/json_out.h"
#include "pgvigil/layout.h"

#define FORMAT 1

static json_t *count(uint64_t number)
{
    return json_integer((json_int_t)number);
}

static json_t *text_or_null(const char *text)
{
    return text != NULL ? json_out_text(text) : json_null();
}

static json_t *moment_of(int64_t moment)
{
    char text[CLOCK_TEXT_SIZE];

    return json_out_text(clock_format(moment, text));
}

static json_t *make_lost(const struct verify_lost_time *lost)
{
    json_t *object = json_out_object();

    json_out_put(object, "from", moment_of(lost->from));
    json_out_put(object, "to", lost->to == INT64_MAX ? json_null() : moment_of(lost->to));
    return object;
}

static json_t *make_finding(const struct verify_finding *finding)
{
    json_t *object = json_out_object(), *backups = json_out_array(), *lost = json_out_array();
    char run[CLOCK_COMPACT_SIZE];

    for (size_t i = 0; i < finding->backup_count; i++)
        json_out_add(backups, json_out_text(layout_run_text(finding->backups[i], run)));
    for (size_t i = 0; i < finding->lost_count; i++)
        json_out_add(lost, make_lost(&finding->lost[i]));
    json_out_put(object, "fault", json_out_text(verify_fault_name(finding->fault)));
    json_out_put(object, "kind",
                 text_or_null(finding->kind ? trailer_kind_name(finding->kind) : NULL));
    json_out_put(object, "object", json_out_text(finding->object));
    json_out_put(object, "last_object", text_or_null(finding->last));
    json_out_put(object, "count", count(finding->count));
    json_out_put(object, "harmless", json_boolean(finding->harmless));
    json_out_put(object, "why", json_out_text(finding->why));
    json_out_put(object, "repaired", count(finding->repaired));
    json_out_put(object, "repaired_from", text_or_null(finding->source));
    json_out_put(object, "repair_error", text_or_null(finding->repair_failure));
    json_out_put(object, "lost_backups", backups);
    json_out_put(object, "lost_moments", lost);
    return object;
}

static json_t *make_cluster(const struct verify_cluster *cluster)
{
    json_t *object = json_out_object(), *findings = json_out_array();
    char identifier[24];

    snprintf(identifier, sizeof(identifier), "%" PRIu64, cluster->system_identifier);
    for (size_t i = 0; i < cluster->finding_count; i++)
        json_out_add(findings, make_finding(&cluster->findings[i]));
    json_out_put(object, "system_identifier", json_out_text(identifier));
    json_out_put(object, "objects", count(cluster->objects));
    json_out_put(object, "bytes", count(cluster->bytes));
    json_out_put(object, "read_objects", count(cluster->read_objects));
    json_out_put(object, "read_bytes", count(cluster->read_bytes));
    json_out_put(object, "unread_objects", count(cluster->unread_objects));
    json_out_put(object, "sealed_objects", count(cluster->sealed_objects));
    json_out_put(object, "oldest_check",
                 cluster->oldest != 0 ? moment_of(cluster->oldest) : json_null());
    json_out_put(object, "backups", count(cluster->backups));
    json_out_put(object, "backups_mapped", count(cluster->backups_mapped));
    json_out_put(object, "findings", findings);
    return object;
}

static json_t *make_repository(const struct verify_repository *repository)
{
    json_t *object = json_out_object(), *clusters = json_out_array();
    const bool failed = repository->error.code != ERROR_NONE;

    for (size_t i = 0; i < repository->cluster_count; i++)
        json_out_add(clusters, make_cluster(&repository->clusters[i]));
    json_out_put(object, "name", json_out_text(repository->config->name));
    json_out_put(object, "url", json_out_text(repository->config->url));
    json_out_put(object, "id", text_or_null(repository->id[0] ? repository->id : NULL));
    json_out_put(object, "error", text_or_null(failed ? repository->error.message : NULL));
    json_out_put(object, "clusters", clusters);
    return object;
}

void cmd_verify_json(const struct config *config, const struct verify_request *request,
                     const struct verify_result *result, struct buffer *out)
{
    static const char *const extents[] = {
        [VERIFY_DUE] = "due", [VERIFY_ALL] = "all", [VERIFY_SAMPLE] = "sample"};
    json_t *object = json_out_object(), *repositories = json_out_array();
    char seed[24];

    snprintf(seed, sizeof(seed), "%" PRIu64, request->seed);
    for (size_t i = 0; i < result->repository_count; i++)
        json_out_add(repositories, make_repository(&result->repositories[i]));
    json_out_put(object, "format", json_integer(FORMAT));
    json_out_put(object, "cluster", json_out_text(config->cluster_name));
    json_out_put(object, "extent", json_out_text(extents[request->extent]));
    json_out_put(object, "seed", text_or_null(request->extent == VERIFY_SAMPLE ? seed : NULL));
    json_out_put(object, "repositories", repositories);
    json_out_write(object, out);
    json_decref(object);
}
