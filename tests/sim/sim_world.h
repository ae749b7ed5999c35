/*
 * sim_world: a whole broker and its clients in one thread, under one seed.
 *
 * Data core, storage core and control run their real turns on the simulated network, disk and clock, in
 * an order that the seed draws; time jumps to the next deadline when nobody has work. What goes wrong is
 * the swarm's (sim_swarm.h): lives of the broker end in power cuts, kills and clean stops, and the next
 * one starts on what is left. After a calm phase everything is read once more and compared with what
 * was promised.
 *
 * Thread: one. Memory: address space of its own, given back when the run ends.
 */
#ifndef MILLRACE_TESTS_SIM_WORLD_H
#define MILLRACE_TESTS_SIM_WORLD_H

#include <stdbool.h>
#include <stdint.h>

struct mr_sim_params {
    uint64_t    seed;
    uint64_t    only;       /* classes of trouble, MR_SIM_TROUBLE_ANY: as the seed says */
    bool        is_verbose; /* the broker's log goes to stderr */

    /* A crash point instead of lives by lot: one life that serves for a while and stops cleanly, in which power
     * goes at disk operation `point` (from 1; 0: no point), and, when point_again is not 0, a recovery
     * in which it goes again at that operation. */
    uint64_t point;
    uint64_t point_again;
    uint32_t point_cut; /* enum mr_sim_cut */
    uint32_t point_steps; /* of that life, and of one with a failure; 0: as many as bring up everybody */

    /* Or one life in which use number `nth` (from 1; 0: no such life) of something fails (sim_nth.h). */
    uint64_t nth;
    uint32_t nth_way;
};

struct mr_sim_result {
    bool     is_ok;
    bool     is_past_end; /* the life of a crash point had fewer operations, or uses */
    char     why[512];   /* the violation; "" when there is none */
    uint64_t on;         /* the classes of trouble that the run had */
    uint64_t trace_hash; /* equal for equal seeds, whatever the compiler */
    uint64_t steps;
    uint64_t simulated_ns;
    uint64_t acked, resets, rots;
    uint64_t changes, commits; /* administration that was answered, offsets committed */
    uint64_t transactions;     /* committed */
    uint64_t compacted;        /* reads of a compacted log that did not find every offset */
    uint32_t states_cut;       /* of transactions when power went at a crash point: a bit for each (sim_states.h) */
    int32_t  generations;
    uint32_t starts, power_cuts, kills, clean_stops;
};

/* Run one seed to its end. */
void mr_sim_world_run(const struct mr_sim_params *params, struct mr_sim_result *result);

#endif
