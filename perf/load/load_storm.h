/*
 * load_storm: connections that come and go: each connects, asks for ApiVersions, reads the answer and leaves with a reset,
 * so that no port of ours stays behind in TIME_WAIT.
 *
 * Open loop: a connection that is due later than PLACES others that are under way counts from when it was due. One thread.
 */
#ifndef MILLRACE_PERF_LOAD_STORM_H
#define MILLRACE_PERF_LOAD_STORM_H

#include "load_worker.h"

struct mr_load_storm;

/* `per_s` connections per second from this worker, to the run's broker. NULL: worker->error says why. */
struct mr_load_storm *mr_load_storm_open(struct mr_load_worker *worker, double per_s);

/* The times of the run are set. */
void mr_load_storm_start(struct mr_load_storm *storm);

/* Begin what is due; when the next one is, MR_NEVER while all places are taken or the run is stopping. */
uint64_t mr_load_storm_turn(struct mr_load_storm *storm);

/* After the loop's last turn. NULL is fine. */
void mr_load_storm_close(struct mr_load_storm *storm);

#endif
