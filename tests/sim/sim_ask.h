/*
 * sim_ask: requests to coordinators that several kinds of actors send: members of classic groups (sim_member.c, sim_classic.c),
 * consumers and transactions.
 *
 * Thread: the simulation's one.
 */
#ifndef MILLRACE_TESTS_SIM_ASK_H
#define MILLRACE_TESTS_SIM_ASK_H

#include "sim_actor.h"

#define MR_SIM_ASK_ID    128u /* bytes of a member id that is kept */
#define MR_SIM_ASK_PARTS 4u   /* partitions of one OffsetFetch, at most */

/* A member of a classic group, as its requests name it. */
struct mr_sim_ask_member {
    struct mr_str group;
    struct mr_str id;       /* "": none yet */
    struct mr_str instance; /* null: none */
    int32_t       generation;
};

/* What it joins with: one protocol. */
struct mr_sim_ask_terms {
    int32_t        session_ms;
    int32_t        rebalance_ms;
    struct mr_str  type;
    struct mr_str  protocol;
    struct mr_blob metadata;
};

struct mr_sim_ask_offsets {
    struct mr_str group;
    struct mr_str topic;
    uint32_t      partitions; /* the first so many */
    int16_t       version;
    bool          is_stable; /* not while a transaction is open that commits some */
};

/* key_type: 0 a group's, 1 a transactional id's. The first one of groups also makes the topic of the offsets. */
void mr_sim_ask_coordinator(struct mr_sim_actor *actor, struct mr_str key, int8_t key_type, struct mr_now now);
void mr_sim_ask_join(struct mr_sim_actor *actor, const struct mr_sim_ask_member *member,
                     const struct mr_sim_ask_terms *terms, struct mr_now now);
/* A heartbeat carries `user` to its answer. */
void mr_sim_ask_heartbeat(struct mr_sim_actor *actor, const struct mr_sim_ask_member *member, uint64_t user,
                          struct mr_now now);
void mr_sim_ask_leave(struct mr_sim_actor *actor, const struct mr_sim_ask_member *member, struct mr_now now);
void mr_sim_ask_offsets(struct mr_sim_actor *actor, const struct mr_sim_ask_offsets *ask, struct mr_now now);

/* The partitions that a leader deals to member number `index` of `count`, as bits. */
uint32_t mr_sim_ask_share(uint32_t index, uint32_t count, uint32_t partitions);

/* A name of an answer, kept. */
void mr_sim_ask_keep(char to[MR_SIM_ASK_ID], struct mr_str text);

#endif
