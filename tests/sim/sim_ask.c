#include "sim_ask.h"

#include "millrace/base/fmt.h"
#include "millrace/kafka/api.h"
#include "millrace/kafka/msg.h"

void mr_sim_ask_coordinator(struct mr_sim_actor *actor, struct mr_str key, int8_t key_type, struct mr_now now)
{
    struct mr_find_coordinator_request request;
    MR_DEFAULTS(find_coordinator_request, &request);
    request.key = key;
    request.key_type = key_type;
    mr_sim_actor_send(actor, MR_API_FIND_COORDINATOR, 3, &request, 0, true, now);
}

void mr_sim_ask_join(struct mr_sim_actor *actor, const struct mr_sim_ask_member *member,
                     const struct mr_sim_ask_terms *terms, struct mr_now now)
{
    struct mr_join_group_request          request;
    struct mr_join_group_request_protocol protocol;
    MR_DEFAULTS(join_group_request, &request);
    MR_DEFAULTS(join_group_request_protocol, &protocol);
    protocol.name = terms->protocol;
    protocol.metadata = terms->metadata;
    request.group_id = member->group;
    request.session_timeout_ms = terms->session_ms;
    request.rebalance_timeout_ms = terms->rebalance_ms;
    request.member_id = member->id;
    request.group_instance_id = member->instance;
    request.protocol_type = terms->type;
    request.protocols = &protocol;
    request.protocols_count = 1;
    mr_sim_actor_send(actor, MR_API_JOIN_GROUP, 9, &request, 0, true, now);
}

void mr_sim_ask_heartbeat(struct mr_sim_actor *actor, const struct mr_sim_ask_member *member, uint64_t user,
                          struct mr_now now)
{
    struct mr_heartbeat_request request;
    MR_DEFAULTS(heartbeat_request, &request);
    request.group_id = member->group;
    request.generation_id = member->generation;
    request.member_id = member->id;
    request.group_instance_id = member->instance;
    mr_sim_actor_send(actor, MR_API_HEARTBEAT, 4, &request, user, true, now);
}

void mr_sim_ask_leave(struct mr_sim_actor *actor, const struct mr_sim_ask_member *member, struct mr_now now)
{
    struct mr_leave_group_request                 request;
    struct mr_leave_group_request_member_identity identity;
    MR_DEFAULTS(leave_group_request, &request);
    MR_DEFAULTS(leave_group_request_member_identity, &identity);
    identity.member_id = member->id;
    request.group_id = member->group;
    request.members = &identity;
    request.members_count = 1;
    mr_sim_actor_send(actor, MR_API_LEAVE_GROUP, 5, &request, 0, true, now);
}

void mr_sim_ask_offsets(struct mr_sim_actor *actor, const struct mr_sim_ask_offsets *ask, struct mr_now now)
{
    static int32_t                        indexes[MR_SIM_ASK_PARTS] = {0, 1, 2, 3};
    struct mr_offset_fetch_request        request;
    struct mr_offset_fetch_request_group  group;
    struct mr_offset_fetch_request_topics topic;
    mr_assert(ask->partitions <= MR_SIM_ASK_PARTS);
    MR_DEFAULTS(offset_fetch_request, &request);
    MR_DEFAULTS(offset_fetch_request_group, &group);
    MR_DEFAULTS(offset_fetch_request_topics, &topic);
    topic.name = ask->topic;
    topic.partition_indexes = indexes;
    topic.partition_indexes_count = (int32_t)ask->partitions;
    group.group_id = ask->group;
    group.topics = &topic;
    group.topics_count = 1;
    request.groups = &group;
    request.groups_count = 1;
    request.require_stable = ask->is_stable;
    mr_sim_actor_send(actor, MR_API_OFFSET_FETCH, ask->version, &request, 0, true, now);
}

uint32_t mr_sim_ask_share(uint32_t index, uint32_t count, uint32_t partitions)
{
    uint32_t mask = 0;
    for (uint32_t partition = index; partition < partitions; partition += count) {
        mask |= 1u << partition;
    }
    return mask;
}

void mr_sim_ask_keep(char to[MR_SIM_ASK_ID], struct mr_str text)
{
    mr_fmt(to, MR_SIM_ASK_ID, "%.*s", (int)(text.len > 0 ? text.len : 0), text.data);
}
