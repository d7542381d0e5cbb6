/*
 * put.c - how long a put takes over a warm connection
 *
 *   put CONFIGURATION FILE COUNT PREFIX
 *
 * Puts the bytes of FILE into the first repository of the configuration, 1 + COUNT times, as PREFIX-0 and so
 * on, each the way the product does it: with a digest that is known beforehand, through the repository's
 * own store. Prints the seconds of each put but the first, which opens the connection.
 */
#include <stdio.h>
#include <stdlib.h>

#include "pgvigil/clock.h"
#include "pgvigil/digest.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"
#include "pgvigil/repository.h"

#define FILE_MAXIMUM ((size_t)256 * 1024 * 1024)
#define COUNT_MAXIMUM 1000

static void must(bool ok, const struct error *err)
{
    if (ok)
        return;
    fprintf(stderr, "put: %s\n", err->message);
    exit(1);
}

static void put(struct repository *repository, const char *name, const struct buffer *content,
                const unsigned char *sha256)
{
    enum store_outcome outcome = STORE_TAKEN;
    struct error err = ERROR_INIT;
    struct store_put *put;

    must(store_put_begin(repository->store, name, STORE_DATA, &put, &err), &err);
    store_put_sha256(put, sha256);
    if (!store_put_write(put, content->data, content->length, &err)) {
        store_put_abort(put);
        must(false, &err);
    }
    must(store_put_commit(put, &outcome, &err), &err);
    if (outcome != STORE_STORED)
        must(error_set(&err, ERROR_INTEGRITY, "there is an object \"%s\" already", name), &err);
}

static void put_all(struct repository *repository, const struct buffer *content, int count,
                    const char *prefix)
{
    unsigned char sha256[DIGEST_SHA256_SIZE];

    digest_sha256(content->data, content->length, sha256);
    for (int i = 0; i <= count; i++) {
        char *name = mem_printf("%s-%d", prefix, i);
        int64_t started = clock_monotonic();

        put(repository, name, content, sha256);
        if (i > 0)
            printf("%.6f\n", (double)(clock_monotonic() - started) / (double)CLOCK_SECOND);
        free(name);
    }
}

int main(int argc, char **argv)
{
    struct buffer content = BUFFER_INIT;
    struct error err = ERROR_INIT;
    struct repository *repository;
    struct config *config;
    int count = argc == 5 ? (int)strtol(argv[3], NULL, 10) : 0;

    if (count < 1 || count > COUNT_MAXIMUM) {
        fprintf(stderr, "usage: put CONFIGURATION FILE COUNT PREFIX\n");
        return 2;
    }
    must(config_load(argv[1], &config, &err), &err);
    must(files_read(argv[2], FILE_MAXIMUM, &content, &err), &err);
    must(repository_open(config, &config->repositories[0], &repository, &err), &err);
    put_all(repository, &content, count, argv[4]);
    repository_close(repository);
    buffer_free(&content);
    config_free(config);
    return 0;
}
