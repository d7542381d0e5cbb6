/* keygen.c - pgvigil keygen */
#include "pgvigil/keygen.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/cmd.h"
#include "pgvigil/keyring.h"
#include "pgvigil/log.h"

struct request {
    bool rsa;
    bool protect;
    const char *passphrase_file;
    const char *name;
};

/* OpenSSL would read what is not a terminal as well, and with its echo. */
static bool ask_passphrase(struct buffer *text, struct error *err)
{
    char room[KEYGEN_PASSPHRASE_MAXIMUM + 2] = "";
    int terminal = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);

    if (terminal < 0) {
        error_set(err, ERROR_USAGE, "there is no terminal to ask for the passphrase");
        return error_hint(err, "give it in a file (--passphrase-file), or in the environment "
                               "as " KEYRING_PASSPHRASE);
    }
    close(terminal);
    bool ok = EVP_read_pw_string(room, sizeof(room), "Passphrase of the new private key: ", 1) == 0;

    if (ok)
        buffer_append_string(text, room);
    OPENSSL_cleanse(room, sizeof(room));
    return ok || error_set(err, ERROR_USAGE, "no passphrase was given twice the same");
}

/* text stays empty where the private key is not to be protected. */
static bool find_passphrase(const struct request *request, struct buffer *text, struct error *err)
{
    if (!request->protect && !request->passphrase_file)
        return true;
    if (request->passphrase_file || getenv(KEYRING_PASSPHRASE)) {
        if (!keyring_read_passphrase(request->passphrase_file, text, err))
            return false;
    } else if (!ask_passphrase(text, err)) {
        return false;
    }
    if (text->length > 0 && text->length <= KEYGEN_PASSPHRASE_MAXIMUM)
        return true;
    return error_set(err, ERROR_USAGE, "a passphrase has 1 to %d bytes, not %zu",
                     KEYGEN_PASSPHRASE_MAXIMUM, text->length);
}

/* Data for whoever edits the configuration by hand goes to stdout. */
static void show(const struct keygen_result *result)
{
    printf("[encryption]\nrecipients = %s\n# where backups are to be read:\n#identity = %s\n",
           result->certificate, result->private_key);
    log_info("wrote private key \"%s\", which only its owner can read, and certificate \"%s\"",
             result->private_key, result->certificate);
    log_info("keep copies of the private key where no fire of this host and of the repositories "
             "reaches: without it nothing that is encrypted can ever be read again");
}

static bool make(const char *path, const struct request *request, struct error *err)
{
    struct buffer passphrase = BUFFER_INIT;
    struct keygen_request wanted = {
        .path = path,
        .name = request->name,
        .kind = request->rsa ? KEYPAIR_RSA : KEYPAIR_EC,
    };
    struct keygen_result result;
    bool ok = find_passphrase(request, &passphrase, err);

    if (passphrase.length > 0)
        wanted.passphrase = buffer_text(&passphrase);
    ok = ok && keygen_run(&wanted, &result, err);
    OPENSSL_cleanse(passphrase.data, passphrase.capacity);
    buffer_free(&passphrase);
    if (!ok)
        return false;
    show(&result);
    keygen_free(&result);
    return true;
}

int cmd_keygen(const char *config_name, int argc, char **argv)
{
    struct request request = {.rsa = false};
    const struct option table[] = {
        {"rsa", OPTION_FLAG, &request.rsa, NULL, "an RSA key of 3072 bits instead of EC P-256"},
        {"name", OPTION_STRING, &request.name, "TEXT",
         "the certificate's name, as messages show it (default: the last part of PATH)"},
        {"passphrase", OPTION_FLAG, &request.protect, NULL,
         "protect the private key; it is asked for, unless in " KEYRING_PASSPHRASE},
        {"passphrase-file", OPTION_STRING, &request.passphrase_file, "FILE",
         "protect it by the passphrase in this file's first line"},
        {0}};
    const struct options options = {
        .command = "keygen",
        .synopsis = "keygen PATH [--rsa] [--name TEXT] [--passphrase | --passphrase-file FILE]",
        .summary = "Makes a private key, PATH.key, and its certificate, PATH.crt, for encrypted\n"
                   "repositories, and shows what to write into the configuration.",
        .table = table,
        .operands_minimum = 1,
        .operands_maximum = 1,
        .notes =
            "Backups and WAL are encrypted for certificates; reading them takes a private key\n"
            "of one of them. The files belong to whoever runs keygen; where another user is to\n"
            "restore, give the private key to that user (chown). Files are never replaced."};
    struct error err = ERROR_INIT;
    const char *path;
    size_t count;
    int status;

    (void)config_name;
    if (!cmd_begin(&options, argc, argv, &path, &count, &status))
        return status;
    return make(path, &request, &err) ? 0 : cmd_fail(&err);
}
