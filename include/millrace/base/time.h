/*
 * time: the two clocks as values. Nobody reads a clock here: an edge reads both once per turn and
 * passes them down.
 */
#ifndef MILLRACE_BASE_TIME_H
#define MILLRACE_BASE_TIME_H

#include <stdint.h>

/* Deadlines, timeouts and elections use mono_ns only; record timestamps and retention unix_ms only. */
struct mr_now {
    uint64_t mono_ns;
    int64_t  unix_ms;
};

#define MR_NEVER UINT64_MAX /* a deadline that never comes */

#define MR_NS_PER_US 1000ull
#define MR_NS_PER_MS 1000000ull
#define MR_NS_PER_S  1000000000ull

/* now + ms milliseconds, saturating; negative ms counts as 0. */
static inline uint64_t mr_deadline_ms(uint64_t mono_ns, int64_t ms)
{
    uint64_t add = ms <= 0 ? 0 : (uint64_t)ms;
    return add > (MR_NEVER - 1 - mono_ns) / MR_NS_PER_MS ? MR_NEVER - 1
                                                         : mono_ns + add * MR_NS_PER_MS;
}

/* now - then, saturating: `then` may be whatever a client or a file says. */
static inline int64_t mr_age_ms(int64_t now_ms, int64_t then_ms)
{
    int64_t age;
    if (__builtin_sub_overflow(now_ms, then_ms, &age)) {
        return then_ms < 0 ? INT64_MAX : INT64_MIN;
    }
    return age;
}

static inline uint64_t mr_earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

#endif
