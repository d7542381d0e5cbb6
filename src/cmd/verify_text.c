/* verify_text.c - verify for people */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cmd/columns.h"
#include "cmd/verify.h"
#include "pgvigil/layout.h"
#include "pgvigil/units.h"

#define BACKUPS_NAMED 8 /* of those that one finding costs */

/* What is being printed. */
struct place {
    const struct config *config;
    const struct verify_result *result;
    const struct config_repository *repository;
    uint64_t system_identifier;
};

/* Names of segments in a row ascend. */
static const char *last_object(const struct verify_finding *finding)
{
    return finding->last != NULL ? finding->last : finding->object;
}

typedef bool (*relation_fn)(const struct verify_finding *one, const struct verify_finding *other);

/* Is anything wrong with what a finding elsewhere is about? */
static bool is_of_the_same(const struct verify_finding *one, const struct verify_finding *other)
{
    return one->kind == other->kind && verify_is_open(other) &&
           strcmp(one->object, last_object(other)) <= 0 &&
           strcmp(other->object, last_object(one)) <= 0;
}

/* Is it all of what is wrong elsewhere, too? */
static bool is_within(const struct verify_finding *one, const struct verify_finding *other)
{
    return one->kind == other->kind && verify_is_open(other) &&
           strcmp(other->object, one->object) <= 0 &&
           strcmp(last_object(one), last_object(other)) <= 0;
}

static bool is_lost_in(const struct verify_repository *repository, uint64_t system_identifier,
                       const struct verify_finding *finding, relation_fn relation)
{
    for (size_t i = 0; i < repository->cluster_count; i++)
        for (size_t j = 0; repository->clusters[i].system_identifier == system_identifier &&
                           j < repository->clusters[i].finding_count;
             j++)
            if (relation(finding, &repository->clusters[i].findings[j]))
                return true;
    return false;
}

/* Whatever was not looked at, or not to its end, may have it. */
static bool is_lost_everywhere(const struct place *place, const struct verify_finding *finding,
                               relation_fn relation)
{
    size_t lost = 1; /* here */

    for (size_t i = 0; i < place->result->repository_count; i++)
        lost += place->result->repositories[i].config != place->repository &&
                is_lost_in(&place->result->repositories[i], place->system_identifier, finding,
                           relation);
    return lost == place->config->repository_count;
}

bool cmd_verify_may_have(const struct config *config, const struct verify_result *result,
                         const struct verify_repository *repository, uint64_t system_identifier,
                         const struct verify_finding *finding)
{
    const struct place place = {.config = config,
                                .result = result,
                                .repository = repository->config,
                                .system_identifier = system_identifier};

    return !finding->inherent && !is_lost_everywhere(&place, finding, is_within);
}

static void append_backups(const struct verify_finding *finding, struct buffer *out)
{
    char run[CLOCK_COMPACT_SIZE];

    buffer_append_format(out, "backup%s ", finding->backup_count > 1 ? "s" : "");
    for (size_t i = 0; i < finding->backup_count && i < BACKUPS_NAMED; i++)
        buffer_append_format(out, "%s%s", i > 0 ? ", " : "",
                             layout_run_text(finding->backups[i], run));
    if (finding->backup_count > BACKUPS_NAMED)
        buffer_append_format(out, " and %zu more", finding->backup_count - BACKUPS_NAMED);
    buffer_append_string(out, " cannot be restored");
}

/* Where neither a backup nor a moment is lost by it. */
static const char *no_cost(const struct verify_finding *finding)
{
    if (finding->kind != TRAILER_WAL)
        return "nothing that could be restored";
    return finding->harmless
               ? "nothing that could be restored: no backup that is to stay leads there"
               : "nothing by itself: recovery along the newest timeline does not come here";
}

static void append_cost(const struct place *place, const struct verify_finding *finding,
                        struct buffer *out)
{
    char from[CLOCK_TEXT_SIZE], to[CLOCK_TEXT_SIZE];

    if (finding->backup_count == 0 && finding->lost_count == 0)
        buffer_append_string(out, no_cost(finding));
    else if (!is_lost_everywhere(place, finding, is_of_the_same))
        buffer_append_string(out, "from this repository alone, ");
    if (finding->backup_count > 0)
        append_backups(finding, out);
    for (size_t i = 0; i < finding->lost_count; i++) {
        const struct verify_lost_time *lost = &finding->lost[i];

        buffer_append_string(out, i > 0 || finding->backup_count > 0 ? "; " : "");
        if (lost->to == INT64_MAX)
            buffer_append_format(out, "no moment after %s can be restored",
                                 clock_format_local(lost->from, from));
        else
            buffer_append_format(out, "no moment between %s and %s can be restored",
                                 clock_format_local(lost->from, from),
                                 clock_format_local(lost->to, to));
    }
    if (finding->harmless && finding->lost_count > 0)
        buffer_append_string(out, ", which only backups lead to that are about to expire");
}

