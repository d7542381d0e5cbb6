/* expire_debts.c - debts that nobody can pay any more */
#include "job/expire_debts.h"

#include <stdlib.h>

#include "job/expire_inventory.h"
#include "pgvigil/clusters.h"
#include "pgvigil/debt.h"
#include "pgvigil/log.h"
#include "pgvigil/mem.h"

#define PATIENCE (5 * CLOCK_SECOND)

/* One cluster in all repositories of the configuration. */
struct debts {
    const struct config *config;
    struct repository **repositories;
    struct expire_inventory *inventories; /* of each, once it was asked for */
    size_t debtor;
};

static bool any_debt(const struct config *config, bool *any, struct error *err)
{
    *any = false;
    for (size_t i = 0; i < config->repository_count && !*any; i++) {
        size_t count;

        if (!debt_count(config, config->repositories[i].name, &count, err))
            return false;
        *any = count > 0;
    }
    return true;
}

/* False, without an error, if any of them has the object. */
static bool is_gone(const struct debts *debts, const char *object, bool *gone, struct error *err)
{
    *gone = true;
    for (size_t i = 0; i < debts->config->repository_count && *gone; i++) {
        struct repository *repository = debts->repositories[i];
        char *full = repository_object_name(repository, object);
        struct store_info info;

        *gone = !store_stat(repository->store, full, &info, err);
        free(full);
        if (*gone && err->code != ERROR_NOT_FOUND)
            return false;
        error_clear(err);
    }
    return true;
}

static bool judge(struct debts *debts, size_t at, struct error *err)
{
    struct expire_inventory *inventory = &debts->inventories[at];

    return inventory->repository != NULL ||
           expire_inventory_read(debts->repositories[at], clock_now(), inventory, err);
}

/* Has expire no more use for this WAL file? */
static bool has_expired(const struct expire_inventory *inventory, const char *object)
{
    char file[WAL_NAME_SIZE];
    struct wal_name parsed;

    return inventory->retention.count > 0 && layout_parse_wal(object, file, &parsed) &&
           !expire_inventory_needs_wal(inventory, &parsed);
}

static bool judge_debt(const char *object, bool *forget, void *context, struct error *err)
{
    struct debts *debts = context;
    const struct config *config = debts->config;
    bool gone;

    *forget = false;
    if (!is_gone(debts, object, &gone, err))
        return false;
    for (size_t i = 0; gone && !*forget && i < config->repository_count; i++) {
        if (i == debts->debtor || config->repositories[i].retention.window == 0)
            continue;
        if (!judge(debts, i, err))
            return false;
        *forget = has_expired(&debts->inventories[i], object);
        if (*forget)
            log_info("repository \"%s\" is no longer owed \"%s\": it has expired in repository "
                     "\"%s\", and nobody has it any more",
                     config->repositories[debts->debtor].name, object,
                     config->repositories[i].name);
    }
    return true;
}

static bool forget_of_cluster(struct debts *debts, uint64_t system_identifier, struct error *err)
{
    const size_t count = debts->config->repository_count;
    bool ok = true;

    debts->inventories = mem_calloc(count, sizeof(*debts->inventories));
    for (size_t i = 0; i < count; i++)
        repository_select(debts->repositories[i], system_identifier);
    for (debts->debtor = 0; ok && debts->debtor < count; debts->debtor++)
        ok = debt_review(debts->config, debts->config->repositories[debts->debtor].name,
                         system_identifier, judge_debt, debts, err);
    for (size_t i = 0; i < count; i++)
        expire_inventory_free(&debts->inventories[i]);
    free(debts->inventories);
    return ok;
}

/* Of the clusters that any repository has. */
static bool forget_all(struct debts *debts, struct error *err)
{
    bool ok = true;

    for (size_t i = 0; ok && i < debts->config->repository_count; i++) {
        uint64_t *identifiers;
        size_t count;

        if (!clusters_identifiers(debts->repositories[i], &identifiers, &count, err))
            return false;
        for (size_t j = 0; ok && j < count; j++)
            ok = forget_of_cluster(debts, identifiers[j], err);
        free(identifiers);
    }
    return ok;
}

bool expire_debts_forget(const struct config *config, struct error *err)
{
    const size_t count = config->repository_count;
    struct debts debts = {.config = config};
    bool any, ok = true, all = true;

    if (!any_debt(config, &any, err))
        return false;
    if (!any)
        return true;
    debts.repositories = mem_calloc(count, sizeof(struct repository *));
    for (size_t i = 0; i < count && all; i++) {
        struct error ignored = ERROR_INIT;

        all = repository_open_until(config, &config->repositories[i], clock_monotonic() + PATIENCE,
                                    &debts.repositories[i], &ignored);
        if (all)
            store_set_deadline(debts.repositories[i]->store, 0);
    }
    if (all)
        ok = forget_all(&debts, err);
    for (size_t i = 0; i < count; i++)
        repository_close(debts.repositories[i]);
    free(debts.repositories);
    return ok;
}
