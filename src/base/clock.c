/* clock.c - moments and their texts */
#include "pgvigil/clock.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define CLOCK_DAY (INT64_C(86400) * CLOCK_SECOND)
#define CLOCK_END (INT64_C(253402300800) * CLOCK_SECOND) /* 10000-01-01 */

int64_t clock_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * CLOCK_SECOND + now.tv_nsec / 1000;
}

int64_t clock_monotonic(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * CLOCK_SECOND + now.tv_nsec / 1000;
}

void clock_sleep(int64_t microseconds)
{
    if (microseconds <= 0)
        return;
    struct timespec wait = {.tv_sec = (time_t)(microseconds / CLOCK_SECOND),
                            .tv_nsec = (long)(microseconds % CLOCK_SECOND) * 1000};
    nanosleep(&wait, NULL);
}

/* Whole seconds, towards the past; the rest is 0..999999. */
static time_t clock_split(int64_t moment, int *fraction)
{
    int64_t seconds = moment / CLOCK_SECOND;
    int64_t rest = moment % CLOCK_SECOND;

    if (rest < 0) {
        rest += CLOCK_SECOND;
        seconds--;
    }
    *fraction = (int)rest;
    return (time_t)seconds;
}

static void clock_format_fraction(char text[8], int fraction)
{
    text[0] = '\0';
    if (fraction > 0)
        snprintf(text, 8, ".%06d", fraction % 1000000);
}

/* "2026-11-20" and "02:00:00" with `separator` between; strftime would not pad the year. */
static void clock_format_tm(const struct tm *tm, char separator, char text[CLOCK_TEXT_SIZE])
{
    snprintf(text, CLOCK_TEXT_SIZE, "%04ld-%02u-%02u%c%02u:%02u:%02u", tm->tm_year + 1900L,
             (unsigned)(tm->tm_mon + 1) % 100, (unsigned)tm->tm_mday % 100, separator,
             (unsigned)tm->tm_hour % 100, (unsigned)tm->tm_min % 100, (unsigned)tm->tm_sec % 100);
}

char *clock_format(int64_t moment, char text[CLOCK_TEXT_SIZE])
{
    int fraction;
    time_t seconds = clock_split(moment, &fraction);
    char digits[8];
    struct tm tm;

    memset(&tm, 0, sizeof(tm));
    gmtime_r(&seconds, &tm);
    clock_format_tm(&tm, 'T', text);
    clock_format_fraction(digits, fraction);
    size_t length = strlen(text);
    snprintf(text + length, CLOCK_TEXT_SIZE - length, "%sZ", digits);
    return text;
}

char *clock_format_local(int64_t moment, char text[CLOCK_TEXT_SIZE])
{
    int fraction;
    time_t seconds = clock_split(moment, &fraction);
    char digits[8];
    struct tm tm;

    memset(&tm, 0, sizeof(tm));
    localtime_r(&seconds, &tm);
    clock_format_tm(&tm, ' ', text);
    clock_format_fraction(digits, fraction);

    long offset = tm.tm_gmtoff < 0 ? -tm.tm_gmtoff : tm.tm_gmtoff;
    unsigned hours = (unsigned)(offset / 3600) % 100, minutes = (unsigned)(offset / 60 % 60);
    size_t length = strlen(text);
    int more = snprintf(text + length, CLOCK_TEXT_SIZE - length, "%s%c%02u", digits,
                        tm.tm_gmtoff < 0 ? '-' : '+', hours);
    if (minutes != 0 && more > 0 && (length += (size_t)more) < CLOCK_TEXT_SIZE)
        snprintf(text + length, CLOCK_TEXT_SIZE - length, ":%02u", minutes);
    return text;
}

char *clock_format_local_up(int64_t moment, char text[CLOCK_TEXT_SIZE])
{
    return clock_format_local((moment + CLOCK_SECOND - 1) / CLOCK_SECOND * CLOCK_SECOND, text);
}

