/*
 * relief: readers that do not read must not keep the others from reading.
 *
 * A reply to a Fetch holds the pages that it lends until the peer has taken all of it. Pages for what is in files only
 * come from a small pool: a few peers that read a byte per second could hold all of it. So when a Fetch has waited for
 * its storage core for a second, the replies that their peers have not taken in a second are given up, the oldest
 * first, and their connections closed. Who reads slowly while nobody waits is left alone.
 *
 *   lending   requests whose replies lend pages, in the order in which they were sent
 *   reading   fetches that wait for storage, in the order in which they began
 *
 * Bound: a reader waits at most two seconds for each MR_RELIEF_SLICE slow ones before it. Thread: the data core.
 */
#ifndef MILLRACE_RELIEF_H
#define MILLRACE_RELIEF_H

#include "millrace/base/list.h"
#include "millrace/base/log.h"
#include "millrace/base/timer.h"

#define MR_RELIEF_SLICE 64u /* connections that are closed at once */

struct mr_data_core;
struct mr_fetch;
struct mr_request;

struct mr_relief {
    struct mr_list lending; /* struct mr_request.lending */
    struct mr_list reading; /* struct mr_fetch.link */
    struct mr_timer timer;
    struct mr_log_brake brake;
};

void mr_relief_init(struct mr_data_core *core);

/* A fetch begins to read; it leaves by mr_list_remove(&fetch->link). */
void mr_relief_reading(struct mr_fetch *fetch);

/* A reply that may lend pages is sent; its request leaves the list when it ends. */
void mr_relief_lending(struct mr_request *request);

void mr_relief_timer(struct mr_data_core *core);

#endif
