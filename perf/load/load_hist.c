#include "load_hist.h"

/* One writer, so a plain store is enough: it only has to be seen whole. */
static void bump(uint64_t *counter, uint64_t by)
{
    __atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + by, __ATOMIC_RELAXED);
}

static uint64_t look(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

uint32_t mr_load_hist_bucket(uint64_t us)
{
    if (us > MR_LOAD_HIST_MAX_US) {
        us = MR_LOAD_HIST_MAX_US;
    }
    if (us < 2 * MR_LOAD_HIST_HALF) {
        return (uint32_t)us;
    }
    uint32_t shift = 63u - (uint32_t)__builtin_clzll(us) - 10u; /* us >> shift is in [1024, 2048) */
    return shift * MR_LOAD_HIST_HALF + (uint32_t)(us >> shift);
}

uint64_t mr_load_hist_bucket_us(uint32_t bucket)
{
    if (bucket < 2 * MR_LOAD_HIST_HALF) {
        return bucket;
    }
    uint32_t shift = bucket / MR_LOAD_HIST_HALF - 1;
    uint64_t mantissa = bucket - shift * MR_LOAD_HIST_HALF;
    return ((mantissa + 1) << shift) - 1;
}

void mr_load_hist_record(struct mr_load_hist *hist, uint64_t us)
{
    if (us > MR_LOAD_HIST_MAX_US) {
        us = MR_LOAD_HIST_MAX_US;
        bump(&hist->over, 1);
    }
    bump(&hist->counts[mr_load_hist_bucket(us)], 1);
    bump(&hist->sum_us, us);
    bump(&hist->count, 1);
    if (us > look(&hist->max_us)) {
        __atomic_store_n(&hist->max_us, us, __ATOMIC_RELAXED);
    }
}

void mr_load_hist_add(struct mr_load_hist *to, const struct mr_load_hist *from)
{
    uint64_t count = 0;
    for (uint32_t bucket = 0; bucket < MR_LOAD_HIST_BUCKETS; bucket++) {
        uint64_t seen = look(&from->counts[bucket]);
        to->counts[bucket] += seen;
        count += seen;
    }
    to->count += count; /* not from->count: the sum must fit the buckets */
    to->sum_us += look(&from->sum_us);
    to->over += look(&from->over);
    uint64_t max_us = look(&from->max_us);
    to->max_us = max_us > to->max_us ? max_us : to->max_us;
}

void mr_load_hist_subtract(struct mr_load_hist *to, const struct mr_load_hist *from)
{
    to->max_us = 0;
    for (uint32_t bucket = 0; bucket < MR_LOAD_HIST_BUCKETS; bucket++) {
        to->counts[bucket] -= from->counts[bucket];
        if (to->counts[bucket] != 0) {
            to->max_us = mr_load_hist_bucket_us(bucket);
        }
    }
    to->count -= from->count;
    to->sum_us -= from->sum_us;
    to->over -= from->over;
}

uint64_t mr_load_hist_percentile_us(const struct mr_load_hist *hist, double percent)
{
    double   part = (double)hist->count * percent / 100.0;
    uint64_t rank = (uint64_t)part;
    if ((double)rank < part || rank == 0) {
        rank++;
    }
    uint64_t seen = 0;
    for (uint32_t bucket = 0; bucket < MR_LOAD_HIST_BUCKETS && hist->count > 0; bucket++) {
        seen += hist->counts[bucket];
        if (seen >= rank) {
            uint64_t us = mr_load_hist_bucket_us(bucket);
            return us < hist->max_us ? us : hist->max_us;
        }
    }
    return hist->max_us;
}
