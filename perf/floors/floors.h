/*
 * floors: what this machine allows when nothing is done beyond the bytes: the denominators of a report.
 *
 *   serve   a broker without a broker: speaks the protocol; drops what it gets, or (durable=FILE) writes
 *           each round of requests once, O_DIRECT, flushes, and answers: the bare loop under ours
 *   send    a plain send loop over loopback, and its receiver
 *   sends   the ways that the kernel has of sending what lies in memory (floor_send.c)
 *   receive the ways that it has of receiving requests (floor_receive.c)
 *   disk    write, write and flush, read, by size
 *   commit  ways to make a commit of some logs durable (floor_commit.c)
 *   logs    a commit of 1 KiB for each of many logs: through a journal, or into a file of each (floor_logs.c)
 *   cpu     CRC-32C and memcpy, from cache and from memory
 */
#ifndef MILLRACE_PERF_FLOORS_H
#define MILLRACE_PERF_FLOORS_H

#include <stdbool.h>
#include <stdint.h>

struct mr_floors_options {
    uint32_t    port;       /* serve: 0 is any, printed           */
    const char *durable;    /* serve: a file to write; NULL: drop */
    uint32_t    flush;      /* serve: 0: do not flush what was written */
    uint32_t    partitions; /* serve: of every topic              */
    uint32_t    fetch_bytes; /* serve: of the batch that every fetch gets per partition */
    uint32_t    bytes;      /* send: of one send()                */
    double      seconds;    /* of each measurement                */
    const char *directory;  /* disk, commit, logs: where to put a file          */
};

/* Each prints one JSON object to stdout (serve: when it ends) and returns an exit status. */
int mr_floors_serve(const struct mr_floors_options *options);
int mr_floors_send(const struct mr_floors_options *options);
int mr_floors_sends(const struct mr_floors_options *options);
int mr_floors_receive(const struct mr_floors_options *options);
int mr_floors_disk(const struct mr_floors_options *options);
int mr_floors_commit(const struct mr_floors_options *options);
int mr_floors_logs(const struct mr_floors_options *options);
int mr_floors_cpu(const struct mr_floors_options *options);

/* A pair of TCP sockets, connected over loopback; false: errno. */
bool mr_floors_connect(int fds[2]);

/* CLOCK_MONOTONIC; CPU of the calling thread. */
uint64_t mr_floors_now_ns(void);
uint64_t mr_floors_cpu_ns(void);

#endif
