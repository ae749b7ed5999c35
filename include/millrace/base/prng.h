/*
 * prng: a small seeded generator (splitmix64) for jitter, ids and tests. Not for secrets.
 */
#ifndef MILLRACE_BASE_PRNG_H
#define MILLRACE_BASE_PRNG_H

#include <stdint.h>

struct mr_prng {
    uint64_t state;
};

/* Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014). */
static inline uint64_t mr_prng_next(struct mr_prng *prng)
{
    uint64_t z = prng->state += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

/* Uniform in [0, bound); bound > 0. The bias is below 2^-32 for bounds below 2^32. */
static inline uint64_t mr_prng_below(struct mr_prng *prng, uint64_t bound)
{
    return (uint64_t)(((unsigned __int128)mr_prng_next(prng) * bound) >> 64);
}

#endif