/* Exactly `count` digits at *at, which moves behind them. */
static bool clock_take_number(const char **at, int count, int minimum, int maximum, int *number)
{
    *number = 0;
    for (int i = 0; i < count; i++, (*at)++) {
        if (!isdigit((unsigned char)**at))
            return false;
        *number = *number * 10 + (**at - '0');
    }
    return *number >= minimum && *number <= maximum;
}

static bool clock_take_char(const char **at, char wanted)
{
    if (**at != wanted)
        return false;
    (*at)++;
    return true;
}

static bool clock_is_leap(int year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int clock_days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    return days[month - 1] + (month == 2 && clock_is_leap(year) ? 1 : 0);
}

/* A date and a time of day as written, in whatever zone. */
struct clock_fields {
    int year, month, day, hour, minute, second, microsecond;
};

static bool clock_take_date(const char **at, const char *separator, struct clock_fields *fields)
{
    const size_t width = strlen(separator);

    if (!clock_take_number(at, 4, 1970, 9999, &fields->year) || strncmp(*at, separator, width) != 0)
        return false;
    *at += width;
    if (!clock_take_number(at, 2, 1, 12, &fields->month) || strncmp(*at, separator, width) != 0)
        return false;
    *at += width;
    return clock_take_number(at, 2, 1, clock_days_in_month(fields->year, fields->month),
                             &fields->day);
}

static bool clock_take_time(const char **at, struct clock_fields *fields)
{
    fields->second = 0;
    fields->microsecond = 0;
    if (!clock_take_number(at, 2, 0, 23, &fields->hour) || !clock_take_char(at, ':') ||
        !clock_take_number(at, 2, 0, 59, &fields->minute))
        return false;
    if (!clock_take_char(at, ':'))
        return true;
    if (!clock_take_number(at, 2, 0, 59, &fields->second))
        return false;
    if (!clock_take_char(at, '.'))
        return true;
    if (!isdigit((unsigned char)**at))
        return false;
    for (int unit = 100000; isdigit((unsigned char)**at); (*at)++, unit /= 10) {
        if (unit == 0)
            return false;
        fields->microsecond += (**at - '0') * unit;
    }
    return true;
}

/* The zone at *at, up to the end of the text; *local when there is none. */
static bool clock_take_zone(const char **at, bool *local, int *offset_seconds)
{
    int hours, minutes = 0;

    *local = **at == '\0';
    *offset_seconds = 0;
    if (*local || (**at == 'Z' && (*at)[1] == '\0'))
        return true;
    clock_take_char(at, ' ');
    if (strcmp(*at, "UTC") == 0)
        return true;
    int sign = **at == '-' ? -1 : 1;
    if (!clock_take_char(at, '+') && !clock_take_char(at, '-'))
        return false;
    if (!clock_take_number(at, 2, 0, 15, &hours))
        return false;
    if (**at != '\0') {
        clock_take_char(at, ':');
        if (!clock_take_number(at, 2, 0, 59, &minutes) || **at != '\0')
            return false;
    }
    *offset_seconds = sign * (hours * 3600 + minutes * 60);
    return true;
}

/* Days from 1970-01-01 to a date not before it, counted by the Gregorian calendar's rules. */
static int64_t clock_days(int year, int month, int day)
{
    int64_t before = year - 1;
    int64_t days = before * 365 + before / 4 - before / 100 + before / 400 - 719162;

    for (int i = 1; i < month; i++)
        days += clock_days_in_month(year, i);
    return days + day - 1;
}

static int64_t clock_from_utc(const struct clock_fields *fields)
{
    return clock_days(fields->year, fields->month, fields->day) * CLOCK_DAY +
           (fields->hour * INT64_C(3600) + fields->minute * 60 + fields->second) * CLOCK_SECOND +
           fields->microsecond;
}

