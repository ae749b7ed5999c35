/*
 * threads: who runs which turn. Builds the broker out of the plan, starts its threads, waits.
 *
 *   core thread     clocks > data turn > publish > storage turn > publish > ring doorbells > wait
 *   control thread  clocks > control turn > publish > ring doorbells > wait
 *   main thread     signals
 *
 * Each thread makes its own io_uring, so that only its owner ever submits to it.
 */
#ifndef MILLRACE_CONTROL_THREADS_H
#define MILLRACE_CONTROL_THREADS_H

#include "millrace/control.h"
#include "millrace/plan.h"

#include "millrace/net/nic.h"

#include <stdbool.h>
#include <stdint.h>

#define MR_THREADS_LISTENERS 16

struct mr_threads_params {
    const struct mr_config *config;
    const struct mr_plan *plan; /* measured */
    struct mr_endpoint listeners[MR_THREADS_LISTENERS];
    uint32_t listener_count;
    struct mr_nic *lanes[MR_NIC_LANES]; /* of the card, one for each data core; NULL: kernel sockets */
    const struct mr_nic_params *nic_params;
    struct mr_log_dir dirs[MR_DIRS_MAX]; /* that of the metadata log first */
    uint32_t dir_count;
    struct mr_str cluster_id;
};

/*
 * Run the broker until it has stopped: SIGTERM or SIGINT stop it cleanly, a second one ends the process
 * at once. Returns the exit code: 0 stopped cleanly, 1 failed (the log says why).
 */
int mr_threads_run(const struct mr_threads_params *params);

/* Bytes of one thread's io_uring and queues, for the plan. */
uint64_t mr_threads_wait_bytes(const struct mr_plan *plan);

#endif
