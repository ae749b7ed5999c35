/*
 * sim_follower: a consumer at the end of "sim-0", with an incremental fetch session and long polls, which measures how
 * long it waits. While nothing disturbs (is_strict), a record that has been acknowledged must be there SLACK later, well
 * before its poll would have ended by itself: a wake-up that is lost is late, one that is lost for ever is never there.
 *
 * Memory: the caller's. Thread: the simulation's one.
 */
#ifndef MILLRACE_TESTS_SIM_FOLLOWER_H
#define MILLRACE_TESTS_SIM_FOLLOWER_H

#include "check_acked.h"
#include "sim_client.h"

struct mr_sim_follower {
    struct mr_sim_actor    actor; /* first */
    struct mr_check_acked *check;
    struct mr_uuid         topic; /* zero: not known yet */
    uint32_t               partitions;
    uint32_t               logs[MR_SIM_PARTITIONS];
    int64_t                offsets[MR_SIM_PARTITIONS]; /* read up to here */
    int64_t                told[MR_SIM_PARTITIONS];    /* what the session knows; -1: nothing */
    int64_t                starts[MR_SIM_PARTITIONS];  /* of the logs, known when the open Fetch was sent */
    uint64_t               behind_ns[MR_SIM_PARTITIONS]; /* a record has been there since; 0: none */
    int32_t                session; /* 0: none */
    int32_t                epoch;
    uint32_t               polls;
    bool                   is_strict; /* the world's: nothing disturbs */
};

void mr_sim_follower_init(struct mr_sim_follower *follower, struct mr_arena *arena, struct mr_check_acked *check,
                          uint64_t seed);

#endif
