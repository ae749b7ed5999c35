/*
 * sim_swarm: which trouble a run has, and the lots of each.
 *
 * Swarm testing: a run that has everything finds less than many runs that each have some of it, because
 * faults hide each other (a connection that is always reset never fills a queue). So a seed switches
 * each class of sim_trouble.def on or off. Every class draws from a stream of its own: switching one off
 * leaves the lots of the others alone, which is what makes a failure small (--only).
 *
 * Thread: the simulation's one.
 */
#ifndef MILLRACE_TESTS_SIM_SWARM_H
#define MILLRACE_TESTS_SIM_SWARM_H

#include "millrace/base/prng.h"

#include <stdbool.h>
#include <stdint.h>

enum mr_sim_trouble {
#define TROUBLE(name_, chance_, text_) MR_SIM_TROUBLE_##name_,
#include "sim_trouble.def"
#undef TROUBLE
    MR_SIM_TROUBLE_COUNT
};

/* A set of classes is an uint64_t with the bits MR_SIM_TROUBLE_BIT(cut). */
#define MR_SIM_TROUBLE_BIT(name) (1ull << MR_SIM_TROUBLE_##name)
#define MR_SIM_TROUBLE_ALL       ((1ull << MR_SIM_TROUBLE_COUNT) - 1)
#define MR_SIM_TROUBLE_ANY       UINT64_MAX /* as the seed says */

struct mr_sim_swarm {
    uint64_t       on; /* a set */
    bool           is_calm; /* nothing happens any more */
    struct mr_prng streams[MR_SIM_TROUBLE_COUNT];
};

/* `only`: the classes that are on, MR_SIM_TROUBLE_ANY: by lot. */
void mr_sim_swarm_init(struct mr_sim_swarm *swarm, uint64_t seed, uint64_t only);

/* Whether the run has this class; true in the calm phase too. */
bool mr_sim_swarm_has(const struct mr_sim_swarm *swarm, enum mr_sim_trouble trouble);

/* One time in `one_in`, while the class is on and it is not calm. */
bool mr_sim_swarm_hits(struct mr_sim_swarm *swarm, enum mr_sim_trouble trouble, uint64_t one_in);

/* Uniform in [0, bound), from the class's stream. */
uint64_t mr_sim_swarm_draw(struct mr_sim_swarm *swarm, enum mr_sim_trouble trouble, uint64_t bound);

/* "reset,cut": the classes of a set; at most `size` bytes. */
void mr_sim_swarm_text(uint64_t on, char *out, uint32_t size);

/* The set of such a text; false: an unknown name. */
bool mr_sim_swarm_parse(const char *text, uint64_t *on);

const char *mr_sim_swarm_name(enum mr_sim_trouble trouble);
const char *mr_sim_swarm_what(enum mr_sim_trouble trouble);

#endif
