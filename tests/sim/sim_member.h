/*
 * sim_member: a member of a classic consumer group: it joins, syncs, sends heartbeats, commits and reads
 * offsets, leaves, or falls silent until it is thrown out. The leader gives each partition to one member.
 *
 * Each but the first has an instance id: now and then it is restarted, joins without a member id and takes the
 * place of its former life, whose member id must be fenced from then on.
 *
 * What it commits are not positions in a log but numbers unique in the run: the checker then knows which
 * commit a read returns.
 *
 * Thread: the simulation's one.
 */
#ifndef MILLRACE_TESTS_SIM_MEMBER_H
#define MILLRACE_TESTS_SIM_MEMBER_H

#include "check_group.h"
#include "sim_actor.h"
#include "sim_ask.h"

#define MR_SIM_MEMBERS_MAX 8u /* that one assignment can name */

enum mr_sim_member_phase {
    MR_SIM_MEMBER_OUT,    /* JoinGroup is next */
    MR_SIM_MEMBER_JOINED, /* SyncGroup is next */
    MR_SIM_MEMBER_STABLE,
    MR_SIM_MEMBER_AUDIT, /* the group is quiet: read what is committed, for the last time */
    MR_SIM_MEMBER_DONE,
};

struct mr_sim_member {
    struct mr_sim_actor      actor; /* first */
    struct mr_check_group   *check;
    uint32_t                 number;
    enum mr_sim_member_phase phase;
    char                     id[MR_SIM_ASK_ID]; /* the member id; "": none yet */
    char                     instance[16]; /* "": none */
    char                     former[MR_SIM_ASK_ID];  /* the member id that it had before it was restarted; "": none, or it was fenced */
    int16_t                  former_error; /* that this one was answered with; 0: not asked yet */
    int32_t                  generation;
    bool                     is_leader;
    char                     members[MR_SIM_MEMBERS_MAX][MR_SIM_ASK_ID]; /* the leader's */
    uint32_t                 member_count;
    uint32_t                 owned; /* partitions, a mask */
    uint64_t                 read_at; /* of the open OffsetFetch */
    bool                     is_coordinator_known;
    uint64_t                 joins, commits;
};

void mr_sim_member_init(struct mr_sim_member *member, struct mr_arena *arena, struct mr_check_group *check,
                        uint32_t number, uint64_t seed);

/* OffsetFetch of all partitions of the first topic, for a member of either protocol. */
void mr_sim_member_read(struct mr_sim_actor *actor, struct mr_str group_id, struct mr_now now);

#endif
