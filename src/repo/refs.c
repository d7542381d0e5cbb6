/* refs.c - the packs that a backup needs */
#include "pgvigil/refs.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pgvigil/mem.h"
#include "pgvigil/object.h"
#include "pgvigil/pack.h"
#include "pgvigil/repository_ask.h"

#define HEADER "pgvigil refs 1\n"
#define HEADER_LENGTH (sizeof(HEADER) - 1)
#define LEVEL 3
#define LINE_GUESS 128                           /* bytes of a line, about */
#define TEXT_MAXIMUM ((size_t)512 * 1024 * 1024) /* over four million packs, over 128 TiB */
#define TEXT_SLACK ((size_t)1024 * 1024)
#define TEXT_RATIO 16 /* every line has a digest, which does not compress: no list does that well */

void refs_add(struct refs *refs, const struct refs_pack *pack)
{
    refs->packs = mem_grow(refs->packs, refs->count, &refs->capacity, sizeof(*refs->packs));
    refs->packs[refs->count++] = *pack;
}

static int compare(const void *a, const void *b)
{
    const struct refs_pack *left = a, *right = b;

    return layout_compare_packs(&left->pack, &right->pack);
}

void refs_sort(struct refs *refs)
{
    if (refs->count > 1)
        qsort(refs->packs, refs->count, sizeof(*refs->packs), compare);
}

const struct refs_pack *refs_find(const struct refs *refs, const struct layout_pack *pack)
{
    struct refs_pack wanted = {.pack = *pack};

    if (refs->count == 0)
        return NULL;
    return bsearch(&wanted, refs->packs, refs->count, sizeof(*refs->packs), compare);
}

void refs_free(struct refs *refs)
{
    free(refs->packs);
    *refs = (struct refs)REFS_INIT;
}

void refs_encode(const struct refs *refs, struct buffer *text)
{
    char name[LAYOUT_NAME_SIZE];
    char hex[DIGEST_SHA256_HEX_SIZE];

    buffer_reserve(text, HEADER_LENGTH + refs->count * LINE_GUESS);
    buffer_append(text, HEADER, HEADER_LENGTH);
    for (size_t i = 0; i < refs->count; i++) {
        const struct refs_pack *pack = &refs->packs[i];

        buffer_append_format(text, "%s\t%" PRIu64 "\t%s\t%s\t%" PRIu32 "\t%" PRIu32 "\n",
                             layout_pack(&pack->pack, name), pack->size,
                             digest_to_hex(pack->sha256, DIGEST_SHA256_SIZE, hex),
                             pack->kind == REFS_MAP ? "map" : "data", pack->blocks, pack->live);
    }
}

/* What is left of the line that is being parsed. */
struct line {
    const char *at;
    const char *end; /* where its newline is */
};

/* The next field, without the tab behind it; a line that has no more gives an empty one. */
static size_t take_field(struct line *line, const char **field)
{
    const char *tab = memchr(line->at, '\t', (size_t)(line->end - line->at));
    const char *stop = tab ? tab : line->end;

    *field = line->at;
    line->at = tab ? tab + 1 : line->end;
    return (size_t)(stop - *field);
}

/* Decimal without leading zeros, so that a number has one text only. */
static bool take_number(struct line *line, uint64_t maximum, uint64_t *number)
{
    const char *field;
    size_t length = take_field(line, &field);

    *number = 0;
    if (length == 0 || length > 19 || (field[0] == '0' && length > 1))
        return false;
    for (size_t i = 0; i < length; i++) {
        if (field[i] < '0' || field[i] > '9')
            return false;
        *number = *number * 10 + (uint64_t)(field[i] - '0');
    }
    return *number <= maximum;
}

static bool take_pack(struct line *line, struct layout_pack *pack)
{
    char name[LAYOUT_NAME_SIZE];
    const char *field;
    size_t length = take_field(line, &field);

    if (length >= sizeof(name) || memchr(field, '\0', length))
        return false;
    memcpy(name, field, length);
    name[length] = '\0';
    return layout_parse_pack(name, pack);
}

static bool take_digest(struct line *line, unsigned char sha256[DIGEST_SHA256_SIZE])
{
    char hex[DIGEST_SHA256_HEX_SIZE];
    const char *field;

    if (take_field(line, &field) != sizeof(hex) - 1)
        return false;
    memcpy(hex, field, sizeof(hex) - 1);
    hex[sizeof(hex) - 1] = '\0';
    return digest_from_hex(hex, sha256, DIGEST_SHA256_SIZE);
}

static bool take_kind(struct line *line, enum refs_kind *kind)
{
    const char *field;
    size_t length = take_field(line, &field);

    *kind = length == 3 ? REFS_MAP : REFS_DATA;
    return (length == 3 && memcmp(field, "map", 3) == 0) ||
           (length == 4 && memcmp(field, "data", 4) == 0);
}

/* The reason why the line is not one of ours, or NULL. */
static const char *parse_line(struct line *line, struct refs_pack *pack)
{
    uint64_t blocks, live;

    if (!take_pack(line, &pack->pack))
        return "not a pack's name";
    if (!take_number(line, PACK_SIZE, &pack->size) || pack->size <= TRAILER_SIZE)
        return "impossible size";
    if (!take_digest(line, pack->sha256))
        return "not a SHA-256";
    if (!take_kind(line, &pack->kind))
        return "unknown kind of pack";
    if (!take_number(line, UINT32_MAX, &blocks) || !take_number(line, blocks, &live))
        return "impossible number of blocks";
    if (line->at != line->end || line->end[-1] == '\t')
        return "more fields than there should be";
    pack->blocks = (uint32_t)blocks;
    pack->live = (uint32_t)live;
    return NULL;
}

