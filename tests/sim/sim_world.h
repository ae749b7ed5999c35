/*
 * sim_world: a whole broker and its clients in one thread, under one seed.
 *
 * Data core, storage core and control run their real turns on the simulated network, disk and clock, in
 * an order that the seed draws; time jumps to the next deadline when nobody has work. Connections
 * are reset in the middle of frames, the power is cut at random disk operations and steps, the process
 * is killed or stopped cleanly, and the broker starts again on what is left. After a calm phase
 * everything is read once more and compared with what was promised.
 *
 * Thread: one. Memory: address space of its own, given back when the run ends.
 */
#ifndef MILLRACE_TESTS_SIM_WORLD_H
#define MILLRACE_TESTS_SIM_WORLD_H

#include <stdbool.h>
#include <stdint.h>

struct mr_sim_result {
    bool     is_ok;
    char     why[512];   /* the violation; "" when there is none */
    uint64_t trace_hash; /* equal for equal seeds of one build */
    uint64_t steps;
    uint64_t acked, resets;
    uint32_t starts, power_cuts, kills, clean_stops;
};

/* Run one seed to its end. With is_verbose the broker's log goes to stderr. */
void mr_sim_world_run(uint64_t seed, bool is_verbose, struct mr_sim_result *result);

#endif
