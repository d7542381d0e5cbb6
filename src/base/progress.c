/* progress.c - how far a long job is */
#include "pgvigil/progress.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "pgvigil/clock.h"
#include "pgvigil/log.h"
#include "pgvigil/units.h"

#define PROGRESS_DRAW_EVERY (CLOCK_SECOND / 2)
#define PROGRESS_LOG_EVERY (60 * CLOCK_SECOND)

/*
 * The rate is the mean of the stage so far until it is this old, then an exponential mean with this
 * time constant: steady from the start, and yet it follows when the work becomes slower.
 */
#define PROGRESS_MEMORY (20 * CLOCK_SECOND)

static atomic_bool progress_active;
static atomic_uint_least64_t progress_done;
static atomic_int_least64_t progress_due; /* whoever moves this on, draws */
static atomic_int progress_terminal = -1; /* -1: ask isatty */

/*
 * Guards all below, and the terminal's last line. Between progress_clear and progress_redraw log.c
 * holds it, so that no line is drawn into a message.
 */
static pthread_mutex_t progress_mutex = PTHREAD_MUTEX_INITIALIZER;
static char progress_what[64];
static uint64_t progress_total;
static bool progress_drawing; /* on a terminal */
static int64_t progress_stage_start;
static int64_t progress_measured;       /* when the rate was last brought up to date */
static uint64_t progress_measured_done; /* and what was done then */
static double progress_rate;            /* bytes per second; 0: not known */

void progress_set_terminal(bool wanted)
{
    atomic_store(&progress_terminal, wanted ? 1 : 0);
}

static bool progress_on_terminal(void)
{
    int wanted = atomic_load(&progress_terminal);

    return wanted >= 0 ? wanted == 1 : isatty(STDERR_FILENO) == 1;
}

static void progress_begin_stage(const char *what, int64_t now)
{
    snprintf(progress_what, sizeof(progress_what), "%s", what);
    progress_stage_start = now;
    progress_measured = now;
    progress_measured_done = atomic_load(&progress_done);
    progress_rate = 0;
}

static void progress_measure(uint64_t done, int64_t now)
{
    int64_t step = now - progress_measured;
    int64_t age = now - progress_stage_start;

    if (step < CLOCK_SECOND / 10 || done < progress_measured_done)
        return;
    double rate = (double)(done - progress_measured_done) * (double)CLOCK_SECOND / (double)step;
    double weight = (double)step / (double)(age < PROGRESS_MEMORY ? age : PROGRESS_MEMORY);
    progress_rate += (rate - progress_rate) * (weight < 1 ? weight : 1);
    progress_measured = now;
    progress_measured_done = done;
}

static void progress_append(char *line, size_t size, const char *text)
{
    size_t length = strlen(line);

    snprintf(line + length, size - length, "%s", text);
}

/* "backup: 1.2 GB of 4.0 GB, 30 %, 310 MB/s, 9 s left" */
static void progress_format(char *line, size_t size, int64_t now)
{
    uint64_t done = atomic_load(&progress_done);
    uint64_t total = progress_total;
    char first[UNITS_TEXT_SIZE], second[UNITS_TEXT_SIZE], part[96];

    progress_measure(done, now);
    if (total == 0) {
        snprintf(line, size, "%s: %s", progress_what, units_format_size(done, first));
    } else {
        /* Files grow while they are read: more than everything is everything. */
        double share = done < total ? (double)done / (double)total : 1;
        snprintf(line, size, "%s: %s of %s, %d %%", progress_what, units_format_size(done, first),
                 units_format_size(total, second), (int)(share * 100));
    }
    if (progress_rate < 1)
        return;
    snprintf(part, sizeof(part), ", %s/s", units_format_size((uint64_t)progress_rate, first));
    progress_append(line, size, part);
    if (done < total) {
        double left = (double)(total - done) / progress_rate;
        int64_t seconds = left < 1e9 ? (int64_t)left + 1 : 1000000000;
        snprintf(part, sizeof(part), ", %s left",
                 units_format_duration(seconds * CLOCK_SECOND, first));
        progress_append(line, size, part);
    }
}

/* A terminal that doesn't take it is no reason to disturb the work. */
static void progress_write(const char *text, size_t length)
{
    ssize_t ignored = write(STDERR_FILENO, text, length);

    (void)ignored;
}

static size_t progress_columns(void)
{
    struct winsize window;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) != 0 || window.ws_col < 2)
        return 79;
    return window.ws_col - 1U;
}

static void progress_draw(void)
{
    char line[256], output[300];

    progress_format(line, sizeof(line), clock_monotonic());
    size_t columns = progress_columns();
    if (columns < sizeof(line))
        line[columns] = '\0';
    int length = snprintf(output, sizeof(output), "\r%s\033[K", line);
    progress_write(output, (size_t)length);
}

static void progress_erase(void)
{
    static const char text[] = "\r\033[K";

    progress_write(text, sizeof(text) - 1);
}

static void progress_clear(void)
{
    pthread_mutex_lock(&progress_mutex);
    if (progress_drawing)
        progress_erase();
}

static void progress_redraw(void)
{
    if (progress_drawing)
        progress_draw();
    pthread_mutex_unlock(&progress_mutex);
}

void progress_start(const char *what, uint64_t total_bytes)
{
    int64_t now = clock_monotonic();

    pthread_mutex_lock(&progress_mutex);
    atomic_store(&progress_done, 0);
    progress_total = total_bytes;
    progress_begin_stage(what, now);
    progress_drawing = progress_on_terminal();
    atomic_store(&progress_due,
                 now + (progress_drawing ? PROGRESS_DRAW_EVERY : PROGRESS_LOG_EVERY));
    if (progress_drawing)
        progress_draw();
    pthread_mutex_unlock(&progress_mutex);
    log_set_display(progress_clear, progress_redraw);
    atomic_store(&progress_active, true);
}

/* Whoever draws or logs does it alone, and nobody waits for it. */
static void progress_show(int64_t now)
{
    char line[256];

    if (pthread_mutex_trylock(&progress_mutex) != 0)
        return;
    bool active = atomic_load(&progress_active); /* it may have been stopped meanwhile */
    bool drawing = progress_drawing;
    if (active && drawing)
        progress_draw();
    else
        progress_format(line, sizeof(line), now);
    pthread_mutex_unlock(&progress_mutex);
    if (active && !drawing)
        log_info("%s", line);
}

void progress_add(uint64_t bytes)
{
    atomic_fetch_add(&progress_done, bytes);
    if (!atomic_load(&progress_active))
        return;

    int64_t now = clock_monotonic();
    int_least64_t due = atomic_load(&progress_due);
    if (now < due)
        return;
    int64_t next = now + (progress_on_terminal() ? PROGRESS_DRAW_EVERY : PROGRESS_LOG_EVERY);
    if (atomic_compare_exchange_strong(&progress_due, &due, next))
        progress_show(now);
}

void progress_stage(const char *what)
{
    pthread_mutex_lock(&progress_mutex);
    progress_begin_stage(what, clock_monotonic());
    if (progress_drawing)
        progress_draw();
    pthread_mutex_unlock(&progress_mutex);
}

void progress_stop(void)
{
    atomic_store(&progress_active, false);
    log_set_display(NULL, NULL);
    pthread_mutex_lock(&progress_mutex);
    if (progress_drawing)
        progress_erase();
    progress_drawing = false;
    pthread_mutex_unlock(&progress_mutex);
}
