/* keygen.c - new keys as files */
#include "pgvigil/keygen.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pgvigil/files.h"
#include "pgvigil/mem.h"

#define PRIVATE_MODE 0600
#define PUBLIC_MODE 0644

static bool keygen_hint(struct error *err)
{
    if (err->code == ERROR_EXISTS)
        error_hint(err,
                   "keys are never replaced, as what was encrypted for them could never be read "
                   "again: choose another name");
    return false;
}

static bool keygen_check_free(const char *path, struct error *err)
{
    if (faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
        return true;
    error_set(err, ERROR_EXISTS, "file \"%s\" exists already", path);
    return keygen_hint(err);
}

/* Both texts. What is left of the private key in memory is wiped by whoever frees it. */
static bool keygen_write(const struct keygen_result *result, const struct buffer *private_key,
                         const struct buffer *certificate, struct error *err)
{
    return (keygen_check_free(result->certificate, err) &&
            files_create(result->private_key, private_key->data, private_key->length, PRIVATE_MODE,
                         err) &&
            files_create(result->certificate, certificate->data, certificate->length, PUBLIC_MODE,
                         err)) ||
           keygen_hint(err);
}

static const char *keygen_name(const struct keygen_request *request)
{
    const char *slash = strrchr(request->path, '/');

    if (request->name)
        return request->name;
    return slash ? slash + 1 : request->path;
}

static bool keygen_check(const struct keygen_request *request, struct error *err)
{
    const char *name = keygen_name(request);

    if (*request->path == '\0' || request->path[strlen(request->path) - 1] == '/')
        return error_set(err, ERROR_USAGE, "\"%s\" is a directory, not a name for keys",
                         request->path);
    if (*name == '\0' || strlen(name) > KEYPAIR_NAME_MAXIMUM) {
        error_set(err, ERROR_USAGE, "the name in a certificate has 1 to %d bytes, not %zu",
                  KEYPAIR_NAME_MAXIMUM, strlen(name));
        return error_hint(err, "give another one with --name");
    }
    return true;
}

bool keygen_run(const struct keygen_request *request, struct keygen_result *result,
                struct error *err)
{
    struct buffer private_key = BUFFER_INIT, certificate = BUFFER_INIT;
    char *path;

    *result = (struct keygen_result){.private_key = NULL};
    if (!keygen_check(request, err) || !files_absolute(request->path, &path, err))
        return false;
    result->private_key = mem_printf("%s.key", path);
    result->certificate = mem_printf("%s.crt", path);
    bool ok = keygen_check_free(result->private_key, err) &&
              keypair_make(request->kind, keygen_name(request), request->passphrase, &private_key,
                           &certificate, err) &&
              keygen_write(result, &private_key, &certificate, err);

    OPENSSL_cleanse(private_key.data, private_key.capacity);
    buffer_free(&private_key);
    buffer_free(&certificate);
    free(path);
    if (!ok)
        keygen_free(result);
    return ok;
}

void keygen_free(struct keygen_result *result)
{
    free(result->private_key);
    free(result->certificate);
    *result = (struct keygen_result){.private_key = NULL};
}
