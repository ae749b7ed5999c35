/*
 * sim_consumer: a member of a consumer group of the new protocol (KIP-848): it joins, heartbeats, gives
 * partitions back and takes others, commits and reads offsets, leaves, or falls silent until it is thrown out.
 *
 * What they hold in common is checked as it happens:
 *   owners    nobody is given a partition that another one has: it was not asked for it back, and its session
 *             is not over by its own clock
 *   commits   as check_group.h, and none is taken from one whose partition another one has
 *
 * Thread: the simulation's one.
 */
#ifndef MILLRACE_TESTS_SIM_CONSUMER_H
#define MILLRACE_TESTS_SIM_CONSUMER_H

#include "check_group.h"
#include "sim_actor.h"

#define MR_SIM_CONSUMERS  3u
#define MR_SIM_SESSION_MS 400 /* group.consumer.session.timeout.ms of the broker */

struct mr_sim_consumer {
    struct mr_sim_actor      actor; /* first */
    struct mr_sim_consumers *all;
    uint32_t                 number;
    uint32_t                 joins; /* each under a new id */
    int32_t                  epoch; /* 0: not in the group */
    uint32_t                 owned; /* partitions, a mask */
    uint64_t                 session_ns; /* until then it may believe that it owns them */
    struct mr_uuid           topic_id;   /* of what it owns */
    uint64_t                 read_at;    /* of the open OffsetFetch */
    bool                     is_coordinator_known;
    bool                     is_done;
};

struct mr_sim_consumers {
    struct mr_check_group  check;
    struct mr_sim_consumer members[MR_SIM_CONSUMERS];
    uint64_t               assigned; /* how often a partition was taken */
};

void mr_sim_consumers_init(struct mr_sim_consumers *all, struct mr_arena *arena, uint64_t seed);

#endif
