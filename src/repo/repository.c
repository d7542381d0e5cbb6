/* repository.c - opens repositories, and says where a cluster's objects lie in them */
#include "pgvigil/repository.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgvigil/keyring.h"
#include "pgvigil/layout.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"
#include "pgvigil/process.h"
#include "repo/identity.h"
#include "store/fanout.h"

static bool repository_new(const struct config *config, const struct config_repository *which,
                           struct repository **repository, struct error *err)
{
    struct store *store;

    if (!store_open(which, &store, err))
        return error_context(err, "repository \"%s\"", which->name);

    struct repository *made = mem_calloc(1, sizeof(*made));
    made->all = config;
    made->config = which;
    made->name = which->name;
    made->store = store;
    made->cluster = mem_strdup(config->cluster_name);
    made->keyring = keyring_new(config);
    *repository = made;
    return true;
}

/* Is the directory that it would be in not there? */
static bool repository_has_no_place(const struct repository *repository)
{
    const char *directory = store_directory(repository->store->url);

    return directory && access(directory, F_OK) != 0 && errno == ENOENT;
}

/* There is none where this host knows one: either it is not to be seen just now, or another place is meant. */
static bool repository_hint_gone(const struct repository *repository, struct error *err)
{
    char *pin = identity_pin_path(repository->all, repository->name);

    error_hint(err,
               "it was there before: %s, and the URL as it was? If a new place is meant, rename "
               "the section to [repository NEWNAME], or remove \"%s\"; then `%s init` makes a "
               "repository there",
               store_directory(repository->store->url) ? "is its file system mounted"
                                                       : "has the bucket been emptied",
               pin, process_command());
    free(pin);
    return false;
}

static bool repository_missing(const struct repository *repository, struct error *err)
{
    error_set(err, ERROR_STORE, "there is no \"" LAYOUT_IDENTITY "\" in repository \"%s\" (\"%s\")",
              repository->name, repository->store->url);
    if (repository->pin.known)
        return repository_hint_gone(repository, err);
    return error_hint(err, "%s? A new repository is made by `%s init`",
                      store_directory(repository->store->url) ? "is the file system mounted"
                                                              : "are bucket and prefix right",
                      process_command());
}

/* One configuration serves all repositories of a cluster: all of them are encrypted, or none. */
static bool repository_check_encryption(const struct repository *repository, struct error *err)
{
    const struct config *config = repository->all;
    const bool wanted =
        config->encryption.recipients.count > 0 || config->encryption.identity.count > 0;

    if (repository->encrypted == wanted)
        return true;
    if (wanted) {
        error_set(err, ERROR_CONFIG,
                  "repository \"%s\" (\"%s\") is not encrypted, but the configuration has keys in "
                  "section [encryption]",
                  repository->name, repository->store->url);
        return error_hint(
            err,
            "whether a repository is encrypted is settled when it is made: let `%s init` make a "
            "new one in another place, or leave out section [encryption]",
            process_command());
    }
    error_set(err, ERROR_CONFIG,
              "repository \"%s\" (\"%s\") is encrypted, but the configuration has no recipients in "
              "section [encryption]",
              repository->name, repository->store->url);
    return error_hint(err,
                      "name the certificates by \"recipients\", and where it is to be read the "
                      "private keys by \"identity\"");
}

/* Is the id that was read the one that this host knows? Pins it when it knows none yet. */
static bool repository_check_pin(struct repository *repository, struct error *err)
{
    if (!repository->pin.known && repository->all->stateless)
        return true;
    if (!repository->pin.known) {
        memcpy(repository->pin.id, repository->id, sizeof(repository->id));
        repository->pin.encrypted = repository->encrypted;
        repository->pin.known = true;
        /* Who made it may have been killed before it was durable; the pin must not outlive it. */
        return store_sync(repository->store, LAYOUT_IDENTITY, err) &&
               identity_write_pin(repository->all, repository->name, &repository->pin, err);
    }
    if (strcmp(repository->pin.id, repository->id) == 0 &&
        repository->pin.encrypted == repository->encrypted)
        return true;

    char *path = identity_pin_path(repository->all, repository->name);
    error_set(err, ERROR_STORE, "repository \"%s\" (\"%s\") is not the one it was before",
              repository->name, repository->store->url);
    if (repository->pin.encrypted == repository->encrypted)
        error_detail(err, "its id is %s, but %s is pinned", repository->id, repository->pin.id);
    else
        error_detail(err, "it is %s, which it was %s",
                     repository->encrypted ? "encrypted" : "not encrypted",
                     repository->encrypted ? "not" : "before");
    error_hint(err,
               "is the right file system mounted, and the URL right? If the repository was "
               "replaced on purpose, remove \"%s\"",
               path);
    free(path);
    return false;
}

