/*
 * restore_plan.c - from a manifest to directories and files
 */
#include "job/restore_plan.h"

#include <stdlib.h>
#include <string.h>

#include "pgvigil/control.h"
#include "pgvigil/mem.h"

#define MODE_PLAIN 0600
#define MODE_DIRECTORY 0700
#define MODE_KEPT 0777 /* no set-user-id and its like from foreign bytes */

/* What a restore writes anew, what belongs to a running server, and its own names. */
static bool is_ours(const char *path)
{
    static const char *const ours[] = {
        "backup_label",       "tablespace_map",     "backup_manifest",
        "recovery.signal",    "standby.signal",     "postmaster.pid",
        "postmaster.opts",    RESTORE_PLACE_MARKER, RESTORE_PLACE_DELTA_MARKER,
        RESTORE_TREE_CONTROL,
    };

    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (strcmp(path, ours[i]) == 0)
            return true;
    return false;
}

/* What an earlier restore put aside gives way to what this one puts there. */
static bool is_put_aside(const char *path)
{
    const size_t length = strlen(RESTORE_PLAN_CONFIGURATION);

    return strncmp(path, RESTORE_PLAN_CONFIGURATION, length) == 0 &&
           (path[length] == '/' || path[length] == '\0');
}

static void add_directory(struct restore_plan *plan, const char *path, const char *link,
                          mode_t mode)
{
    plan->directories = mem_grow(plan->directories, plan->directory_count,
                                 &plan->directory_capacity, sizeof *plan->directories);
    plan->directories[plan->directory_count++] = (struct restore_plan_directory){
        .path = mem_strdup(path), .link = link ? mem_strdup(link) : NULL, .mode = mode & MODE_KEPT};
}

/* The directories above a file put aside; its root among them. */
static void add_parents(struct restore_plan *plan, const char *path)
{
    for (const char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        char *parent = mem_strndup(path, (size_t)(slash - path));

        add_directory(plan, parent, NULL, MODE_DIRECTORY);
        free(parent);
    }
}

/* pg_tblspc/<oid> that is no link. */
static bool is_in_place(const struct manifest_file *file)
{
    static const char prefix[] = "pg_tblspc/";
    const char *rest = file->path + strlen(prefix);

    return file->kind == MANIFEST_DIRECTORY && strncmp(file->path, prefix, strlen(prefix)) == 0 &&
           rest[strspn(rest, "0123456789")] == '\0';
}

static void add_file(struct restore_plan *plan, const struct manifest_file *file, char *path)
{
    plan->files =
        mem_grow(plan->files, plan->file_count, &plan->file_capacity, sizeof *plan->files);
    plan->files[plan->file_count++] =
        (struct restore_plan_file){.path = path,
                                   .size = file->size,
                                   .key = map_key(file->path, plan->secret),
                                   .modified = file->modified,
                                   .crc32c = file->crc32c,
                                   .mode = file->mode & MODE_KEPT,
                                   .map = file->map};
}

static void add_configuration(struct restore_plan *plan, const struct manifest_file *file)
{
    char *path = mem_printf(RESTORE_PLAN_CONFIGURATION "%s", file->path);

    plan->configuration = true;
    add_parents(plan, path);
    add_file(plan, file, path);
}

static int compare_to_directory(const void *path, const void *directory)
{
    return strcmp(path, ((const struct restore_plan_directory *)directory)->path);
}

/* Directories come before what is in them, in the order of their paths; those of configuration put
 * aside, which are not, before all others. */
static bool check_parent(const struct restore_plan *plan, const char *path, struct error *err)
{
    const char *slash = strrchr(path, '/');
    const struct restore_plan_directory *found;
    char *parent;

    if (slash == NULL)
        return true;
    parent = mem_strndup(path, (size_t)(slash - path));
    found = plan->directory_count > plan->aside_count
                ? bsearch(parent, plan->directories + plan->aside_count,
                          plan->directory_count - plan->aside_count, sizeof *plan->directories,
                          compare_to_directory)
                : NULL;
    free(parent);
    return found != NULL || error_set(err, ERROR_INTEGRITY,
                                      "\"%s\" lies in no directory of the backup's manifest", path);
}

