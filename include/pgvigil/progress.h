/*
 * progress.h - how far a long job is
 *
 * On a terminal (stderr) one line is redrawn twice a second: "backup: 1.2 GB of 4.0 GB, 30 %,
 * 310 MB/s, 9 s left". Elsewhere nothing is drawn, and one log line appears each minute (LOG_INFO).
 * progress_add may be called from any thread. One display at a time.
 */
#ifndef PGVIGIL_PROGRESS_H
#define PGVIGIL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

void progress_start(const char *what, uint64_t total_bytes); /* total 0: not known yet */
void progress_add(uint64_t bytes);
void progress_stage(const char *what); /* replaces the text before the figures, e.g. "syncing" */
void progress_stop(void);
void progress_set_terminal(bool wanted); /* --quiet or --json: false. Default: isatty(2) */

#endif
