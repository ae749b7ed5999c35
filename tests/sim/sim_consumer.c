#include "sim_consumer.h"

#include "millrace/base/fmt.h"
#include "millrace/kafka/api.h"
#include "millrace/kafka/errors.h"
#include "millrace/kafka/msg.h"
#include "sim_client.h"
#include "sim_member.h"

#define GROUP MR_SIM_CONSUMERS_GROUP

static struct mr_sim_consumer *consumer_of(struct mr_sim_actor *actor)
{
    return (struct mr_sim_consumer *)(void *)actor;
}

static uint64_t draw(struct mr_sim_consumer *c, uint64_t bound)
{
    return mr_prng_below(&c->actor.prng, bound);
}

/* Whether another member has the partition, as far as it may believe so now. */
static bool is_anothers(const struct mr_sim_consumer *c, uint32_t partition, struct mr_now now)
{
    for (uint32_t index = 0; index < MR_SIM_CONSUMERS; index++) {
        const struct mr_sim_consumer *other = &c->all->members[index];
        if (other != c && (other->owned >> partition & 1u) != 0 && now.mono_ns < other->session_ns) {
            return true;
        }
    }
    return false;
}

void mr_sim_consumer_is_out(struct mr_sim_consumer *c)
{
    c->epoch = 0;
    c->owned = 0;
    c->giving_ns = 0;
    c->given = 0;
    c->id[0] = '\0';
    c->must_sync = false;
    c->is_heard = false;
    c->is_classic = draw(c, 2) == 0;
}

/* ---- Sending ---- */

static struct mr_str id_of(const struct mr_sim_consumer *c, char text[32])
{
    if (c->is_classic) {
        return mr_str(c->id);
    }
    mr_fmt(text, 32, "c%u-%u", c->number, c->joins);
    return mr_str(text);
}

/* Everything is said each time, so everything is told: a lost answer costs nothing. */
static void send_heartbeat(struct mr_sim_consumer *c, int32_t epoch, struct mr_now now)
{
    struct mr_consumer_group_heartbeat_request                  request;
    struct mr_consumer_group_heartbeat_request_topic_partitions has;
    int32_t       partitions[MR_CHECK_GROUP_PARTITIONS];
    struct mr_str name = mr_sim_topics[0];
    char          text[32];
    MR_DEFAULTS(consumer_group_heartbeat_request, &request);
    MR_DEFAULTS(consumer_group_heartbeat_request_topic_partitions, &has);
    for (uint32_t partition = 0; partition < MR_CHECK_GROUP_PARTITIONS; partition++) {
        if ((c->owned >> partition & 1u) != 0) {
            partitions[has.partitions_count++] = (int32_t)partition;
        }
    }
    has.topic_id = c->topic_id;
    has.partitions = partitions;
    request.group_id = GROUP;
    request.member_id = id_of(c, text);
    request.member_epoch = epoch;
    request.rebalance_timeout_ms = MR_SIM_SESSION_MS;
    request.subscribed_topic_names = &name;
    request.subscribed_topic_names_count = 1;
    request.topic_partitions = &has;
    request.topic_partitions_count = has.partitions_count > 0 && epoch != 0 ? 1 : 0;
    mr_sim_actor_send(&c->actor, MR_API_CONSUMER_GROUP_HEARTBEAT, 1, &request, (uint64_t)(int64_t)epoch, true, now);
}

static void send_commit(struct mr_sim_consumer *c, uint32_t partition, struct mr_now now)
{
    struct mr_offset_commit_request           request;
    struct mr_offset_commit_request_topic     topic;
    struct mr_offset_commit_request_partition entry;
    char                                      text[32];
    /* One whose partition another one has is a zombie: to the checker, of an old generation. */
    uint32_t commit = mr_check_group_commit(&c->all->check, is_anothers(c, partition, now) ? 0 : 1, partition);
    if (commit == UINT32_MAX) {
        return;
    }
    MR_DEFAULTS(offset_commit_request, &request);
    MR_DEFAULTS(offset_commit_request_topic, &topic);
    MR_DEFAULTS(offset_commit_request_partition, &entry);
    entry.partition_index = (int32_t)partition;
    entry.committed_offset = commit;
    topic.name = mr_sim_topics[0];
    topic.partitions = &entry;
    topic.partitions_count = 1;
    request.group_id = GROUP;
    request.generation_id_or_member_epoch = c->epoch;
    request.member_id = id_of(c, text);
    request.topics = &topic;
    request.topics_count = 1;
    mr_sim_actor_send(&c->actor, MR_API_OFFSET_COMMIT, 9, &request, commit, true, now);
}

static void send_read(struct mr_sim_consumer *c, struct mr_now now)
{
    c->read_at = mr_check_group_read(&c->all->check);
    mr_sim_member_read(&c->actor, GROUP, now);
}

