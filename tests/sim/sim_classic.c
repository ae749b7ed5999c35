/*
 * A life of a simulated consumer in the classic protocol. It is eager: what it has it gives up before it
 * joins again. In a classic group it may be the leader, who deals the partitions out once it is known that the topic
 * exists: to a broker that assigns, partitions of a topic that does not exist are nobody's.
 */
#include "sim_consumer.h"

#include "millrace/base/bytes.h"
#include "millrace/base/fmt.h"
#include "millrace/kafka/api.h"
#include "millrace/kafka/errors.h"
#include "millrace/kafka/msg.h"
#include "sim_client.h"

#define REBALANCE_MS 60000 /* longer than any answer is lost for: only its session ends a member */
#define TOPIC_BYTES  64u
#define FIXED_BYTES  (2u + 4u + 2u + 4u + 4u) /* version, topics, length of a name, partitions, user data */
#define MESSAGE_MAX  (FIXED_BYTES + TOPIC_BYTES + 4u * MR_CHECK_GROUP_PARTITIONS + 4u)

/* ---- Kafka's consumer protocol, version 1, of one topic ---- */

static uint8_t *put16(uint8_t *at, uint16_t value)
{
    mr_store_be16(at, value);
    return at + 2;
}

static uint8_t *put32(uint8_t *at, uint32_t value)
{
    mr_store_be32(at, value);
    return at + 4;
}

static uint8_t *put_name(uint8_t *at, struct mr_str name)
{
    mr_assert(name.len <= (int32_t)TOPIC_BYTES);
    at = put16(at, (uint16_t)name.len);
    memcpy(at, name.data, (size_t)name.len);
    return at + name.len;
}

static struct mr_blob subscription(uint8_t bytes[MESSAGE_MAX])
{
    uint8_t *at = put16(bytes, 1);
    at = put32(at, 1);
    at = put_name(at, mr_sim_topics[0]);
    at = put32(at, UINT32_MAX); /* no user data */
    at = put32(at, 0);          /* owns nothing */
    return (struct mr_blob){.data = bytes, .len = (int32_t)(at - bytes)};
}

static struct mr_blob assignment(uint8_t bytes[MESSAGE_MAX], uint32_t mask)
{
    uint8_t *at = put16(bytes, 1);
    uint32_t count = 0;
    for (uint32_t partition = 0; partition < MR_CHECK_GROUP_PARTITIONS; partition++) {
        count += mask >> partition & 1u;
    }
    at = put32(at, 1);
    at = put_name(at, mr_sim_topics[0]);
    at = put32(at, count);
    for (uint32_t partition = 0; partition < MR_CHECK_GROUP_PARTITIONS; partition++) {
        if ((mask >> partition & 1u) != 0) {
            at = put32(at, partition);
        }
    }
    at = put32(at, UINT32_MAX);
    return (struct mr_blob){.data = bytes, .len = (int32_t)(at - bytes)};
}

/* The partitions of an assignment, as a mask; the broker or a leader of this simulation made it. */
static uint32_t read_assignment(struct mr_sim_consumer *c, struct mr_blob bytes)
{
    uint32_t mask = 0;
    uint32_t head = 2u + 4u + 2u + (uint32_t)mr_sim_topics[0].len;
    if (bytes.len < 2 + 4 || mr_load_be32(bytes.data + 2) == 0) {
        return 0;
    }
    if (bytes.len < (int32_t)head + 4 ||
        bytes.len < (int32_t)(head + 4 + 4 * mr_load_be32(bytes.data + head))) {
        mr_sim_actor_refuse(&c->actor, "an assignment that cannot be read", bytes.len);
        return 0;
    }
    for (uint32_t index = 0; index < mr_load_be32(bytes.data + head); index++) {
        uint32_t partition = mr_load_be32(bytes.data + head + 4 + 4 * index);
        mask |= partition < MR_CHECK_GROUP_PARTITIONS ? 1u << partition : 0; /* the admin adds partitions */
    }
    return mask;
}

/* ---- Sending ---- */

static struct mr_sim_ask_member itself(const struct mr_sim_consumer *c)
{
    return (struct mr_sim_ask_member){.group = MR_SIM_CONSUMERS_GROUP,
                                      .id = mr_str(c->id),
                                      .instance = MR_STR_NULL,
                                      .generation = c->epoch};
}

static void send_join(struct mr_sim_consumer *c, struct mr_now now)
{
    uint8_t                        bytes[MESSAGE_MAX];
    const struct mr_sim_ask_member who = itself(c);
    const struct mr_sim_ask_terms  terms = {.session_ms = MR_SIM_SESSION_MS,
                                            .rebalance_ms = REBALANCE_MS,
                                            .type = MR_STR("consumer"),
                                            .protocol = MR_STR("range"),
                                            .metadata = subscription(bytes)};
    mr_sim_ask_join(&c->actor, &who, &terms, now);
}

