/*
 * load_schedule: when the requests of one connection are due, whatever the broker does.
 *
 * An open loop has intended starts that do not depend on answers; latency counts from them, so a stall of
 * the broker is felt by every request that was due in it (no coordinated omission). Nothing is queued:
 * the next intended start is asked for when the one before has been sent, late or not.
 *
 * A closed loop (interval 0) is due when it is asked.
 *
 * Pure; one thread.
 */
#ifndef MILLRACE_PERF_LOAD_SCHEDULE_H
#define MILLRACE_PERF_LOAD_SCHEDULE_H

#include "millrace/base/prng.h"

#include <stdbool.h>
#include <stdint.h>

struct mr_load_schedule {
    struct mr_prng prng;
    double         interval_ns; /* mean; 0: closed loop */
    double         due_ns;
    bool           is_poisson;
};

/* `place` of `of` connections that share a rate of `per_s` requests per second, from start_ns on. Constant
 * schedules are staggered over the interval, Poisson ones are independent. per_s 0: closed loop. */
void mr_load_schedule_init(struct mr_load_schedule *schedule, uint64_t start_ns, double per_s, uint32_t place,
                           uint32_t of, bool is_poisson, uint64_t seed);

/* The intended start of the next request; in a closed loop, now. */
uint64_t mr_load_schedule_due_ns(const struct mr_load_schedule *schedule, uint64_t now_ns);

/* That request was sent. */
void mr_load_schedule_next(struct mr_load_schedule *schedule);

#endif