/* Once the id is known to be the right one. */
static void repository_trust(struct repository *repository)
{
    store_set_witness(repository->store, LAYOUT_IDENTITY, repository->pin.exclusive);
}

static bool repository_prove(struct repository *repository, struct error *err)
{
    if (!identity_read_pin(repository->all, repository->name, &repository->pin, err))
        return false;
    if (!identity_read(repository, err)) {
        if (err->code == ERROR_NOT_FOUND)
            return repository_missing(repository, err);
        return repository->pin.known && repository_has_no_place(repository)
                   ? repository_hint_gone(repository, err)
                   : false;
    }
    if (!repository_check_encryption(repository, err) || !repository_check_pin(repository, err))
        return false;
    repository_trust(repository);
    return true;
}

/* What was found out need not be found out again. If it cannot be kept, it is. */
static void repository_remember(struct repository *repository)
{
    struct error ignored = ERROR_INIT;
    enum store_exclusive found = store_exclusive(repository->store);

    if (!repository->pin.known || found == repository->pin.exclusive)
        return;
    repository->pin.exclusive = found;
    if (!identity_write_pin(repository->all, repository->name, &repository->pin, &ignored))
        log_debug("%s", ignored.message);
}

void repository_close(struct repository *repository)
{
    if (!repository)
        return;
    repository_close(repository->sibling);
    repository_remember(repository);
    store_close(repository->store);
    keyring_free(repository->keyring);
    free(repository->cluster);
    free(repository->prefix);
    free(repository);
}

bool repository_open(const struct config *config, const struct config_repository *which,
                     struct repository **repository, struct error *err)
{
    return repository_open_until(config, which, 0, repository, err);
}

bool repository_open_until(const struct config *config, const struct config_repository *which,
                           int64_t deadline, struct repository **repository, struct error *err)
{
    struct repository *opened;

    if (!repository_new(config, which, &opened, err))
        return false;
    store_set_deadline(opened->store, deadline);
    if (!repository_prove(opened, err)) {
        repository_close(opened);
        return false;
    }
    *repository = opened;
    return true;
}

struct repository *repository_join(struct repository *const *members, size_t count)
{
    struct store **stores = mem_calloc(count, sizeof(*stores));
    struct repository *joint = mem_calloc(1, sizeof(*joint));
    struct buffer names = BUFFER_INIT;

    for (size_t i = 0; i < count; i++) {
        stores[i] = members[i]->store;
        buffer_append_format(&names, "%s%s", i > 0 ? ", " : "", members[i]->name);
    }
    joint->all = members[0]->all;
    joint->store = fanout_new(stores, count, buffer_text(&names));
    joint->name = joint->store->url;
    joint->cluster = mem_strdup(members[0]->cluster);
    joint->encrypted = members[0]->encrypted;
    joint->keyring = keyring_new(joint->all);
    repository_select(joint, members[0]->system_identifier);
    buffer_free(&names);
    free(stores);
    return joint;
}

bool repository_joined_failure(const struct repository *joint, size_t member, struct error *err)
{
    return fanout_failure(joint->store, member, err);
}

enum store_outcome repository_joined_outcome(const struct repository *joint, size_t member)
{
    return fanout_outcome(joint->store, member);
}

bool repository_failed(struct repository *repository, const struct error *err)
{
    if (err->code == ERROR_STORE)
        atomic_store(&repository->was_silent, true);
    return false;
}

/* What to stop a list with once the first object was seen; never leaves this file. */
struct repository_search {
    char *name; /* STORE_NAME_MAXIMUM + 1 bytes */
    bool found;
};

