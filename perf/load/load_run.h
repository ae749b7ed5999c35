/*
 * load_run: one run: what all threads share, and what each of them counts.
 */
#ifndef MILLRACE_PERF_LOAD_RUN_H
#define MILLRACE_PERF_LOAD_RUN_H

#include "load_hist.h"
#include "load_options.h"
#include "load_topic.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Written by one thread, read by the main thread at any time. */
struct mr_load_counts {
    _Atomic uint64_t requests; /* answered                                     */
    _Atomic uint64_t records;  /* acknowledged                                 */
    _Atomic uint64_t bytes;    /* of values and keys in them                   */
    _Atomic uint64_t wire;     /* of requests that were answered               */
    _Atomic uint64_t fetches;
    _Atomic uint64_t fetched_records;
    _Atomic uint64_t fetched_bytes; /* of values and keys, as this run writes them */
    _Atomic uint64_t fetched_wire;  /* of batches                                  */
    _Atomic uint64_t connects; /* of a storm, answered */
    _Atomic uint64_t commits;  /* of committers, acknowledged */
    _Atomic uint64_t errors;
    _Atomic uint64_t lost; /* connections */
    _Atomic uint64_t waiting; /* requests without answer */
};

struct mr_load_verify;

struct mr_load_run {
    const struct mr_load_options *options;
    struct mr_load_topic         *topic;  /* the main thread's; others read */
    struct mr_load_verify        *verify; /* NULL: not asked for */
    int16_t                       produce_version;
    int16_t                       fetch_version;
    uint64_t                      start_ns;   /* of the first requests        */
    uint64_t                      measure_ns; /* [measure, end) is measured   */
    uint64_t                      end_ns;
    double                        rate_per_s;
    _Atomic bool                  is_started;  /* the times are set */
    _Atomic bool                  is_stopping; /* no new requests */
    _Atomic bool                  is_ended;    /* threads return  */
};

static inline void mr_load_count(_Atomic uint64_t *counter, uint64_t by)
{
    /* One writer: no locked instruction is needed. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + by, memory_order_relaxed);
}

#endif
