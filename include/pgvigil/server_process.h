/*
 * server_process.h - does a server run in a data directory?
 *
 * Asked before anything in it is changed. postmaster.pid alone does not tell: it may have been removed,
 * stay behind after a crash, or hold a number that means something only in the container of the server
 * (1, mostly). So the processes are looked at as well: each of a server's works in its data directory.
 * What cannot be seen from here is a server on another machine, or in a container beside ours.
 */
#ifndef PGVIGIL_SERVER_PROCESS_H
#define PGVIGIL_SERVER_PROCESS_H

/* The pid of one of its processes, or 0. */
long server_process_find(const char *directory);

#endif
