/*
 * sampler: copies of counters, made by the threads that own them.
 *
 *   asker: a new number, doorbells  >  each thread, between two turns: copy, "done"  >  asker: all of them, or not in time
 *
 * So cores count in plain memory. A thread looks at one number per turn; nobody waits but the asker. A thread that does not answer is
 * stuck: liveness is the same question.
 */
#ifndef MILLRACE_CONTROL_SAMPLER_H
#define MILLRACE_CONTROL_SAMPLER_H

#include "observe/metrics.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define MR_SAMPLER_PARTS (MR_CORES_MAX * 2 + 1)

struct mr_sampler {
    struct mr_metrics metrics; /* each part of it is written by its thread, between asked and done */
    _Atomic uint64_t asked;
    _Atomic uint64_t done[MR_SAMPLER_PARTS];
    uint32_t parts;
    int event_fd; /* a part is done */
    pthread_mutex_t lock; /* one asker at a time */
};

/* False: no descriptor. */
bool mr_sampler_init(struct mr_sampler *sampler, uint32_t parts);

/* The number that is asked for; a thread that has answered another one is to copy what it owns and say so. */
static inline uint64_t mr_sampler_asked(const struct mr_sampler *sampler)
{
    return atomic_load_explicit(&sampler->asked, memory_order_acquire);
}
void mr_sampler_done(struct mr_sampler *sampler, uint32_t part, uint64_t number);

/*
 * Ask; `wake` rings every thread. False: a thread has not answered within `timeout_ms`. Blocks; any thread but those
 * that answer.
 */
bool mr_sampler_take(struct mr_sampler *sampler, void (*wake)(void), uint32_t timeout_ms, struct mr_metrics *out);

#endif
