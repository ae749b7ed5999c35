/*
 * load_hist: how often each latency was seen, from 1 us to 60 s, exact to three digits.
 *
 * Buckets double in width every 1024 of them, as in Gil Tene's HdrHistogram: a value below 2048 us has a
 * bucket of its own, one below 4096 us shares it with one neighbour, and so on; the error is at most
 * 1 in 1024. Longer than 60 s counts as 60 s and is remembered.
 *
 *      0 .. 2047 | 2048 .. 4095, by 2 | 4096 .. 8191, by 4 | ... | up to 60 s
 *
 * One thread records; another may read at any time and sees a recent state (relaxed atomics).
 */
#ifndef MILLRACE_PERF_LOAD_HIST_H
#define MILLRACE_PERF_LOAD_HIST_H

#include <stdint.h>

#define MR_LOAD_HIST_MAX_US  60000000ull
#define MR_LOAD_HIST_HALF    1024u
#define MR_LOAD_HIST_BUCKETS ((15u + 2u) * MR_LOAD_HIST_HALF) /* 2048 << 15 us are more than 60 s */

struct mr_load_hist {
    uint64_t counts[MR_LOAD_HIST_BUCKETS];
    uint64_t count;
    uint64_t sum_us;
    uint64_t max_us;
    uint64_t over; /* longer than 60 s */
};

void mr_load_hist_record(struct mr_load_hist *hist, uint64_t us);

/* to += from, to -= from. `from` may be recorded into meanwhile; what is subtracted was added before. */
void mr_load_hist_add(struct mr_load_hist *to, const struct mr_load_hist *from);
void mr_load_hist_subtract(struct mr_load_hist *to, const struct mr_load_hist *from);

/* The smallest value that at least `percent` of the recorded ones do not exceed; 0 when there are none. */
uint64_t mr_load_hist_percentile_us(const struct mr_load_hist *hist, double percent);

/* Which bucket a value falls into, and the largest value of a bucket. */
uint32_t mr_load_hist_bucket(uint64_t us);
uint64_t mr_load_hist_bucket_us(uint32_t bucket);

#endif