static bool repository_take_first(const char *name, const struct store_info *info, void *context,
                                  struct error *err)
{
    struct repository_search *search = context;

    (void)info;
    snprintf(search->name, STORE_NAME_MAXIMUM + 1, "%s", name);
    search->found = true;
    return error_set(err, ERROR_CANCELLED, "the first object was found");
}

/* The same as repository_first, by full names. */
static bool repository_first_in_store(struct repository *repository, const char *prefix,
                                      const char *after, char name[STORE_NAME_MAXIMUM + 1],
                                      bool *found, struct error *err)
{
    struct repository_search search = {.name = name};

    if (!store_list(repository->store, prefix, after, repository_take_first, &search, err) &&
        !search.found)
        return false;
    if (search.found)
        error_clear(err);
    *found = search.found;
    return true;
}

/* Whatever lies there already is somebody else's: the place is not ours to settle in. */
static bool repository_check_empty(struct repository *repository, struct error *err)
{
    char name[STORE_NAME_MAXIMUM + 1];
    bool found;

    if (!repository_first_in_store(repository, "", NULL, name, &found, err))
        return false;
    if (!found)
        return true;
    error_set(err, ERROR_STORE, "\"%s\" is not empty and no repository of pgvigil",
              repository->store->url);
    error_detail(err, "it holds \"%.500s\" but no \"" LAYOUT_IDENTITY "\"", name);
    return error_hint(err, "give repository \"%s\" a directory or prefix of its own",
                      repository->name);
}

/* Nobody could write into one that is made by who has private keys only, or whose certificates cannot
 * be read; and that it is encrypted is settled for good. */
static bool repository_check_makeable(const struct repository *repository, struct error *err)
{
    const struct config *config = repository->all;
    const struct keys_recipients *recipients;

    if (config->encryption.recipients.count > 0)
        return keyring_recipients(repository->keyring, &recipients, err) ||
               error_context(err, "repository \"%s\" cannot be made", repository->name);
    if (config->encryption.identity.count == 0)
        return true;
    error_set(err, ERROR_CONFIG,
              "repository \"%s\" cannot be made: section [encryption] has an identity, but no "
              "recipients",
              repository->name);
    return error_hint(err, "name the certificates to encrypt for by \"recipients\"");
}

static bool repository_settle(struct repository *repository, enum repository_creation *creation,
                              struct error *err)
{
    enum store_outcome outcome;

    if (!store_create_place(repository->store, err))
        return false;
    if (identity_read(repository, err)) {
        *creation = REPOSITORY_FOUND;
        return true;
    }
    if (err->code != ERROR_NOT_FOUND)
        return false;
    error_clear(err);
    if (!repository_check_empty(repository, err) || !repository_check_makeable(repository, err) ||
        !identity_write(repository, &outcome, err))
        return false;
    *creation = outcome == STORE_STORED ? REPOSITORY_CREATED : REPOSITORY_FOUND;
    return identity_read(repository, err);
}

static bool repository_find_or_make(struct repository *repository,
                                    enum repository_creation *creation, struct error *err)
{
    if (!identity_read_pin(repository->all, repository->name, &repository->pin, err))
        return false;
    if (repository->pin.known) {
        /* It has been here: if it isn't now, something is unmounted or mistyped. */
        *creation = REPOSITORY_FOUND;
        if (repository_prove(repository, err))
            return true;
        char *path = identity_pin_path(repository->all, repository->name);
        if (err->detail[0] == '\0' && !strstr(err->hint, path))
            error_detail(err,
                         "it was here before: \"%s\" holds its id (to begin anew with another "
                         "repository, remove that file)",
                         path);
        free(path);
        return false;
    }
    return repository_settle(repository, creation, err) &&
           repository_check_encryption(repository, err) && repository_check_pin(repository, err);
}

bool repository_create(const struct config *config, const struct config_repository *which,
                       enum repository_creation *creation, struct error *err)
{
    struct repository *repository;

    if (!repository_new(config, which, &repository, err))
        return false;
    bool ok = repository_find_or_make(repository, creation, err);
    repository_close(repository);
    return ok;
}