static void go_on(struct mr_sim_consumer *c, struct mr_now now)
{
    uint64_t way = draw(c, 64);
    uint32_t partition = (uint32_t)draw(c, MR_CHECK_GROUP_PARTITIONS);
    if (way == 0) {
        mr_sim_actor_rest(&c->actor, now, 2000 * MR_NS_PER_MS); /* silent, maybe for too long */
        return;
    }
    if (way == 1 && c->epoch != 0) {
        c->is_classic ? mr_sim_classic_leave(c, now) : send_heartbeat(c, -1, now);
        mr_sim_consumer_is_out(c);
        c->joins++;
        return;
    }
    if (way < 20 && (c->owned >> partition & 1u) != 0) {
        send_commit(c, partition, now);
    } else if (way < 24) {
        send_read(c, now);
    } else if (c->is_classic) {
        mr_sim_classic_heartbeat(c, now);
    } else {
        send_heartbeat(c, c->epoch, now);
    }
    mr_sim_actor_rest(&c->actor, now, 60 * MR_NS_PER_MS);
}

static void turn(struct mr_sim_actor *actor, struct mr_now now)
{
    struct mr_sim_consumer *c = consumer_of(actor);
    if (actor->call_count > 0 || c->is_done) {
        return;
    }
    if (!c->is_coordinator_known) {
        mr_sim_ask_coordinator(actor, GROUP, 0, now);
    } else if (actor->is_quiet) {
        send_read(c, now);
    } else if (!c->is_classic || !mr_sim_classic_join(c, now)) {
        go_on(c, now);
    }
}

/* ---- Answers ---- */

void mr_sim_consumer_wait(struct mr_sim_consumer *c, int16_t error, const char *what, struct mr_now now)
{
    if (!mr_errors_is_retriable(error)) {
        mr_sim_actor_refuse(&c->actor, what, error);
    }
    mr_sim_actor_rest(&c->actor, now, 20 * MR_NS_PER_MS);
}

/* The partitions of an answer, as bits. */
static uint32_t assigned(struct mr_sim_consumer *c, const struct mr_consumer_group_heartbeat_response_assignment *assignment)
{
    uint32_t given = 0;
    for (int32_t at = 0; at < assignment->topic_partitions_count; at++) {
        const struct mr_consumer_group_heartbeat_response_topic_partitions *topic = &assignment->topic_partitions[at];
        c->topic_id = topic->topic_id;
        for (int32_t index = 0; index < topic->partitions_count; index++) {
            uint32_t partition = (uint32_t)topic->partitions[index];
            given |= partition < MR_CHECK_GROUP_PARTITIONS ? 1u << partition : 0; /* the admin adds partitions */
        }
    }
    return given;
}

void mr_sim_consumer_take(struct mr_sim_consumer *c, uint32_t given, struct mr_now now)
{
    for (uint32_t partition = 0; partition < MR_CHECK_GROUP_PARTITIONS; partition++) {
        c->all->assigned += (given & ~c->owned) >> partition & 1u;
        if ((given >> partition & 1u) != 0 && is_anothers(c, partition, now)) {
            mr_sim_actor_refuse(&c->actor, "two members have a partition", partition);
        }
    }
    c->owned = given;
}

/* What it has and is to give back, as long as it is not ready for that: it goes on with what it has of it, and says so. */
static uint32_t giving_back(struct mr_sim_consumer *c, uint32_t given, struct mr_now now)
{
    uint32_t held = c->owned & ~given;
    if (held == 0) {
        c->giving_ns = 0;
    } else if (c->giving_ns == 0) {
        c->giving_ns = now.mono_ns + draw(c, 150) * MR_NS_PER_MS;
    }
    return now.mono_ns < c->giving_ns ? held : 0;
}

static void take_heartbeat(struct mr_sim_consumer *c, const struct mr_sim_call *call,
                           const struct mr_consumer_group_heartbeat_response *response, struct mr_now now)
{
    int16_t error = response->error_code;
    if ((int64_t)call->user < 0) {
        return; /* whatever it says, we are out */
    }
    if (error == MR_KAFKA_GROUP_ID_NOT_FOUND && (int64_t)call->user == 0) {
        mr_sim_actor_refuse(&c->actor, "a group did not change its protocol for a member that joins", error);
    }
    if (error == MR_KAFKA_UNKNOWN_MEMBER_ID || error == MR_KAFKA_FENCED_MEMBER_EPOCH ||
        error == MR_KAFKA_GROUP_ID_NOT_FOUND) {
        if (c->is_heard && (int64_t)call->user > 0 && now.mono_ns < c->session_ns) {
            mr_sim_actor_refuse(&c->actor, "a member is out within its session", error);
        }
        mr_sim_consumer_is_out(c);
        c->joins += draw(c, 2) == 0 ? 1u : 0u;
        return;
    }
    if (error != 0) {
        mr_sim_consumer_wait(c, error, "ConsumerGroupHeartbeat failed for good", now);
        return;
    }
    if (response->assignment == NULL) {
        mr_sim_actor_refuse(&c->actor, "who says everything is not told everything", c->epoch);
        return;
    }
    uint32_t given = assigned(c, response->assignment);
    bool     is_agreed = (c->owned & ~given) == 0; /* it is not asked to give anything back */
    if (now.mono_ns >= c->session_ns) {
        c->owned = 0; /* it had to stop by itself */
    }
    c->is_heard = c->is_heard || (int64_t)call->user == 0;
    c->epoch = response->member_epoch;
    /*
     * A member that is to give something back is put out when the coordinator has not heard within the rebalance
     * timeout that it did, however often it is heard of. That time began behind the last answer that asked for nothing:
     * nobody else may have its partitions until the member's own count from there is over.
     */
    if (is_agreed) {
        c->session_ns = call->sent_ns + MR_SIM_SESSION_MS * MR_NS_PER_MS;
    }
    if (now.mono_ns >= c->session_ns) {
        c->owned = 0; /* an answer that comes too late gives nothing */
        return;
    }
    uint32_t held = giving_back(c, given, now);
    mr_sim_consumer_take(c, given, now);
    c->owned |= held;
}

