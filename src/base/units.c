/* units.c - sizes and durations, as people write and read them */
#include "pgvigil/units.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit units_sizes[] = {
    {"B", 1},
    {"kB", UINT64_C(1) << 10},
    {"MB", UINT64_C(1) << 20},
    {"GB", UINT64_C(1) << 30},
    {"TB", UINT64_C(1) << 40},
    {NULL, 0},
};

#define UNITS_SECOND UINT64_C(1000000)

static const struct unit units_durations[] = {
    {"s", UNITS_SECOND},         {"min", 60 * UNITS_SECOND},      {"h", 3600 * UNITS_SECOND},
    {"d", 86400 * UNITS_SECOND}, {"w", 7 * 86400 * UNITS_SECOND}, {NULL, 0},
};

static const struct unit *units_find(const struct unit *table, const char *name)
{
    for (; table->name; table++) {
        if (strcmp(table->name, name) == 0)
            return table;
    }
    return NULL;
}

/* `billionths` of a unit, without going through floating point. */
static uint64_t units_share(uint64_t factor, uint64_t billionths)
{
    const uint64_t billion = 1000000000;

    return factor / billion * billionths + factor % billion * billionths / billion;
}

/* Digits of a whole number at *at; false on none or overflow. */
static bool units_take_digits(const char **at, uint64_t *number)
{
    *number = 0;
    if (!isdigit((unsigned char)**at))
        return false;
    for (; isdigit((unsigned char)**at); (*at)++) {
        if (__builtin_mul_overflow(*number, 10, number) ||
            __builtin_add_overflow(*number, (uint64_t)(**at - '0'), number))
            return false;
    }
    return true;
}

/* Up to 9 digits behind a point; *at stays where it is when there is no point. */
static bool units_take_fraction(const char **at, uint64_t *billionths)
{
    uint64_t place = 100000000;

    *billionths = 0;
    if (**at != '.')
        return true;
    (*at)++;
    if (!isdigit((unsigned char)**at))
        return false;
    for (; isdigit((unsigned char)**at); (*at)++, place /= 10) {
        if (place == 0)
            return false;
        *billionths += (uint64_t)(**at - '0') * place;
    }
    return true;
}

/* `bare` is the unit of a number without any; NULL: it must have one. */
static bool units_parse(const char *text, const struct unit *table, const struct unit *bare,
                        uint64_t *value)
{
    uint64_t whole, billionths;
    const char *at = text;
    const struct unit *unit = bare;

    if (!units_take_digits(&at, &whole))
        return false;
    bool fractional = *at == '.';
    if (!units_take_fraction(&at, &billionths))
        return false;
    if (*at != '\0') {
        while (*at == ' ')
            at++;
        unit = units_find(table, at);
    } else if (fractional) {
        return false;
    }
    return unit && !__builtin_mul_overflow(whole, unit->factor, &whole) &&
           !__builtin_add_overflow(whole, units_share(unit->factor, billionths), value);
}

bool units_parse_size(const char *text, uint64_t *bytes, struct error *err)
{
    if (units_parse(text, units_sizes, units_sizes, bytes))
        return true;
    error_set(err, ERROR_CONFIG, "invalid size \"%s\"", text);
    return error_hint(err, "A size is a number with one of the units B, kB, MB, GB and TB.");
}

bool units_parse_duration(const char *text, int64_t *microseconds, struct error *err)
{
    uint64_t value;

    if (units_parse(text, units_durations, NULL, &value) && value <= INT64_MAX) {
        *microseconds = (int64_t)value;
        return true;
    }
    error_set(err, ERROR_CONFIG, "invalid duration \"%s\"", text);
    return error_hint(
        err, "A duration is a number with one of the units s, min, h, d and w, as in \"30 d\".");
}

bool units_parse_integer(const char *text, long minimum, long maximum, long *value,
                         struct error *err)
{
    const char *at = text;
    bool negative = *at == '-';
    uint64_t number;
    long result;

    if (negative)
        at++;
    if (!isdigit((unsigned char)*at) || at[strspn(at, "0123456789")] != '\0')
        return error_set(err, ERROR_CONFIG, "\"%s\" is not a whole number", text);
    bool fits =
        units_take_digits(&at, &number) && !(negative ? __builtin_sub_overflow(0, number, &result)
                                                      : __builtin_add_overflow(0, number, &result));
    if (!fits || result < minimum || result > maximum)
        return error_set(err, ERROR_CONFIG, "%s is outside the valid range (%ld to %ld)", text,
                         minimum, maximum);
    *value = result;
    return true;
}

char *units_format_size(uint64_t bytes, char text[UNITS_TEXT_SIZE])
{
    const struct unit *unit = units_sizes;
    uint64_t tenths = 0, whole = 0;

    if (bytes < 1024) {
        snprintf(text, UNITS_TEXT_SIZE, "%u B", (unsigned)bytes);
        return text;
    }
    /* The unit is chosen after rounding: 1023.97 kB is "1.0 MB". */
    do {
        unit++;
        uint64_t rest = bytes % unit->factor;
        tenths = bytes / unit->factor * 10 + (rest * 10 + unit->factor / 2) / unit->factor;
        whole = bytes / unit->factor + (rest >= unit->factor / 2 ? 1 : 0);
    } while (tenths >= 10240 && unit[1].name);

    if (tenths < 1000)
        snprintf(text, UNITS_TEXT_SIZE, "%u.%u %s", (unsigned)(tenths / 10),
                 (unsigned)(tenths % 10), unit->name);
    else
        snprintf(text, UNITS_TEXT_SIZE, "%llu %s", (unsigned long long)whole, unit->name);
    return text;
}

static void units_format_pair(char text[UNITS_TEXT_SIZE], uint64_t large, const char *large_unit,
                              uint64_t small, const char *small_unit)
{
    if (small == 0)
        snprintf(text, UNITS_TEXT_SIZE, "%llu %s", (unsigned long long)large, large_unit);
    else
        snprintf(text, UNITS_TEXT_SIZE, "%llu %s %llu %s", (unsigned long long)large, large_unit,
                 (unsigned long long)small, small_unit);
}

char *units_format_duration(int64_t microseconds, char text[UNITS_TEXT_SIZE])
{
    uint64_t value = microseconds > 0 ? (uint64_t)microseconds : 0;
    uint64_t tenths = (value + 50000) / 100000;
    uint64_t seconds = (value + 500000) / 1000000;

    if (value < 1000000)
        snprintf(text, UNITS_TEXT_SIZE, "%u ms", (unsigned)(value / 1000));
    else if (tenths < 100 && tenths % 10 != 0)
        snprintf(text, UNITS_TEXT_SIZE, "%u.%u s", (unsigned)(tenths / 10),
                 (unsigned)(tenths % 10));
    else if (seconds < 60)
        snprintf(text, UNITS_TEXT_SIZE, "%u s", (unsigned)seconds);
    else if (seconds < 3600)
        units_format_pair(text, seconds / 60, "min", seconds % 60, "s");
    else if (seconds < 86400)
        units_format_pair(text, seconds / 3600, "h", seconds / 60 % 60, "min");
    else
        units_format_pair(text, seconds / 86400, "d", seconds / 3600 % 24, "h");
    return text;
}
