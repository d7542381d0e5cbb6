/* process.c - what concerns the process as a whole */
#include "pgvigil/process.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pgvigil/buffer.h"
#include "pgvigil/files.h"
#include "pgvigil/mem.h"

static atomic_int process_signal; /* the one that came, or 0; lock-free, so fit for a handler */

static void process_on_signal(int number)
{
    int none = 0;

    if (atomic_compare_exchange_strong(&process_signal, &none, number))
        return;
    /* The user means it: die of it as if it had never been caught, once this handler returns. */
    signal(number, SIG_DFL);
    raise(number);
}

void process_catch_signals(void)
{
    struct sigaction action = {.sa_handler = process_on_signal};
    struct sigaction ignore = {.sa_handler = SIG_IGN};

    /* No SA_RESTART: who waits in a system call is to look at process_interrupted. */
    sigemptyset(&action.sa_mask);
    sigemptyset(&ignore.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
}

bool process_interrupted(void)
{
    return atomic_load(&process_signal) != 0;
}

bool process_check(struct error *err)
{
    int number = atomic_load(&process_signal);

    if (number == 0)
        return true;
    return error_set(err, ERROR_CANCELLED, "interrupted by %s",
                     number == SIGINT ? "SIGINT" : "SIGTERM");
}

/* A password entry with its strings in *space, which the caller frees; false if there is none. */
static bool process_find_user(uid_t uid, struct passwd *entry, char **space)
{
    size_t size = 1024;
    struct passwd *found = NULL;
    int reason;

    *space = NULL;
    do {
        size *= 2;
        *space = mem_realloc(*space, size);
        reason = getpwuid_r(uid, entry, *space, size, &found);
    } while (reason == EINTR || (reason == ERANGE && size < 1024 * 1024));
    return reason == 0 && found;
}

static bool process_switch(uid_t uid, gid_t gid, const char *name, struct error *err)
{
    int groups = name ? initgroups(name, gid) : setgroups(1, &gid);

    if (groups != 0 || setgid(gid) != 0 || setuid(uid) != 0)
        return error_set_errno(err, "could not become user %ld", (long)uid);

    /* Better to ask than to believe: from here on files are made in this user's name. */
    uid_t real_uid, effective_uid, saved_uid;
    gid_t real_gid, effective_gid, saved_gid;
    if (getresuid(&real_uid, &effective_uid, &saved_uid) != 0 ||
        getresgid(&real_gid, &effective_gid, &saved_gid) != 0)
        return error_set_errno(err, "could not find out the current user");
    if (real_uid != uid || effective_uid != uid || saved_uid != uid || real_gid != gid ||
        effective_gid != gid || saved_gid != gid || setuid(0) == 0)
        return error_set(err, ERROR_SYSTEM, "could not become user %ld for good", (long)uid);
    return true;
}

static bool process_set_environment(const char *name, const char *home, struct error *err)
{
    bool ok = setenv("HOME", home ? home : "/", 1) == 0;

    if (name)
        ok = ok && setenv("USER", name, 1) == 0 && setenv("LOGNAME", name, 1) == 0;
    else
        ok = ok && unsetenv("USER") == 0 && unsetenv("LOGNAME") == 0;
    return ok || error_set_errno(err, "could not set the environment of the new user");
}

bool process_become_owner(const char *path, struct error *err)
{
    struct stat info;
    struct passwd entry;
    char *space;

    if (stat(path, &info) != 0) {
        bool absent = errno == ENOENT;
        error_set_errno(err, "could not find out the owner of \"%s\"", path);
        if (absent)
            err->code = ERROR_NOT_FOUND;
        return false;
    }
    if (geteuid() != 0 || info.st_uid == 0)
        return true;

    /* Owners without a name are common in containers: then the group is the file's. */
    bool known = process_find_user(info.st_uid, &entry, &space);
    bool ok = known ? process_switch(info.st_uid, entry.pw_gid, entry.pw_name, err) &&
                          process_set_environment(entry.pw_name, entry.pw_dir, err)
                    : process_switch(info.st_uid, info.st_gid, NULL, err) &&
                          process_set_environment(NULL, NULL, err);
    free(space);
    return ok;
}

bool process_executable(char **path, struct error *err)
{
    static const char deleted[] = " (deleted)";
    char link[4096];
    ssize_t length = readlink("/proc/self/exe", link, sizeof(link) - 1);

    if (length < 0)
        return error_set_errno(err, "could not read symbolic link \"/proc/self/exe\"");
    link[length] = '\0';
    /* An upgrade replaces the file under a running program; the new one is as good. */
    size_t suffix = sizeof(deleted) - 1;
    if ((size_t)length > suffix && strcmp(link + length - suffix, deleted) == 0 &&
        access(link, F_OK) != 0)
        link[(size_t)length - suffix] = '\0';
    *path = mem_strdup(link);
    return true;
}

static const char *process_name_user(uid_t uid, char name[256])
{
    struct passwd entry;
    char *space;

    if (process_find_user(uid, &entry, &space))
        snprintf(name, 256, "%s", entry.pw_name);
    else
        snprintf(name, 256, "%ld", (long)uid);
    free(space);
    return name;
}

const char *process_user_name(void)
{
    static _Thread_local char name[256];

    return process_name_user(geteuid(), name);
}

char *process_quote(const char *word)
{
    struct buffer text = BUFFER_INIT;

    buffer_append_string(&text, "'");
    for (const char *c = word; *c != '\0'; c++)
        if (*c == '\'')
            buffer_append_string(&text, "'\\''");
        else
            buffer_append(&text, c, 1);
    buffer_append_string(&text, "'");
    return buffer_take_text(&text);
}

char *process_word(const char *word)
{
    bool plain = *word != '\0';

    for (const char *c = word; *c != '\0'; c++)
        plain = plain && (isalnum((unsigned char)*c) || strchr("/._-+=:,@", *c) != NULL);
    return plain ? mem_strdup(word) : process_quote(word);
}

static char *process_called; /* NULL: without -c */

const char *process_command(void)
{
    return process_called ? process_called : "pgvigil";
}

void process_set_configuration(const char *name)
{
    struct error ignored = ERROR_INIT;
    char *path = NULL, *word;

    if (strpbrk(name, "/.") != NULL && !files_absolute(name, &path, &ignored))
        path = NULL;
    word = process_word(path ? path : name);
    free(process_called);
    process_called = mem_printf("pgvigil -c %s", word);
    free(word);
    free(path);
}

static const char *process_group_name(gid_t group, char name[256])
{
    struct group entry, *found = NULL;
    char space[4096];

    if (getgrgid_r(group, &entry, space, sizeof(space), &found) == 0 && found)
        snprintf(name, 256, "%s", entry.gr_name);
    else
        snprintf(name, 256, "%ld", (long)group);
    return name;
}

/* A key that others use as well stays theirs: it is we who are the wrong user, or lack a copy. */
static bool process_hint_shared(const char *path, const struct stat *info, struct error *err)
{
    const bool grouped = info->st_uid == 0;
    const char *user = process_user_name();
    char *quoted = process_quote(path), name[256];

    error_hint(err,
               "run it as %s %s, who may read it; or give user %s a copy, as root: install -o %s "
               "-m 0600 %s COPY, and name COPY in its place",
               grouped ? "a user of group" : "user",
               grouped ? process_group_name(info->st_gid, name)
                       : process_name_user(info->st_uid, name),
               user, user, quoted);
    free(quoted);
    return false;
}

static bool process_hint_mode(const char *path, struct error *err)
{
    char *quoted = process_quote(path);

    error_hint(err, "chmod u+r %s", quoted);
    free(quoted);
    return false;
}

bool process_tell_owner(const char *path, struct error *err)
{
    char owner[256];
    struct stat info;

    if (access(path, R_OK) == 0 || errno != EACCES || stat(path, &info) != 0)
        return false;
    error_detail(err, "it belongs to user %s and has mode %04o; pgvigil runs as user %s",
                 process_name_user(info.st_uid, owner), (unsigned)(info.st_mode & 07777),
                 process_user_name());
    if (info.st_uid == geteuid())
        return process_hint_mode(path, err);
    if (info.st_uid != 0 || (info.st_gid != 0 && (info.st_mode & S_IRGRP) != 0))
        return process_hint_shared(path, &info, err);
    return process_hint_owner(path, err);
}

bool process_hint_owner(const char *path, struct error *err)
{
    char *quoted = process_quote(path);

    error_hint(err, "as root: chown %s: %s", process_user_name(), quoted);
    free(quoted);
    return false;
}

bool process_hint_group(const char *path, struct error *err)
{
    char *quoted = process_quote(path), group[256];

    error_hint(err, "as root: chgrp %s %s && chmod 0640 %s", process_group_name(getegid(), group),
               quoted, quoted);
    free(quoted);
    return false;
}

/* What one group may read already is not taken from it: it is we who are the wrong user. */
bool process_hint_reader(const char *path, struct error *err)
{
    char group[256];
    struct stat info;

    if (stat(path, &info) != 0 || info.st_gid == 0 || (info.st_mode & S_IRGRP) == 0)
        return process_hint_group(path, err);
    return error_hint(err, "run it as a user of group %s, who may read \"%s\"",
                      process_group_name(info.st_gid, group), path);
}

/* Whom the directory belongs to, or the one that it would be made in. */
static uid_t process_directory_owner(const char *path)
{
    char *at = mem_strdup(path), *slash;
    struct stat info = {.st_uid = 0};

    while (stat(at, &info) != 0 && (slash = strrchr(at, '/')) != NULL && slash != at)
        *slash = '\0';
    free(at);
    return info.st_uid;
}

bool process_hint_directory(const char *path, struct error *err)
{
    const uid_t owner = process_directory_owner(path);
    char name[256];

    if (owner != 0 && owner != geteuid())
        return error_hint(err, "run it as user %s, whom \"%s\" belongs to",
                          process_name_user(owner, name), path);

    char *quoted = process_quote(path);
    error_hint(err, "as root: install -d -o %s -m 700 %s", process_user_name(), quoted);
    free(quoted);
    return false;
}

const char *process_host_name(void)
{
    static _Thread_local char name[256];

    if (gethostname(name, sizeof(name) - 1) != 0 || name[0] == '\0')
        snprintf(name, sizeof(name), "localhost");
    return name;
}

int process_processors(void)
{
    cpu_set_t allowed;

    if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0 && CPU_COUNT(&allowed) > 0)
        return CPU_COUNT(&allowed);
    /* More processors than a cpu_set_t holds. */
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 && online < 65536 ? (int)online : 1;
}