static void take_commit(struct mr_sim_consumer *c, const struct mr_sim_call *call,
                        const struct mr_offset_commit_response *response, struct mr_now now)
{
    if (response->topics_count != 1 || response->topics[0].partitions_count != 1) {
        mr_sim_actor_refuse(&c->actor, "OffsetCommit answered for something else", response->topics_count);
        return;
    }
    int16_t error = response->topics[0].partitions[0].error_code;
    if (error == 0) {
        mr_check_group_acked(&c->all->check, (uint32_t)call->user);
    } else if (error == MR_KAFKA_STALE_MEMBER_EPOCH || error == MR_KAFKA_UNKNOWN_MEMBER_ID ||
               error == MR_KAFKA_GROUP_ID_NOT_FOUND || error == MR_KAFKA_ILLEGAL_GENERATION ||
               error == MR_KAFKA_REBALANCE_IN_PROGRESS) {
        mr_check_group_refused(&c->all->check, (uint32_t)call->user);
    } else {
        mr_sim_consumer_wait(c, error, "OffsetCommit failed for good", now);
    }
}

static void take_read(struct mr_sim_consumer *c, const struct mr_offset_fetch_response *response, struct mr_now now)
{
    if (response->groups_count != 1 || response->groups[0].error_code != 0) {
        mr_sim_consumer_wait(c, response->groups_count == 1 ? response->groups[0].error_code : -1,
                       "OffsetFetch failed for good", now);
        return;
    }
    const struct mr_offset_fetch_response_group *group = &response->groups[0];
    for (int32_t index = 0; group->topics_count == 1 && index < group->topics[0].partitions_count; index++) {
        const struct mr_offset_fetch_response_partitions *partition = &group->topics[0].partitions[index];
        if (partition->error_code != 0) {
            mr_sim_consumer_wait(c, partition->error_code, "OffsetFetch of a partition failed for good", now);
            return;
        }
        mr_check_group_seen(&c->all->check, c->read_at, (uint32_t)partition->partition_index,
                            partition->committed_offset);
    }
    c->is_done = c->actor.is_quiet;
}

static void answer(struct mr_sim_actor *actor, const struct mr_sim_call *call, const void *response,
                   struct mr_arena *arena, struct mr_now now)
{
    struct mr_sim_consumer *c = consumer_of(actor);
    (void)arena;
    switch (call->key) {
    case MR_API_FIND_COORDINATOR: {
        int16_t error = ((const struct mr_find_coordinator_response *)response)->error_code;
        c->is_coordinator_known = error == 0;
        if (error != 0) {
            mr_sim_consumer_wait(c, error, "FindCoordinator failed for good", now);
        }
        break;
    }
    case MR_API_CONSUMER_GROUP_HEARTBEAT:
        take_heartbeat(c, call, response, now);
        break;
    case MR_API_OFFSET_COMMIT:
        take_commit(c, call, response, now);
        break;
    case MR_API_OFFSET_FETCH:
        take_read(c, response, now);
        break;
    default:
        mr_sim_classic_answer(c, call, response, now);
        break;
    }
    if (!mr_check_group_is_ok(&c->all->check)) {
        mr_sim_actor_refuse(actor, c->all->check.why, 0);
    }
}

/* Whether it came to the broker nobody knows: its epoch there may be a later one. */
static void lost(struct mr_sim_actor *actor, const struct mr_sim_call *call)
{
    if (call->key == MR_API_CONSUMER_GROUP_HEARTBEAT) {
        consumer_of(actor)->is_heard = false;
    }
}

static bool is_idle(const struct mr_sim_actor *actor)
{
    return ((const struct mr_sim_consumer *)(const void *)actor)->is_done;
}

void mr_sim_consumers_init(struct mr_sim_consumers *all, struct mr_arena *arena, uint64_t seed)
{
    static const struct mr_sim_actor_ops ops = {
        .name = "consumer", .turn = turn, .answer = answer, .lost = lost, .is_idle = is_idle};
    mr_check_group_init(&all->check, arena);
    all->check.newest = 1;
    for (uint32_t index = 0; index < MR_SIM_CONSUMERS; index++) {
        struct mr_sim_consumer *c = &all->members[index];
        *c = (struct mr_sim_consumer){.all = all, .number = index};
        mr_sim_actor_init(&c->actor, &ops, arena, seed + index);
        mr_sim_consumer_is_out(c);
    }
}
