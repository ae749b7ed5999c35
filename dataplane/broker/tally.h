/*
 * tally: what a data core counts of its requests: how many of each API, and how long they took, from the last byte of a
 * request to the hand-over of its answer to the transport; a Fetch with the time that it waits for data.
 *
 * Thread: the data core. Cost: a few instructions a request; nobody reads a clock for it.
 */
#ifndef MILLRACE_TALLY_H
#define MILLRACE_TALLY_H

#include "broker/request.h"
#include "data_core.h"

static inline void mr_tally_arrived(struct mr_data_core *core, struct mr_request *request)
{
    uint16_t key = (uint16_t)request->header.key;
    request->arrived_ns = core->now.mono_ns;
    core->stats.requests++;
    if (!request->is_refused && key < MR_DATA_API_KEYS) {
        core->stats.api_requests[key]++;
    }
}

static inline enum mr_data_timed mr_tally_kind(int16_t key)
{
    return key == MR_API_PRODUCE ? MR_DATA_TIMED_PRODUCE : key == MR_API_FETCH ? MR_DATA_TIMED_FETCH : MR_DATA_TIMED_OTHER;
}

static inline void mr_tally_answered(struct mr_data_core *core, const struct mr_request *request)
{
    struct mr_data_times *times = &core->stats.times[mr_tally_kind(request->header.key)];
    uint64_t              us = (core->now.mono_ns - request->arrived_ns) / MR_NS_PER_US;
    uint32_t              bits = us == 0 ? 0 : 64u - (uint32_t)__builtin_clzll(us);
    times->counts[bits < MR_DATA_TIME_BUCKETS ? bits : MR_DATA_TIME_BUCKETS - 1]++;
    times->sum_us += us;
    core->stats.bytes_out += request->reply.bytes;
}

#endif
