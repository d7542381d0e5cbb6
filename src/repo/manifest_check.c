/* manifest_check.c - what may stand in a manifest */
#include <string.h>

#include "pgvigil/trailer.h"
#include "repo/manifest_schema.h"

static bool place_valid(const struct map_place *place)
{
    const struct pack_frame *frame = &place->frame;
    const uint64_t pack_bytes = PACK_SIZE - TRAILER_SIZE;

    return frame->length > 0 && frame->offset < pack_bytes &&
           frame->length <= pack_bytes - frame->offset && place->item_length > 0 &&
           place->item_offset < MAP_ITEM_MAXIMUM &&
           place->item_length <= MAP_ITEM_MAXIMUM - place->item_offset;
}

/* "pg_tblspc/" and an OID. */
static bool tablespace_path_valid(const char *path)
{
    static const char directory[] = "pg_tblspc/";

    if (strncmp(path, directory, sizeof(directory) - 1) != 0)
        return false;
    const char *oid = path + sizeof(directory) - 1;
    size_t length = strlen(oid);
    return length > 0 && length <= 10 && oid[0] != '0' && strspn(oid, "0123456789") == length;
}

static bool link_valid(const char *link)
{
    return link && link[0] == '/' && strlen(link) <= MANIFEST_PATH_MAXIMUM;
}

static const char *find_fault(const struct manifest_file *file)
{
    bool has_bytes = file->kind == MANIFEST_FILE || file->kind == MANIFEST_CONFIG;

    if (!has_bytes && file->kind != MANIFEST_DIRECTORY && file->kind != MANIFEST_TABLESPACE)
        return "unknown kind";
    if (file->kind == MANIFEST_CONFIG ? file->path[0] != '/' || !manifest_path_valid(file->path + 1)
                                      : !manifest_path_valid(file->path))
        return "impossible path";
    if (file->kind == MANIFEST_TABLESPACE && !tablespace_path_valid(file->path))
        return "no place for a tablespace";
    if (file->kind == MANIFEST_TABLESPACE ? !link_valid(file->link) : file->link != NULL)
        return "impossible link";
    if (file->mode > 07777)
        return "impossible permissions";
    if (file->size > (has_bytes ? MAP_FILE_SIZE_MAXIMUM : 0))
        return "impossible size";
    if (file->size == 0)
        return file->map.frame.pack.number == 0 ? NULL : "a map of an empty file";
    if (file->map.frame.pack.number == 0 || !place_valid(&file->map))
        return "impossible place of its map";
    return NULL;
}

bool manifest_check_file(const struct manifest_file *file, struct error *err)
{
    const char *fault = find_fault(file);

    if (!fault)
        return true;
    return error_set(err, ERROR_INTEGRITY, "file \"%s\" cannot be in a manifest: %s", file->path,
                     fault);
}
