/*
 * directory_names.c - all names of one directory, sorted
 */
#include "pg/directory_names.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgvigil/mem.h"

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

bool directory_names_has(const struct directory_names *names, const char *name)
{
    return names->count > 0 && bsearch(&name, names->names, names->count, sizeof names->names[0],
                                       compare_names) != NULL;
}

void directory_names_free(struct directory_names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        free(names->names[i]);
    }
    free(names->names);
}

static const char *shown(const char *path)
{
    return *path ? path : ".";
}

/* All names in a directory; fd stays open and its position is changed. */
bool directory_names_read(int fd, const char *path, struct directory_names *names,
                          struct error *err)
{
    int own_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    DIR *directory = own_fd < 0 ? NULL : fdopendir(own_fd);
    struct dirent *entry;

    *names = (struct directory_names){.names = NULL};
    if (directory == NULL) {
        error_set_errno(err, "could not read directory \"%s\" of the data directory", shown(path));
        if (own_fd >= 0) {
            close(own_fd);
        }
        return false;
    }
    while (errno = 0, (entry = readdir(directory)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            names->names =
                mem_grow(names->names, names->count, &names->capacity, sizeof names->names[0]);
            names->names[names->count++] = mem_strdup(entry->d_name);
        }
    }
    bool ok = errno == 0 || error_set_errno(err,
                                            "could not read directory \"%s\" of the data "
                                            "directory",
                                            shown(path));
    closedir(directory);
    if (!ok) {
        directory_names_free(names);
        return false;
    }
    if (names->count > 0) {
        qsort(names->names, names->count, sizeof names->names[0], compare_names);
    }
    return true;
}