static void print_finding(const struct place *place, const struct verify_finding *finding,
                          struct buffer *out)
{
    struct buffer cost = BUFFER_INIT;

    buffer_append_format(out, "    %s: %s", verify_fault_name(finding->fault), finding->object);
    if (finding->last != NULL)
        buffer_append_format(out, " to %s (%" PRIu64 " segments)", strrchr(finding->last, '/') + 1,
                             finding->count);
    buffer_append_string(out, "\n");
    if (finding->fault == VERIFY_STRAY) {
        buffer_append_string(out, "        nothing of pgvigil's; left alone\n");
        return;
    }
    buffer_append_format(out, "        %s\n", finding->why);
    if (finding->source != NULL)
        buffer_append_format(out, "        repaired: its copy came from repository %s\n",
                             finding->source);
    if (!verify_is_open(finding))
        return;
    if (finding->repair_failure != NULL && !finding->harmless)
        buffer_append_format(out, "        not repaired: %s\n", finding->repair_failure);
    append_cost(place, finding, &cost);
    buffer_append_format(out, "        cost: %s\n", buffer_text(&cost));
    buffer_free(&cost);
}

static void add_row(struct cmd_columns *table, const char *what, uint64_t objects,
                    const char *bytes, const char *remark)
{
    cmd_columns_add(table, "%s", what);
    cmd_columns_add(table, "%" PRIu64, objects);
    cmd_columns_add(table, "%s", bytes);
    cmd_columns_add(table, "%s", remark);
}

static void print_figures(const struct verify_cluster *cluster, struct buffer *out)
{
    struct cmd_columns table = {.columns = 4, .right = "lrrl"};
    char bytes[UNITS_TEXT_SIZE], text[CLOCK_TEXT_SIZE];

    cmd_columns_add(&table, "%s", "");
    cmd_columns_add(&table, "OBJECTS");
    cmd_columns_add(&table, "SIZE");
    cmd_columns_add(&table, "%s", "");
    add_row(&table, "there", cluster->objects, units_format_size(cluster->bytes, bytes), "");
    add_row(&table, "read", cluster->read_objects, units_format_size(cluster->read_bytes, bytes),
            "");
    if (cluster->unread_objects > 0)
        add_row(&table, "never read", cluster->unread_objects, "", "by this host");
    if (cluster->sealed_objects > 0)
        add_row(&table, "encrypted", cluster->sealed_objects, "",
                "checked as stored, but not what they hold: that takes a private key");
    cmd_columns_print(&table, out);
    buffer_append_format(
        out, "    backups: %" PRIu64 ", of which %" PRIu64 " %s checked file by file this time\n",
        cluster->backups, cluster->backups_mapped, cluster->backups_mapped == 1 ? "was" : "were");
    if (cluster->oldest != 0)
        buffer_append_format(
            out, "    everything that was ever read was sound on or after %s\n",
            clock_format_local(cluster->oldest / CLOCK_SECOND * CLOCK_SECOND, text));
}

static void print_cluster(const struct place *place, const struct verify_cluster *cluster,
                          struct buffer *out)
{
    buffer_append_format(out, "\nCluster %" PRIu64 "\n", cluster->system_identifier);
    print_figures(cluster, out);
    buffer_append_string(out, "  Found\n");
    for (size_t i = 0; i < cluster->finding_count; i++)
        print_finding(place, &cluster->findings[i], out);
    if (cluster->finding_count == 0)
        buffer_append_string(out, "    nothing wrong\n");
}

void cmd_verify_text(const struct config *config, const struct verify_result *result,
                     struct buffer *out)
{
    struct place place = {.config = config, .result = result};

    for (size_t i = 0; i < result->repository_count; i++) {
        const struct verify_repository *repository = &result->repositories[i];

        place.repository = repository->config;

        buffer_append_format(out, "%sRepository %s (%s)\n", i > 0 ? "\n" : "",
                             repository->config->name, repository->config->url);
        for (size_t j = 0; j < repository->cluster_count; j++) {
            place.system_identifier = repository->clusters[j].system_identifier;
            print_cluster(&place, &repository->clusters[j], out);
        }
        if (repository->error.code != ERROR_NONE)
            buffer_append_string(out, "\ncould not be read to the end: see the messages\n");
        else if (repository->cluster_count == 0)
            buffer_append_format(out, "\nnothing of cluster \"%s\" in it yet\n",
                                 config->cluster_name);
    }
}
