/*
 * sim_wait: wait.h without a kernel, for tests that run in one thread. mr_wait() returns at once and
 * notes until when it would have slept.
 */
#ifndef MILLRACE_TESTS_SIM_WAIT_H
#define MILLRACE_TESTS_SIM_WAIT_H

#include "millrace/wait.h"

#define MR_SIM_WAIT_SLOTS 1024u

struct mr_sim_wait_queue {
    struct mr_completion slots[MR_SIM_WAIT_SLOTS];
    uint32_t head;
    uint32_t tail;
};

struct mr_wait {
    struct mr_sim_wait_queue queues[MR_WAIT_TAG_COUNT];
    uint64_t until_ns; /* of the last mr_wait; MR_NEVER before the first */
    uint64_t wait_count;
};

void mr_sim_wait_init(struct mr_wait *wait);

/* What the kernel would have finished. False: the queue of its tag is full. */
bool mr_sim_wait_complete(struct mr_wait *wait, struct mr_completion completion);

#endif
