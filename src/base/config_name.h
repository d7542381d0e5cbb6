/* config_name.h - what may be the name of a cluster, a repository, a configuration */
#ifndef PGVIGIL_BASE_CONFIG_NAME_H
#define PGVIGIL_BASE_CONFIG_NAME_H

#include <stdbool.h>

#define CONFIG_NAME_MAXIMUM 63

/* Letters, digits, and the punctuation given. */
bool config_is_name(const char *name, const char *punctuation);

#endif
