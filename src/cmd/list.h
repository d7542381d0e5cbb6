/*
 * list.h - what list found, and its two forms of output
 */
#ifndef PGVIGIL_LIST_H
#define PGVIGIL_LIST_H

#include "pgvigil/buffer.h"
#include "pgvigil/config.h"
#include "pgvigil/known_damage.h"
#include "pgvigil/lag.h"
#include "pgvigil/repository.h"
#include "pgvigil/survey.h"

struct list_repository {
    const struct config_repository *config;
    char id[REPOSITORY_ID_SIZE];
    struct survey **surveys;    /* one for each system identifier, ascending */
    struct known_damage *known; /* of each: what this host's verify found */
    size_t count;
    size_t owed;   /* WAL files that were pushed while it could not be reached */
    bool compared; /* with others, which lag tells of: of all its system identifiers */
    struct lag lag;
    struct error error;            /* why it could not be read; ERROR_NONE if it could */
    struct repository *repository; /* open until all have been compared */
};

struct list {
    const struct config *config;
    struct list_repository *repositories;
    size_t count;
};

/* "000000010000000000000003" of a survey's segment size; valid until the buffer is used again. */
char *cmd_list_segment(const struct survey *survey, uint32_t timeline, uint64_t number,
                       char text[WAL_NAME_SIZE]);

/* Has verify looked at this backup? */
bool cmd_list_is_verified(const struct known_damage *known, const struct backup_info *info);

/* Append everything. Times are local in the one, UTC in the other. */
void cmd_list_text(const struct list *list, struct buffer *out);
void cmd_list_json(const struct list *list, struct buffer *out);

#endif