/* mktime for a wish about daylight saving; true if the clocks really showed those fields. */
static bool clock_from_local(const struct clock_fields *fields, int is_summer, int64_t *moment)
{
    struct tm tm;
    struct tm shown;

    memset(&tm, 0, sizeof(tm));
    tm.tm_year = fields->year - 1900;
    tm.tm_mon = fields->month - 1;
    tm.tm_mday = fields->day;
    tm.tm_hour = fields->hour;
    tm.tm_min = fields->minute;
    tm.tm_sec = fields->second;
    tm.tm_isdst = is_summer;
    errno = 0;
    time_t seconds = mktime(&tm);
    if ((seconds == (time_t)-1 && errno != 0) || !localtime_r(&seconds, &shown))
        return false;
    *moment = (int64_t)seconds * CLOCK_SECOND + fields->microsecond;
    return shown.tm_year == fields->year - 1900 && shown.tm_mon == fields->month - 1 &&
           shown.tm_mday == fields->day && shown.tm_hour == fields->hour &&
           shown.tm_min == fields->minute && shown.tm_sec == fields->second;
}

/* When clocks are put back an hour comes twice, and recovery must not guess which was meant. */
static bool clock_local(const char *text, const struct clock_fields *fields, int64_t *moment,
                        struct error *err)
{
    int64_t winter, summer;

    if (!clock_from_local(fields, -1, moment))
        return error_set(err, ERROR_USAGE, "time \"%s\" does not exist in the local time zone",
                         text);
    if (clock_from_local(fields, 0, &winter) && clock_from_local(fields, 1, &summer) &&
        winter != summer) {
        error_set(err, ERROR_USAGE, "time \"%s\" is ambiguous in the local time zone", text);
        return error_hint(err, "Give the zone too, for example \"%s+00\" for UTC.", text);
    }
    return true;
}

bool clock_parse(const char *text, int64_t *moment, struct error *err)
{
    struct clock_fields fields;
    const char *at = text;
    int64_t result;
    int offset;
    bool local;

    if (!clock_take_date(&at, "-", &fields) ||
        (!clock_take_char(&at, 'T') && !clock_take_char(&at, ' ')) ||
        !clock_take_time(&at, &fields) || !clock_take_zone(&at, &local, &offset)) {
        error_set(err, ERROR_USAGE, "invalid time \"%s\"", text);
        return error_hint(err, "A time is written as \"2026-11-20 02:00:00.123456+01\" or "
                               "\"2026-11-20T01:00:00Z\"; seconds, fraction and zone (otherwise "
                               "local time) may be left out.");
    }
    if (!local)
        result = clock_from_utc(&fields) - offset * CLOCK_SECOND;
    else if (!clock_local(text, &fields, &result, err))
        return false;
    if (result < 0 || result >= CLOCK_END)
        return error_set(err, ERROR_USAGE, "time \"%s\" is out of range", text);
    *moment = result;
    return true;
}

char *clock_format_compact(int64_t moment, char text[CLOCK_COMPACT_SIZE])
{
    int fraction;
    struct tm tm;

    /* What does not fit into the form is shown as its nearest end. */
    moment = moment < 0 ? 0 : moment >= CLOCK_END ? CLOCK_END - 1 : moment;
    time_t seconds = clock_split(moment, &fraction);
    memset(&tm, 0, sizeof(tm));
    gmtime_r(&seconds, &tm);
    snprintf(text, CLOCK_COMPACT_SIZE, "%04u%02u%02uT%02u%02u%02uZ",
             (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)(tm.tm_mon + 1) % 100,
             (unsigned)tm.tm_mday % 100, (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100,
             (unsigned)tm.tm_sec % 100);
    return text;
}

bool clock_parse_compact(const char *text, int64_t *moment)
{
    struct clock_fields fields = {.microsecond = 0};
    const char *at = text;

    if (!clock_take_date(&at, "", &fields) || !clock_take_char(&at, 'T') ||
        !clock_take_number(&at, 2, 0, 23, &fields.hour) ||
        !clock_take_number(&at, 2, 0, 59, &fields.minute) ||
        !clock_take_number(&at, 2, 0, 59, &fields.second) || !clock_take_char(&at, 'Z') ||
        *at != '\0')
        return false;
    *moment = clock_from_utc(&fields);
    return true;
}
