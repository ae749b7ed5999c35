/*
 * sim_consumer: a member of a consumer group of the new protocol (KIP-848): it joins, heartbeats, gives
 * partitions back and takes others, commits and reads offsets, leaves, or falls silent until it is thrown out.
 * Each of its lives speaks one of both protocols (the classic one: sim_classic.c), so that the group changes its own.
 *
 * What they hold in common is checked as it happens:
 *   owners    nobody is given a partition that another one has: it was not asked for it back, and its session
 *             is not over by its own clock
 *   session   who was heard of, and answered, is not out before its session is over by its own clock
 *   commits   as check_group.h, and none is taken from one whose partition another one has
 *
 * Thread: the simulation's one.
 */
#ifndef MILLRACE_TESTS_SIM_CONSUMER_H
#define MILLRACE_TESTS_SIM_CONSUMER_H

#include "check_group.h"
#include "sim_actor.h"
#include "sim_ask.h"

#define MR_SIM_CONSUMERS  3u
#define MR_SIM_CONSUMERS_LED 8u /* members that one assignment can name: some are gone and not missed yet */
#define MR_SIM_SESSION_MS 400 /* group.consumer.session.timeout.ms of the broker */

struct mr_sim_consumer {
    struct mr_sim_actor      actor; /* first */
    struct mr_sim_consumers *all;
    uint32_t                 number;
    uint32_t                 joins; /* each under a new id */
    int32_t                  epoch; /* 0: not in the group */
    uint32_t                 owned; /* partitions, a mask */
    uint64_t                 session_ns; /* until then it may believe that it owns them */
    uint64_t                 giving_ns; /* until then it works on with what it is to give back; 0: with nothing */
    struct mr_uuid           topic_id;   /* of what it owns */
    bool                     is_heard;   /* every heartbeat since it joined was answered */
    uint64_t                 read_at;    /* of the open OffsetFetch */
    bool                     is_coordinator_known;
    bool                     is_done;

    bool     is_classic; /* in this life */
    char     id[MR_SIM_ASK_ID];    /* from the broker; "": none yet */
    bool     must_sync;
    bool     is_leader;
    char     members[MR_SIM_CONSUMERS_LED][MR_SIM_ASK_ID]; /* the leader's */
    uint32_t member_count;
    uint32_t given; /* by SyncGroup: it has them when a heartbeat says that it is still a member */
};

struct mr_sim_consumers {
    struct mr_check_group  check;
    struct mr_sim_consumer members[MR_SIM_CONSUMERS];
    uint64_t               assigned; /* how often a partition was taken */
};

#define MR_SIM_CONSUMERS_GROUP MR_STR("sim-consumers")

/* It is no member any more; its next life begins. */
void mr_sim_consumer_is_out(struct mr_sim_consumer *c);

/* Partitions that it has from now on. A violation when another member has one. */
void mr_sim_consumer_take(struct mr_sim_consumer *c, uint32_t given, struct mr_now now);

/* Errors that a client waits out; a violation for any other. */
void mr_sim_consumer_wait(struct mr_sim_consumer *c, int16_t error, const char *what, struct mr_now now);

/* sim_classic.c: a life in the classic protocol: what comes before it has partitions; heartbeats and leaving; answers. */
bool mr_sim_classic_join(struct mr_sim_consumer *c, struct mr_now now);
void mr_sim_classic_heartbeat(struct mr_sim_consumer *c, struct mr_now now);
void mr_sim_classic_leave(struct mr_sim_consumer *c, struct mr_now now);
void mr_sim_classic_answer(struct mr_sim_consumer *c, const struct mr_sim_call *call, const void *response,
                           struct mr_now now);

void mr_sim_consumers_init(struct mr_sim_consumers *all, struct mr_arena *arena, uint64_t seed);

#endif
