/* lag.c - how far a repository is behind the others */
#include "pgvigil/lag.h"

#include "pgvigil/copy_plan.h"
#include "pgvigil/log.h"

int64_t lag_newest_moment(const struct survey *survey, bool *sealed)
{
    int64_t newest = INT64_MIN;

    for (size_t i = 0; i < survey->window_count; i++) {
        const struct survey_window *window = &survey->windows[i];
        int64_t moment =
            window->any_transaction ? window->last_transaction : window->newest->stop_time;

        newest = moment > newest ? moment : newest;
        *sealed = *sealed || window->sealed;
    }
    return newest;
}

bool lag_read(struct repository *repository, struct repository *const *others, size_t count,
              struct lag *lag, struct error *err)
{
    *lag = (struct lag){.ahead = NULL};
    for (size_t i = 0; i < count; i++) {
        struct copy_plan plan;

        if (!copy_plan_read(others[i], repository, &plan, err))
            return false;
        if (plan.objects > lag->objects)
            *lag = (struct lag){.ahead = others[i]->name,
                                .objects = plan.objects,
                                .bytes = plan.bytes,
                                .backups = plan.backup_count,
                                .wal_files = plan.wal.count};
        if (plan.conflict.code != ERROR_NONE)
            log_error(LOG_WARNING, &plan.conflict);
        if (plan.parted.code != ERROR_NONE)
            log_error(LOG_WARNING, &plan.parted);
        copy_plan_free(&plan);
    }
    return true;
}