static bool add_row(const struct manifest_file *file, void *context, struct error *err)
{
    struct restore_plan *plan = context;

    if (file->kind == MANIFEST_CONFIG) {
        add_configuration(plan, file);
        plan->aside_count = plan->directory_count;
        return true;
    }
    if (is_ours(file->path) || (plan->configuration && is_put_aside(file->path)))
        return true;
    if (!check_parent(plan, file->path, err))
        return false;
    if (file->kind == MANIFEST_FILE)
        add_file(
            plan, file,
            mem_strdup(strcmp(file->path, CONTROL_PATH) == 0 ? RESTORE_TREE_CONTROL : file->path));
    else
        add_directory(plan, file->path, file->link, file->mode);
    plan->in_place = plan->in_place || is_in_place(file);
    return true;
}

bool restore_plan_read(struct restore_plan *plan, struct manifest *manifest, struct error *err)
{
    plan->secret = manifest_meta(manifest)->secret;
    /* By path: parents before their children, and absolute paths before all others. */
    if (!manifest_each(manifest, MANIFEST_BY_PATH, add_row, plan, err))
        return false;
    if (restore_plan_find(plan, RESTORE_TREE_CONTROL) == NULL)
        return error_set(err, ERROR_INTEGRITY, "there is no \"%s\" in the backup's manifest",
                         CONTROL_PATH);
    return true;
}

void restore_plan_free(struct restore_plan *plan)
{
    for (size_t i = 0; i < plan->directory_count; i++) {
        free(plan->directories[i].path);
        free(plan->directories[i].link);
    }
    for (size_t i = 0; i < plan->file_count; i++)
        free(plan->files[i].path);
    free(plan->directories);
    free(plan->files);
    *plan = (struct restore_plan)RESTORE_PLAN_INIT;
}

const struct restore_plan_file *restore_plan_find(const struct restore_plan *plan, const char *path)
{
    for (size_t i = 0; i < plan->file_count; i++)
        if (strcmp(plan->files[i].path, path) == 0)
            return &plan->files[i];
    return NULL;
}

void restore_plan_leave_out(struct restore_plan *plan, const char *directory)
{
    const size_t length = strlen(directory);
    size_t left = 0;

    for (size_t i = 0; i < plan->directory_count; i++) {
        struct restore_plan_directory *at = &plan->directories[i];

        if (strncmp(at->path, directory, length) == 0 &&
            (at->path[length] == '\0' || at->path[length] == '/')) {
            free(at->path);
            free(at->link);
        } else {
            plan->directories[left++] = *at;
        }
    }
    plan->directory_count = left;
}

bool restore_plan_make(struct restore_plan *plan, struct restore_tree *tree, struct error *err)
{
    for (size_t i = 0; i < plan->directory_count; i++) {
        const struct restore_plan_directory *directory = &plan->directories[i];

        if (directory->link ? !restore_tree_make_link(tree, directory->path, directory->link, err)
                            : !restore_tree_make_directory(tree, directory->path, err))
            return false;
    }
    for (size_t i = 0; i < plan->file_count; i++)
        if (!restore_tree_make_file(tree, plan->files[i].path, plan->files[i].size,
                                    &plan->files[i].kept, err))
            return false;
    return true;
}

bool restore_plan_set_modes(const struct restore_plan *plan, struct restore_tree *tree,
                            struct error *err)
{
    for (size_t i = 0; i < plan->file_count; i++)
        if (plan->files[i].mode != MODE_PLAIN &&
            !restore_tree_set_mode(tree, plan->files[i].path, plan->files[i].mode, err))
            return false;
    /* Children before parents, whose new permissions might forbid to look inside. */
    for (size_t i = plan->directory_count; i-- > 0;)
        if (plan->directories[i].link == NULL && plan->directories[i].mode != MODE_DIRECTORY &&
            !restore_tree_set_mode(tree, plan->directories[i].path, plan->directories[i].mode, err))
            return false;
    return true;
}