static void send_sync(struct mr_sim_consumer *c, struct mr_now now)
{
    struct mr_sync_group_request            request;
    struct mr_sync_group_request_assignment assignments[MR_SIM_CONSUMERS_LED];
    uint8_t                                 bytes[MR_SIM_CONSUMERS_LED][MESSAGE_MAX];
    uint32_t                                count = c->is_leader && c->all->assigned > 0 ? c->member_count : 0;
    MR_DEFAULTS(sync_group_request, &request);
    for (uint32_t index = 0; index < count; index++) {
        MR_DEFAULTS(sync_group_request_assignment, &assignments[index]);
        assignments[index].member_id = mr_str(c->members[index]);
        assignments[index].assignment =
            assignment(bytes[index], mr_sim_ask_share(index, count, MR_CHECK_GROUP_PARTITIONS));
    }
    request.group_id = MR_SIM_CONSUMERS_GROUP;
    request.generation_id = c->epoch;
    request.member_id = mr_str(c->id);
    request.protocol_type = MR_STR("consumer");
    request.protocol_name = MR_STR("range");
    request.assignments = assignments;
    request.assignments_count = (int32_t)count;
    mr_sim_actor_send(&c->actor, MR_API_SYNC_GROUP, 5, &request, 0, true, now);
}

bool mr_sim_classic_join(struct mr_sim_consumer *c, struct mr_now now)
{
    if (c->must_sync) {
        send_sync(c, now);
    } else if (c->epoch == 0) {
        send_join(c, now);
    } else {
        return false;
    }
    return true;
}

void mr_sim_classic_heartbeat(struct mr_sim_consumer *c, struct mr_now now)
{
    const struct mr_sim_ask_member who = itself(c);
    mr_sim_ask_heartbeat(&c->actor, &who, 0, now);
}

void mr_sim_classic_leave(struct mr_sim_consumer *c, struct mr_now now)
{
    const struct mr_sim_ask_member who = itself(c);
    mr_sim_ask_leave(&c->actor, &who, now);
}

/* ---- Answers ---- */

/* It joins again, under its id unless that is gone. */
static void take_error(struct mr_sim_consumer *c, int16_t error, const char *what, struct mr_now now)
{
    if (error == MR_KAFKA_UNKNOWN_MEMBER_ID) {
        mr_sim_consumer_is_out(c);
        return;
    }
    c->epoch = 0;
    c->owned = 0;
    c->given = 0;
    c->must_sync = false;
    if (error != MR_KAFKA_ILLEGAL_GENERATION && error != MR_KAFKA_REBALANCE_IN_PROGRESS) {
        mr_sim_consumer_wait(c, error, what, now);
    }
    mr_sim_actor_rest(&c->actor, now, 20 * MR_NS_PER_MS);
}

static void take_join(struct mr_sim_consumer *c, const struct mr_join_group_response *response, struct mr_now now)
{
    if (response->error_code == MR_KAFKA_MEMBER_ID_REQUIRED) {
        mr_sim_ask_keep(c->id, response->member_id);
        return;
    }
    if (response->error_code != 0) {
        take_error(c, response->error_code, "JoinGroup failed for good", now);
        return;
    }
    mr_sim_ask_keep(c->id, response->member_id);
    c->epoch = response->generation_id;
    c->is_leader = mr_str_equal(response->leader, response->member_id);
    c->member_count = 0;
    for (int32_t at = 0; at < response->members_count && c->member_count < MR_SIM_CONSUMERS_LED; at++) {
        mr_sim_ask_keep(c->members[c->member_count++], response->members[at].member_id);
    }
    c->must_sync = true;
}

static void take_sync(struct mr_sim_consumer *c, const struct mr_sim_call *call,
                      const struct mr_sync_group_response *response, struct mr_now now)
{
    if (response->error_code != 0) {
        take_error(c, response->error_code, "SyncGroup failed for good", now);
        return;
    }
    c->must_sync = false;
    c->given = read_assignment(c, response->assignment);
    c->session_ns = call->sent_ns + MR_SIM_SESSION_MS * MR_NS_PER_MS;
}

/*
 * Only a heartbeat tells when the session began at the broker. One that comes too late says nothing: a broker that
 * loads answers it without looking, so the member begins anew.
 */
static void take_heartbeat(struct mr_sim_consumer *c, const struct mr_sim_call *call, int16_t error,
                           struct mr_now now)
{
    if (error != 0) {
        take_error(c, error, "Heartbeat failed for good", now);
        return;
    }
    uint64_t until_ns = call->sent_ns + MR_SIM_SESSION_MS * MR_NS_PER_MS;
    if (now.mono_ns >= c->session_ns || now.mono_ns >= until_ns) {
        take_error(c, MR_KAFKA_ILLEGAL_GENERATION, "", now);
        return;
    }
    c->session_ns = until_ns;
    mr_sim_consumer_take(c, c->given, now);
}

void mr_sim_classic_answer(struct mr_sim_consumer *c, const struct mr_sim_call *call, const void *response,
                           struct mr_now now)
{
    switch (call->key) {
    case MR_API_JOIN_GROUP:
        take_join(c, response, now);
        break;
    case MR_API_SYNC_GROUP:
        take_sync(c, call, response, now);
        break;
    case MR_API_HEARTBEAT:
        take_heartbeat(c, call, ((const struct mr_heartbeat_response *)response)->error_code, now);
        break;
    default:
        mr_assert(call->key == MR_API_LEAVE_GROUP); /* whatever it says, it is out */
        break;
    }
}
