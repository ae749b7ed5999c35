#include "load_schedule.h"

#include <math.h>

/* Exponentially distributed with the mean `interval_ns`: the gaps of a Poisson process. */
static double gap_ns(struct mr_load_schedule *schedule)
{
    double uniform = ((double)(mr_prng_next(&schedule->prng) >> 11) + 1.0) * 0x1p-53; /* (0, 1] */
    return -log(uniform) * schedule->interval_ns;
}

void mr_load_schedule_init(struct mr_load_schedule *schedule, uint64_t start_ns, double per_s, uint32_t place,
                           uint32_t of, bool is_poisson, uint64_t seed)
{
    *schedule = (struct mr_load_schedule){.prng = {.state = seed + place}, .is_poisson = is_poisson};
    schedule->due_ns = (double)start_ns;
    if (per_s <= 0) {
        return;
    }
    schedule->interval_ns = 1e9 * of / per_s;
    schedule->due_ns += is_poisson ? gap_ns(schedule) : schedule->interval_ns * place / of;
}

uint64_t mr_load_schedule_due_ns(const struct mr_load_schedule *schedule, uint64_t now_ns)
{
    return schedule->interval_ns > 0 ? (uint64_t)schedule->due_ns : now_ns;
}

void mr_load_schedule_next(struct mr_load_schedule *schedule)
{
    schedule->due_ns += schedule->is_poisson ? gap_ns(schedule) : schedule->interval_ns;
}