static bool parse_lines(const char *text, size_t length, struct refs *refs, struct error *err)
{
    const char *at = text + HEADER_LENGTH, *end = text + length;

    for (size_t number = 2; at < end; number++) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        struct line line = {.at = at, .end = newline};
        struct refs_pack pack;
        const char *reason;

        if (!newline)
            reason = "the line is cut off";
        else if (newline == at)
            reason = "empty line";
        else
            reason = parse_line(&line, &pack);
        if (!reason && refs->count > 0 && compare(&refs->packs[refs->count - 1], &pack) >= 0)
            reason = "out of order";
        if (reason)
            return error_set(err, ERROR_INTEGRITY, "damaged list of packs, line %zu: %s", number,
                             reason);
        refs_add(refs, &pack);
        at = newline + 1;
    }
    return true;
}

bool refs_parse(const char *text, size_t length, struct refs *refs, struct error *err)
{
    *refs = (struct refs)REFS_INIT;
    if (length < HEADER_LENGTH || memcmp(text, HEADER, HEADER_LENGTH) != 0)
        return error_set(err, ERROR_INTEGRITY,
                         "damaged list of packs, line 1: not a list of packs of this format");
    if (!parse_lines(text, length, refs, err)) {
        refs_free(refs);
        return false;
    }
    return true;
}

bool refs_store(struct repository *repository, int64_t run, const struct refs *refs,
                unsigned char sha256[DIGEST_SHA256_SIZE], struct error *err)
{
    struct buffer text = BUFFER_INIT;
    char name[LAYOUT_NAME_SIZE];
    enum store_outcome outcome;
    struct trailer trailer;

    layout_refs(run, name);
    refs_encode(refs, &text);
    bool ok = object_put(repository, name, TRAILER_REFS, OBJECT_ZSTD, LEVEL, text.data, text.length,
                         &outcome, &trailer, err);
    buffer_free(&text);
    if (!ok)
        return false;
    if (outcome == STORE_TAKEN)
        return object_refuse_taken(repository, name, err);
    memcpy(sha256, trailer.stored_sha256, DIGEST_SHA256_SIZE);
    return true;
}

/* Keeps a forged list from taking memory without end. */
static size_t text_maximum(const struct trailer *trailer)
{
    if (trailer->stored_length > (TEXT_MAXIMUM - TEXT_SLACK) / TEXT_RATIO)
        return TEXT_MAXIMUM;
    return TEXT_SLACK + (size_t)trailer->stored_length * TEXT_RATIO;
}

struct refs_wanted {
    int64_t run;
    const unsigned char *sha256;
    struct refs *refs;
};

static bool refs_fetch_from(struct repository *repository, void *context, struct error *err)
{
    const struct refs_wanted *wanted = context;
    struct buffer text = BUFFER_INIT;
    char name[LAYOUT_NAME_SIZE];
    struct trailer trailer;
    bool ok;

    layout_refs(wanted->run, name);
    *wanted->refs = (struct refs)REFS_INIT;
    ok = object_trailer(repository, name, TRAILER_REFS, &trailer, err) &&
         object_get_buffer(repository, name, TRAILER_REFS, OBJECT_ZSTD, text_maximum(&trailer),
                           &text, &trailer, err);
    if (!ok && err->code == ERROR_NOT_FOUND)
        err->code = ERROR_INTEGRITY; /* a committed backup needs it */
    if (ok && memcmp(trailer.stored_sha256, wanted->sha256, DIGEST_SHA256_SIZE) != 0)
        ok = error_set(err, ERROR_INTEGRITY,
                       "\"%s\" in repository \"%s\" is not the one that the backup was made with",
                       name, repository->name);
    if (ok && !refs_parse(buffer_text(&text), text.length, wanted->refs, err))
        ok = error_context(err, "could not read \"%s\" in repository \"%s\"", name,
                           repository->name);
    buffer_free(&text);
    return ok;
}

bool refs_fetch(struct repository *repository, int64_t run,
                const unsigned char sha256[DIGEST_SHA256_SIZE], struct refs *refs,
                struct error *err)
{
    struct refs_wanted wanted = {.run = run, .sha256 = sha256, .refs = refs};

    return repository_ask(repository, refs_fetch_from, &wanted, err);
}

/* A listing of packs under way. */
struct refs_seeing {
    const struct refs *refs;
    bool *lacking;
    size_t count; /* of those that lack */
};

static bool refs_see(const char *name, const struct store_info *info, void *context,
                     struct error *err)
{
    struct refs_seeing *seeing = context;
    struct layout_pack id;
    const struct refs_pack *pack;

    (void)err;
    if (!layout_parse_pack(name, &id) || (pack = refs_find(seeing->refs, &id)) == NULL ||
        pack->size != info->size || !seeing->lacking[pack - seeing->refs->packs])
        return true;
    seeing->lacking[pack - seeing->refs->packs] = false;
    seeing->count--;
    return true;
}

bool refs_find_lacking(struct repository *repository, const struct refs *refs, bool *lacking,
                       size_t *count, struct error *err)
{
    struct refs_seeing seeing = {.refs = refs, .lacking = lacking, .count = refs->count};

    for (size_t i = 0; i < refs->count; i++)
        lacking[i] = true;
    for (size_t i = 0; i < refs->count; i++) {
        char prefix[LAYOUT_NAME_SIZE];

        if (i > 0 && refs->packs[i].pack.run == refs->packs[i - 1].pack.run)
            continue;
        layout_pack_prefix(refs->packs[i].pack.run, prefix);
        if (!repository_list(repository, prefix, NULL, refs_see, &seeing, err))
            return false;
    }
    *count = seeing.count;
    return true;
}