void repository_select(struct repository *repository, uint64_t system_identifier)
{
    if (repository->sibling)
        repository_select(repository->sibling, system_identifier);
    free(repository->prefix);
    repository->system_identifier = system_identifier;
    repository->prefix = mem_printf("%s/%" PRIu64 "/", repository->cluster, system_identifier);
}

/*
 * The folders' names come from a walk that leaps over what is in them: '0' is the next character
 * behind '/', so that "<cluster>/123" with a '0' behind it lies after all of "<cluster>/123/".
 */
bool repository_walk_folders(struct repository *repository, const char *prefix,
                             repository_folder_fn fn, void *context, struct error *err)
{
    char name[STORE_NAME_MAXIMUM + 1], after[STORE_NAME_MAXIMUM + 2];
    const size_t start = strlen(prefix);
    bool found, ok;

    snprintf(after, sizeof(after), "%s", prefix);
    while ((ok = repository_first_in_store(repository, prefix, after[0] != '\0' ? after : NULL,
                                           name, &found, err)) &&
           found) {
        const size_t length = strcspn(name + start, "/");
        const bool is_folder = name[start + length] == '/';

        if (is_folder && !fn(name + start, length, context))
            break;
        snprintf(after, sizeof(after), "%.*s%s", (int)(start + length), name, is_folder ? "0" : "");
    }
    return ok;
}

bool repository_encrypts(const struct repository *repository, const char *name)
{
    return repository->encrypted && layout_is_secret(name);
}

char *repository_stored_name(const struct repository *repository, const char *name)
{
    return mem_printf("%s%s", name, repository_encrypts(repository, name) ? LAYOUT_ENCRYPTED : "");
}

char *repository_object_name(const struct repository *repository, const char *name)
{
    return mem_printf("%s%s%s", repository->prefix ? repository->prefix : "", name,
                      repository_encrypts(repository, name) ? LAYOUT_ENCRYPTED : "");
}

bool repository_check_recipients(struct repository *repository, struct error *err)
{
    const struct keys_recipients *recipients;

    return !repository->encrypted || keyring_recipients(repository->keyring, &recipients, err) ||
           error_context(err, "repository \"%s\" cannot be written to", repository->name);
}

/* The name of the object that is stored so, into name; false if none of the repository's is. */
static bool repository_reveal(const struct repository *repository, const char *stored,
                              char name[STORE_NAME_MAXIMUM + 1])
{
    const size_t length = strlen(stored), suffix = strlen(LAYOUT_ENCRYPTED);

    snprintf(name, STORE_NAME_MAXIMUM + 1, "%s", stored);
    if (!repository->encrypted)
        return true;
    if (length <= suffix || strcmp(stored + length - suffix, LAYOUT_ENCRYPTED) != 0)
        return !layout_is_secret(stored);
    name[length - suffix] = '\0';
    return layout_is_secret(name);
}

struct repository_listing {
    const struct repository *repository;
    store_list_fn fn;
    void *context;
};

static bool repository_give(const char *name, const struct store_info *info, void *context,
                            struct error *err)
{
    const struct repository_listing *listing = context;
    const char *prefix = listing->repository->prefix;
    char revealed[STORE_NAME_MAXIMUM + 1];

    return !repository_reveal(listing->repository, name + (prefix ? strlen(prefix) : 0),
                              revealed) ||
           listing->fn(revealed, info, listing->context, err);
}

bool repository_list(struct repository *repository, const char *prefix, const char *after,
                     store_list_fn fn, void *context, struct error *err)
{
    struct repository_listing listing = {
        .repository = repository,
        .fn = fn,
        .context = context,
    };
    char *full_prefix = repository_object_name(repository, prefix);
    char *full_after = after ? repository_object_name(repository, after) : NULL;
    bool ok =
        store_list(repository->store, full_prefix, full_after, repository_give, &listing, err);

    free(full_after);
    free(full_prefix);
    return ok || repository_failed(repository, err);
}

bool repository_first(struct repository *repository, const char *prefix, const char *after,
                      char name[STORE_NAME_MAXIMUM + 1], bool *found, struct error *err)
{
    struct repository_search search = {.name = name};

    if (!repository_list(repository, prefix, after, repository_take_first, &search, err) &&
        !search.found)
        return false;
    if (search.found)
        error_clear(err);
    *found = search.found;
    return true;
}
