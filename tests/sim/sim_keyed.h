/*
 * sim_keyed: a client that writes keys, values and tombstones to "keyed", a compacted topic with short segments, and reads it
 * again and again from its start (check_keyed.h). One request at a time, so that one that was not answered has happened, or
 * never will.
 *
 * Thread: the simulation's one.
 */
#ifndef MILLRACE_TESTS_SIM_KEYED_H
#define MILLRACE_TESTS_SIM_KEYED_H

#include "check_keyed.h"
#include "sim_actor.h"

struct mr_sim_keyed {
    struct mr_sim_actor   actor; /* first */
    struct mr_check_keyed check;
    bool                  is_created;
    bool                  is_reading;
    bool                  is_final; /* the read that began when it was to be quiet */
    bool                  is_done;
    int64_t               position;
    int64_t               skew_ms; /* of the wall clock and the other one; it changes when that jumps */
    uint32_t              first;   /* of the open Produce */
    uint32_t              count;
    uint64_t              compacted; /* reads that did not find every offset */
};

void mr_sim_keyed_init(struct mr_sim_keyed *keyed, struct mr_arena *arena, uint64_t seed);

#endif
