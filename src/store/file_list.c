/*
 * file_list.c - the file store's list
 *
 * The order is that of whole names, byte by byte, as in a bucket: "a-b", "a/b", "a0". Sorting each
 * directory with a '/' put behind the names of subdirectories gives just that when the tree is then
 * walked depth first. Only directories that can hold a wanted name are opened, and of each no more
 * than the wanted names are kept.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgvigil/mem.h"
#include "store/file.h"

struct listing {
    struct file_store *store;
    const char *prefix;
    const char *after; /* "": all */
    store_list_fn fn;
    void *context;
    size_t length; /* of path */
    char path[STORE_NAME_MAXIMUM +
              258]; /* where we are, relative to the root, "" or ending in '/'; a
                                            component (at most 255 bytes) and '/' fit behind it */
};

struct keys {
    char **key; /* names within the directory; those of subdirectories end in '/' */
    size_t count;
    size_t capacity;
};

static bool starts_with(const char *string, const char *start)
{
    return strncmp(string, start, strlen(start)) == 0;
}

static bool file_wanted(const struct listing *listing)
{
    return store_name_valid(listing->path) && starts_with(listing->path, listing->prefix) &&
           strcmp(listing->path, listing->after) > 0;
}

/* Whether names that begin with the path, which ends in '/', can be wanted. */
static bool directory_wanted(struct listing *listing)
{
    const char *path = listing->path;
    size_t slash = strlen(path) - 1;
    bool valid;

    listing->path[slash] = '\0';
    valid = store_name_valid(path);
    listing->path[slash] = '/';
    return valid && (starts_with(path, listing->prefix) || starts_with(listing->prefix, path)) &&
           (strcmp(path, listing->after) > 0 || starts_with(listing->after, path));
}

static bool list_failed(const struct listing *listing, struct error *err)
{
    return file_tree_failed(listing->store, "list", listing->path, err);
}

/* The type of an entry, asked for where readdir does not tell. DT_UNKNOWN: vanished meanwhile. */
static bool entry_type(int directory, const struct dirent *entry, unsigned char *type)
{
    struct stat status;

    *type = entry->d_type;
    if (entry->d_type != DT_UNKNOWN)
        return true;
    if (fstatat(directory, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT;
    *type = (unsigned char)IFTODT(status.st_mode);
    return true;
}

/* Keeps an entry if it is wanted. What can be no object's name, or is neither file nor directory,
 * is none of ours (lost+found, .tmp); a symbolic link in the place of a wanted name is an error,
 * since to pass over it would be to call absent what may lie behind it. */
static bool keep_entry(struct listing *listing, int directory, const struct dirent *entry,
                       struct keys *keys, struct error *err)
{
    unsigned char type;
    size_t name_length = strlen(entry->d_name);
    bool wanted = false;

    if (entry->d_name[0] == '.' || listing->length + name_length + 2 > sizeof(listing->path))
        return true;
    memcpy(listing->path + listing->length, entry->d_name, name_length + 1);
    if (!entry_type(directory, entry, &type))
        return list_failed(listing, err);
    if (type == DT_REG || type == DT_LNK)
        wanted = file_wanted(listing);
    if (type == DT_DIR || type == DT_LNK) {
        memcpy(listing->path + listing->length + name_length, "/", 2);
        wanted = directory_wanted(listing) || wanted;
    }
    if (wanted && type == DT_LNK) {
        errno = ELOOP;
        return list_failed(listing, err);
    }
    if (wanted) {
        keys->key = mem_grow(keys->key, keys->count, &keys->capacity, sizeof(*keys->key));
        keys->key[keys->count++] = mem_strdup(listing->path + listing->length);
    }
    listing->path[listing->length] = '\0';
    return true;
}

static bool read_keys(struct listing *listing, DIR *stream, struct keys *keys, struct error *err)
{
    struct dirent *entry;

    while (errno = 0, (entry = readdir(stream)) != NULL)
        if (!keep_entry(listing, dirfd(stream), entry, keys, err))
            return false;
    return errno == 0 || list_failed(listing, err);
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool give_file(struct listing *listing, int directory, const char *key, struct error *err)
{
    struct stat status;

    if (fstatat(directory, key, &status, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT || list_failed(listing, err);
    if (!S_ISREG(status.st_mode))
        return true;

    struct store_info info;

    file_tree_info(&status, &info);
    return listing->fn(listing->path, &info, listing->context, err);
}

static bool walk(struct listing *listing, int directory, struct error *err);

static bool give_key(struct listing *listing, int directory, char *key, struct error *err)
{
    size_t before = listing->length;
    size_t key_length = strlen(key);
    bool done;

    memcpy(listing->path + before, key, key_length + 1);
    if (key[key_length - 1] != '/') {
        done = give_file(listing, directory, key, err);
    } else {
        key[key_length - 1] = '\0'; /* a '/' at the end would have a symbolic link followed */

        int child = openat(directory, key, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

        listing->length = before + key_length;
        done =
            child >= 0 ? walk(listing, child, err) : errno == ENOENT || list_failed(listing, err);
        listing->length = before;
    }
    listing->path[before] = '\0';
    return done;
}

/* Gives what is wanted of a directory and all below it. Closes it. */
static bool walk(struct listing *listing, int directory, struct error *err)
{
    DIR *stream = fdopendir(directory);
    struct keys keys = {.key = NULL};
    bool done;

    if (!stream) {
        list_failed(listing, err);
        close(directory);
        return false;
    }
    done = read_keys(listing, stream, &keys, err);
    if (done && keys.count > 0)
        qsort(keys.key, keys.count, sizeof(*keys.key), compare_keys);
    for (size_t i = 0; i < keys.count; i++) {
        done = done && give_key(listing, dirfd(stream), keys.key[i], err);
        free(keys.key[i]);
    }
    free(keys.key);
    closedir(stream);
    return done;
}

bool file_list(struct store *base, const char *prefix, const char *after, store_list_fn fn,
               void *context, struct error *err)
{
    struct file_store *store = (struct file_store *)base;
    struct listing listing = {.store = store,
                              .prefix = prefix,
                              .after = after ? after : "",
                              .fn = fn,
                              .context = context};
    const char *last;
    int root, directory;

    if (!file_tree_open_root(store, &root, err))
        return false;

    /* Straight to the deepest directory that holds all of the prefix. */
    bool found =
        file_tree_walk(store, root, prefix, FILE_WAY_FOLLOW, "list", &directory, &last, err);

    close(root);
    if (!found) {
        if (err->code != ERROR_NOT_FOUND)
            return false;
        error_clear(err);
        return true;
    }
    listing.length = (size_t)(last - prefix);
    memcpy(listing.path, prefix, listing.length);
    listing.path[listing.length] = '\0';
    return walk(&listing, directory, err);
}
