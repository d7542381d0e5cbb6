/* repository_ask.c - asking a repository and its siblings */
#include "pgvigil/repository_ask.h"

#include <stdlib.h>

#include "pgvigil/log.h"
#include "pgvigil/mem.h"

/* May another repository do better? */
static bool own_failure(const struct error *err)
{
    return err->code == ERROR_INTEGRITY || err->code == ERROR_NOT_FOUND || err->code == ERROR_STORE;
}

/* Itself and its siblings; those that did not answer before come last, as they would have everybody
 * wait again. The caller frees the array. */
static struct repository **order_of(struct repository *repository, size_t *count)
{
    struct repository **order;
    size_t last = 0;

    *count = 0;
    for (struct repository *one = repository; one; one = one->sibling)
        (*count)++;
    order = mem_calloc(*count, sizeof(struct repository *));
    for (int silent = 0; silent < 2; silent++)
        for (struct repository *one = repository; one && last < *count; one = one->sibling)
            if ((silent == 1) == atomic_load(&one->was_silent))
                order[last++] = one;
    return order;
}

/* Why another one could not help out, beside the error of the first. */
static void tell_other(const struct error *why, struct error *err)
{
    const struct error said = *err;

    error_detail(err, "%s%s%s", said.detail, said.detail[0] != '\0' ? "; " : "", why->message);
}

bool repository_ask(struct repository *repository, repository_fn fn, void *context,
                    struct error *err)
{
    struct error why = ERROR_INIT;
    bool ok = false, others_may = true;
    size_t count;

    if (!repository->sibling)
        return fn(repository, context, err);

    struct repository **order = order_of(repository, &count);

    for (size_t i = 0; i < count && !ok && others_may; i++) {
        error_clear(&why);
        ok = fn(order[i], context, &why);
        if (ok && i > 0)
            log_warning_once("%s; repository \"%s\" had it", err->message, order[i]->name);
        others_may = own_failure(&why);
        if (!ok && (i == 0 || !others_may))
            *err = why;
        else if (!ok)
            tell_other(&why, err);
    }
    if (ok)
        error_clear(err);
    free(order);
    return ok;
}

bool repository_ask_leave_out(struct repository *sibling, const char *what, struct error *why,
                              struct error *err)
{
    if (why->code == ERROR_CANCELLED) {
        *err = *why;
        return false;
    }
    error_context(why, "what repository \"%s\" has of %s is not counted on", sibling->name, what);
    log_error(LOG_WARNING, why);
    return true;
}

struct repository *repository_ask_next(const struct repository *repository)
{
    struct repository *next = repository->sibling;

    while (next != NULL && atomic_load(&next->was_silent))
        next = next->sibling;
    return next;
}

bool repository_ask_each(struct repository *repository, const char *what, repository_fn fn,
                         void *context, struct error *err)
{
    if (!fn(repository, context, err))
        return false;
    for (struct repository *one = repository; (one = repository_ask_next(one)) != NULL;) {
        struct error why = ERROR_INIT;

        if (!fn(one, context, &why) && !repository_ask_leave_out(one, what, &why, err))
            return false;
    }
    return true;
}

char *repository_ask_names(const struct repository *repository)
{
    char *text =
        mem_printf("%s \"%s\"", repository_ask_next(repository) ? "repositories" : "repository",
                   repository->name);

    for (const struct repository *one = repository; (one = repository_ask_next(one)) != NULL;) {
        char *longer =
            mem_printf("%s%s \"%s\"", text, repository_ask_next(one) ? "," : " and", one->name);

        free(text);
        text = longer;
    }
    return text;
}
