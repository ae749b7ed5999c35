/*
 * classic: the classic group protocol: join, sync, heartbeat, leave, and their timers. The inside:
 * what its files share; group.h has what others call.
 *
 *             join                all joined, or time              the leader's Sync
 *   Empty ------------> Preparing -----------------> Completing ---------------------> Stable
 *     ^                  |  ^  ^                          | join, leave, crash,           |
 *     |  nobody joined   |  |  +--------------------------+ no Sync in time               |
 *     +------------------+  +-------------------------------------------------------------+
 *       (record)                                                     (record)
 *
 *   classic_join, _sync, _leave   a request each: JoinGroup; SyncGroup; Heartbeat, LeaveGroup
 *   classic_rebalance             the phases between Stable and Completing, and their timers
 *   classic_settle                replay
 *   classic_member, _protocols, _answer   what they work with
 *
 * Two records settle a generation, and only replay makes the state Stable or Empty: the leader's
 * assignment, and the news that nobody is left. All else is conversation (group.h).
 *
 * Threads: control. Source: behaviour of Apache Kafka 4.4.
 */
#ifndef MILLRACE_CLASSIC_H
#define MILLRACE_CLASSIC_H

#include "coord/group/group.h"

#define MR_CLASSIC_NEW_MEMBER_MS (5 * 60 * 1000) /* for one that has never been in a generation */
#define MR_CLASSIC_PROTOCOLS_MAX 1000            /* names in one JoinGroup; clients send below 10 */

extern const struct mr_blob mr_classic_no_assignment;

static inline struct mr_group_env *mr_classic_env(const struct mr_group *group)
{
    return group->shard->env;
}

/* ---- classic_member.c ---- */

/* In the table of members of a shard. */
uint64_t mr_classic_member_hash(const struct mr_group *group, struct mr_str id);

/* A member or a pending id; NULL when absent. */
struct mr_classic_member *mr_classic_find_any(const struct mr_group *group, struct mr_str id);

/* A member that is not pending; NULL when absent. */
struct mr_classic_member *mr_classic_find(const struct mr_group *group, struct mr_str id);

/* The static member with this instance id; NULL when absent. */
struct mr_classic_member *mr_classic_find_instance(const struct mr_group *group,
                                                   struct mr_str instance_id);

/* Whether the member leads the group. */
bool mr_classic_leads(const struct mr_group *group, const struct mr_classic_member *member);

/* The member must be heard of within `ms`, or within its session timeout. */
void mr_classic_session_begin(struct mr_classic_member *member, int64_t ms, struct mr_now now);
void mr_classic_session_again(struct mr_classic_member *member, struct mr_now now);

/* The one timer of a group: a phase of a rebalance ends. */
void mr_classic_rebalance_timer(struct mr_group *group, int64_t ms, struct mr_now now);
void mr_classic_rebalance_timer_off(struct mr_group *group);

/* The longest rebalance timeout of the members. */
int32_t mr_classic_rebalance_ms(const struct mr_classic *classic);

/* Replace a string that the group owns. False: no memory, nothing changed. */
bool mr_classic_set_str(struct mr_group *group, struct mr_str *at, struct mr_str value);

/* Free a member that is in no list and no table. */
void mr_classic_member_free(struct mr_classic_member *member);

/* A member in no list yet. NULL: no memory or no room for its timers. */
struct mr_classic_member *mr_classic_member_new(struct mr_group *group, struct mr_str id,
                                                struct mr_str instance_id, struct mr_str client_id,
                                                struct mr_str client_host);

/* False: no memory, nothing changed. */
bool mr_classic_member_set_assignment(struct mr_classic_member *member, struct mr_blob assignment);

/* Put a member that has its protocols among the members. False: no memory. */
bool mr_classic_member_enter(struct mr_classic_member *member, struct mr_str protocol_type);

/* Take the waiting join of a member; NULL: there is none. */
struct mr_request *mr_classic_take_join(struct mr_classic_member *member);

/* The join waits for the generation; an older one of the member is refused. */
void mr_classic_await_join(struct mr_classic_member *member, struct mr_request *request,
                           struct mr_coord_out *out);

/* Answer what a member waits for, when it does not get it. */
void mr_classic_member_refuse(struct mr_classic_member *member, struct mr_str join_id,
                              int16_t error, struct mr_coord_out *out);

/* Forget a member or a pending id. The leader's place goes to the oldest that is left. */
void mr_classic_member_remove(struct mr_classic_member *member, struct mr_coord_out *out);

/* ---- classic_join.c ---- */

/* The rebalance timeout of a JoinGroup: in version 0 the session timeout. */
int32_t mr_classic_join_rebalance_ms(const struct mr_request *request);

/* ---- classic_protocols.c ---- */

/* Count a member in or out of the names that it supports. False: no memory. */
bool mr_classic_names_add(struct mr_group *group, const struct mr_classic_protocols *protocols);
void mr_classic_names_drop(struct mr_group *group, const struct mr_classic_protocols *protocols);

/* A copy of what a JoinGroup says, each name once; NULL: no memory. */
struct mr_classic_protocols *mr_classic_protocols_new(
    struct mr_heap *heap, int32_t count, const struct mr_join_group_request_protocol *from);
void mr_classic_protocols_free(struct mr_heap *heap, struct mr_classic_protocols *protocols);

bool mr_classic_protocols_has(const struct mr_classic_protocols *protocols, struct mr_str name);
bool mr_classic_protocols_equal(const struct mr_classic_protocols *a,
                                const struct mr_classic_protocols *b);

/* Whether a member joins with what it had. */
bool mr_classic_is_same_protocols(const struct mr_classic_protocols *have,
                                  const struct mr_join_group_request *join);

/* The joining member's type is the group's and everybody supports one of its protocols. */
bool mr_classic_is_supported(const struct mr_group *group,
                             const struct mr_join_group_request *join);

/* By votes: each member's is its first protocol that everybody supports. NULL: no members. */
const struct mr_classic_name *mr_classic_choose(const struct mr_classic *classic);

/* ---- classic_answer.c ---- */

/* Refuse a JoinGroup. */
void mr_classic_answer_join_error(struct mr_coord_out *out, const struct mr_group_shard *shard,
                                  struct mr_request *request, struct mr_str member_id,
                                  int16_t error);

/* Answer a JoinGroup with the generation as it is. */
void mr_classic_answer_join(struct mr_coord_out *out, const struct mr_classic_member *member,
                            struct mr_request *request, enum mr_coord_when when,
                            bool is_with_members, struct mr_str leader, bool is_skip_assignment);

/* Answer a SyncGroup; without an error when the assignment is durable. */
void mr_classic_answer_sync(struct mr_coord_out *out, const struct mr_group *group,
                            struct mr_request *request, int16_t error, struct mr_blob assignment);

/* ---- classic_rebalance.c ---- */

/* The join phase ends early when nobody is missing. */
void mr_classic_complete_join_if_all(struct mr_group *group, struct mr_coord_out *out);

/* Everybody must join again. Not while they already do. */
void mr_classic_prepare_rebalance(struct mr_group *group, struct mr_coord_out *out,
                                  const char *why);

/* Somebody came or went: begin a rebalance, or perhaps end the phase of one. */
void mr_classic_rebalance_or_complete(struct mr_group *group, struct mr_coord_out *out,
                                      const char *why);

#endif
