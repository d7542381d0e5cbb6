/* known_damage.c - what this host's last verify found damaged or missing */
#include "pgvigil/known_damage.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "job/verify_walk.h"
#include "pgvigil/files.h"
#include "pgvigil/json_out.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"

#define FORMAT 1
#define FILE_MAXIMUM ((size_t)1 << 30)

static char *directory_of(const struct repository *repository)
{
    return files_join(repository->all->state_dir, "damage");
}

static char *path_of(const struct repository *repository)
{
    char *directory = directory_of(repository);
    char *path =
        mem_printf("%s/%s-%" PRIu64, directory, repository->id, repository->system_identifier);

    free(directory);
    return path;
}

static bool take_backups(const json_t *runs, struct verify_finding *finding)
{
    const json_t *run;
    size_t i;

    json_array_foreach(runs, i, run)
    {
        if (!json_is_integer(run))
            return false;
        verify_walk_cost(finding, json_integer_value(run));
    }
    return true;
}

static bool take_finding(json_t *row, struct known_damage *damage)
{
    struct verify_finding *finding = &damage->findings[damage->count++];
    const char *object;
    json_int_t count;
    json_t *runs;
    int missing;

    *finding = (struct verify_finding){.count = 0};
    if (json_unpack(row, "{s:s, s:b, s:I, s:o}", "object", &object, "missing", &missing, "count",
                    &count, "backups", &runs) != 0 ||
        count < 1 || !json_is_array(runs))
        return false;
    finding->object = mem_strdup(object);
    finding->fault = missing ? VERIFY_MISSING : VERIFY_DAMAGED;
    finding->count = (uint64_t)count;
    return take_backups(runs, finding);
}

static bool take_all(json_t *root, struct known_damage *damage)
{
    json_t *rows, *row;
    json_int_t looked;
    int format;
    size_t i;

    if (json_unpack(root, "{s:i, s:I, s:o}", "format", &format, "looked", &looked, "objects",
                    &rows) != 0 ||
        format != FORMAT || looked <= 0 || !json_is_array(rows))
        return false;
    damage->looked = looked;
    damage->findings = mem_calloc(json_array_size(rows), sizeof(*damage->findings));
    json_array_foreach(rows, i, row) if (!take_finding(row, damage)) return false;
    return true;
}

static bool read_file(const struct repository *repository, struct known_damage *damage,
                      struct error *err)
{
    char *path = path_of(repository);
    struct buffer text = BUFFER_INIT;
    bool ok = files_read(path, FILE_MAXIMUM, &text, err);

    if (ok) {
        json_t *root = json_loadb(buffer_text(&text), text.length, JSON_REJECT_DUPLICATES, NULL);

        ok = (root != NULL && take_all(root, damage)) ||
             error_set(err, ERROR_INTEGRITY, "\"%s\" is damaged", path);
        json_decref(root);
    } else {
        /* what is closed to who only reads is as good as none */
        ok = err->code == ERROR_NOT_FOUND || repository->all->stateless;
    }
    buffer_free(&text);
    free(path);
    return ok;
}

void known_damage_read(const struct repository *repository, struct known_damage *damage)
{
    struct error err = ERROR_INIT;

    *damage = (struct known_damage)KNOWN_DAMAGE_INIT;
    if (read_file(repository, damage, &err))
        return;
    known_damage_free(damage);
    log_error(LOG_WARNING, &err);
}

void known_damage_free(struct known_damage *damage)
{
    for (size_t i = 0; i < damage->count; i++)
        verify_walk_free_finding(&damage->findings[i]);
    free(damage->findings);
    *damage = (struct known_damage)KNOWN_DAMAGE_INIT;
}

static json_t *make_row(const struct verify_finding *finding)
{
    json_t *row = json_out_object(), *runs = json_out_array();

    for (size_t i = 0; i < finding->backup_count; i++)
        json_out_add(runs, json_integer(finding->backups[i]));
    json_out_put(row, "object", json_out_text(finding->object));
    json_out_put(row, "missing", json_boolean(finding->fault == VERIFY_MISSING));
    json_out_put(row, "count", json_integer((json_int_t)(finding->count - finding->repaired)));
    json_out_put(row, "backups", runs);
    return row;
}

bool known_damage_write(const struct repository *repository, int64_t looked,
                        const struct verify_cluster *found, struct error *err)
{
    json_t *root = json_out_object(), *rows = json_out_array();
    char *directory = directory_of(repository), *path = path_of(repository);
    struct buffer text = BUFFER_INIT;
    bool ok;

    for (size_t i = 0; i < found->finding_count; i++)
        if (verify_is_wrong(&found->findings[i]))
            json_out_add(rows, make_row(&found->findings[i]));
    json_out_put(root, "format", json_integer(FORMAT));
    json_out_put(root, "looked", json_integer(looked));
    json_out_put(root, "objects", rows);
    json_out_write(root, &text);
    json_decref(root);
    ok = files_make_directories(directory, err) &&
         files_write(path, text.data, text.length, 0600, err);
    buffer_free(&text);
    free(directory);
    free(path);
    return ok;
}

uint64_t known_damage_of(const struct known_damage *damage, int64_t run)
{
    uint64_t count = 0;

    for (size_t i = 0; i < damage->count; i++)
        for (size_t j = 0; j < damage->findings[i].backup_count; j++)
            if (damage->findings[i].backups[j] == run)
                count += damage->findings[i].count;
    return count;
}
